"""`make demo`: build a real model for two boards, then prove on a "device" that holds only the runtime.

Run by the host environment's Python. Everything it makes lies in the folder given as the first argument.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data" / "mnist"
CALIBRATION_SAMPLES = 200
# Two boards that need different engines: 32-bit Raspberry Pi OS has no ai-edge-litert.
PROFILES = ("raspberry-pi-3", "raspberry-pi-4")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def run(command: list[str]) -> None:
    """Show and run a command; stop the demo where it fails."""
    # Shown with short paths, as a user would type them at the root of the checkout.
    print("$ " + " ".join(part.replace(f"{Path.cwd()}/", "./") for part in command), flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def prepare(folder: Path) -> None:
    """Write calibration.npz and evaluation.npz as the model takes them."""
    with np.load(DATA / "digits.npz") as archive:
        x = (archive["x"][:, None] / 255).astype(np.float32)
        y = archive["y"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    some, rest = order[:CALIBRATION_SAMPLES], order[CALIBRATION_SAMPLES:]
    np.savez(folder / "calibration.npz", Input3=x[some])
    np.savez(folder / "evaluation.npz", Input3=x[rest], y=y[rest])
    print(f"{CALIBRATION_SAMPLES} digits to calibrate with, {len(rest)} to judge by")


def make_device(folder: Path, wheel: Path, lock: Path) -> Path:
    """Return the Python of a new environment that holds the runtime wheel, its locked needs, and nothing else."""
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run([*pip, "--require-hashes", "-r", str(lock)])
    run([*pip, str(wheel)])
    return python


def main() -> int:
    """Run the demo; exit code 1 when the device disagrees with the build."""
    start = time.monotonic()
    folder = Path(sys.argv[1]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    edgepack = str(Path(sys.executable).with_name("edgepack"))
    # Relative, so that what edgepack prints is short as well.
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    os.environ["EDGEPACK_HOME"] = str(folder / "identity")
    os.environ.setdefault("COLUMNS", "118")

    say("1. A trained model and real data")
    prepare(folder)

    say("2. Build: convert, quantize, run under each board's exact engine, gate, encrypt, sign")
    profiles = [argument for name in PROFILES for argument in ("--profile", name)]
    run(
        [edgepack, "build", str(DATA / "model.onnx"), "--name", "digits", *profiles,
         "--calibration", str(folder / "calibration.npz"), "--evaluation", str(folder / "evaluation.npz"),
         "--max-drop", "0.01", "-o", str(folder / "dist")]
    )  # fmt: skip
    bundles = {name: folder / "dist" / f"digits-1-{name}.edgepack" for name in PROFILES}

    say("3. What a bundle says of itself, without a key")
    run([edgepack, "inspect", str(bundles["raspberry-pi-3"])])

    say("4. Two devices: environments with the runtime wheel and one engine, nothing else")
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
         "-w", str(folder / "wheel"), str(ROOT / "runtime")])  # fmt: skip
    (wheel,) = (folder / "wheel").glob("edgepack_runtime-*.whl")
    agrees = []
    for name, bundle in bundles.items():
        shown = subprocess.run(
            [edgepack, "inspect", "--json", str(bundle)], capture_output=True, text=True, check=True
        )
        manifest = json.loads(shown.stdout)["manifest"]
        engine = manifest["profile"]["engine"]
        lock = ROOT / "sdk" / "edgepack" / "toolchains" / f"engine-{engine['name']}-{engine['version']}.txt"
        python = make_device(folder / f"device-{name}", wheel, lock)
        device = folder / f"device-{name}.json"
        device.write_text(
            json.dumps(
                {
                    "profile": name,
                    "trust": "identity/development/trust.json",
                    "key": "identity/development/device.key.pem",
                }
            )
        )
        result = folder / f"result-{name}.json"
        run(
            [str(python), "-I", str(ROOT / "tools" / "demo_device.py"), str(bundle), str(device),
             str(folder / "evaluation.npz"), str(result)]
        )  # fmt: skip
        (evidence,) = [e for e in manifest["evidence"] if e["check"].startswith("accuracy drop")]
        at_build = evidence["found"].split(",")[0].removeprefix("accuracy ")
        on_device = f"{json.loads(result.read_text())['accuracy']:.4f}"
        agrees.append(at_build == on_device)
        print(f"accuracy at build {at_build}, on the device {on_device}: {'equal' if agrees[-1] else 'NOT EQUAL'}")

    say(f"Done in {time.monotonic() - start:.0f} s")
    if not all(agrees):
        print("the device does not compute what was measured at build")
        return 1
    print(
        f"bundles: {folder / 'dist'}\n"
        "next: `edgepack init` in a folder of your own, then `edgepack build`; README.md, docs/recipe.md,\n"
        "docs/profiles.md for your board, docs/bundle-format.md for what is in the file"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
