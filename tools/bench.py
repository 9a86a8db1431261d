"""`make bench`: what a bundle costs beside the bare engine, as ratios measured in one run.

``python -m tools.bench [--rounds N] [MODEL.tflite]``. Without a model it makes its own: one of some bytes, one of 4
and one of 14 MiB, the size of a MobileNet, and one of 100 MiB. The other side is a script written by hand with the
same engine. The two take turns, so that what slows the machine slows both; figures are medians of the pairs. Each
line names its limit. What a start cannot be below is printed with it: the bare one, and the bundle's bytes through
SHA-256 and AES-256-GCM on two cores. Exit code 1 if one is passed: run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.keys import make_identity
from edgepack.localprofile import local_profile
from edgepack.pack import GOLDEN_ENTRY, MODEL_ENTRY, Contents, Release, pack
from edgepack.signers import SignerRequest, open_signer
from edgepack_runtime._crypto import AESGCM, sha256
from edgepack_runtime.device import Device
from edgepack_runtime.engines import load
from edgepack_runtime.golden import GoldenSample, pack_golden
from edgepack_runtime.keyfiles import load_recipient
from edgepack_runtime.manifest import Golden, Manifest, ModelDescription, Provenance
from edgepack_runtime.session import open_bundle
from tools.bench_models import float_model

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "data" / "engines" / "two_by_two.tflite"
MIB = 1 << 20
# Layers of a MiB, and the side of the image they see.
SIZES = ((4, 14), (14, 14), (100, 2))
_SMALL, _LARGE = 5 * MIB, 14 * MIB
_MEMORY = """
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([int(status[name].split()[0]) << 10 for name in ("VmHWM", "RssAnon")]), flush=True)
"""
BARE = (
    """
import json, sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
i = Interpreter(model_path=sys.argv[1], num_threads=1)
i.allocate_tensors()
for d in i.get_input_details():
    i.set_tensor(d["index"], np.zeros(d["shape"], d["dtype"]))
i.invoke()
[i.get_tensor(d["index"]) for d in i.get_output_details()]
"""
    + _MEMORY
)
BUNDLE = (
    """
import json, sys, numpy as np
from edgepack_runtime import Device, open_bundle
session = open_bundle(sys.argv[1], device=Device.from_file(sys.argv[2]))
session.run({t.name: np.zeros(t.shape, t.dtype) for t in session.inputs})
"""
    + _MEMORY
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A model as a file and as an encrypted bundle, and the device that opens that."""

    model: Path
    bundle: Path
    config: Path

    @property
    def size(self) -> int:
        """Bytes of the model."""
        return self.model.stat().st_size

    def device(self) -> Device:
        """Return the device."""
        return Device.from_file(self.config)


class Report:
    """Prints figures beside their limits, and remembers whether one is passed."""

    def __init__(self) -> None:
        self.passed = True

    def at_most(self, what: str, found: float, limit: float, unit: str = "") -> None:
        """Print a figure that should be no more than its limit."""
        self._say(what, f"{found:.2f}{unit}, at most {limit:.2f}{unit}", good=found <= limit)

    def at_least(self, what: str, found: float, limit: float) -> None:
        """Print a figure that should be no less than its limit."""
        self._say(what, f"{found:.2f}, at least {limit:.2f}", good=found >= limit)

    def _say(self, what: str, figures: str, *, good: bool) -> None:
        self.passed &= good
        print(f"  {what}: {figures}{'' if good else '  OVER'}", flush=True)


def main(words: list[str] | None = None) -> int:
    """Print every ratio, and return the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="A bundle beside the bare engine, as ratios.")
    parser.add_argument("model", nargs="?", type=Path, help="a float .tflite file instead of models made for it")
    parser.add_argument("--rounds", type=int, default=15, help="how often the two take turns; default: 15")
    args = parser.parse_args(words)
    report = Report()
    least = floor()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for model in [args.model] if args.model else models(base):
            place = make_place(model, base / "place")
            print(f"{model.name}, {place.size:,} bytes")
            runs(place, report, args.rounds)
            starts(place, report, args.rounds, least)
            if _SMALL < place.size <= 2 * _LARGE:
                pool(place, report, args.rounds)
    return 0 if report.passed else 1


def floor() -> float:
    """Print what a core of this processor does at best with a bundle's bytes; return its seconds for a byte.

    Each byte goes through SHA-256 and through AES-256-GCM, in chunks of 16 KiB as the format has them. These are the
    library's calls alone: nothing is read, written or copied.
    """
    data, count, chunk = os.urandom(MIB), 64, 16 << 10
    cipher, nonce, plain = AESGCM(bytes(32)), bytes(12), memoryview(bytearray(chunk))
    sealed = [cipher.encrypt(nonce, data[at : at + chunk], None) for at in range(0, MIB, chunk)]

    def open_all() -> None:
        for piece in sealed:
            cipher.decrypt_into(nonce, piece, None, plain)

    hashing = min(timed(lambda: sha256(data), count) for _ in range(5)) / count / MIB
    opening = min(timed(open_all, count) for _ in range(5)) / count / MIB
    least = hashing + opening
    print(
        f"one core: SHA-256 {1e-9 / hashing:.2f} GB/s, AES-256-GCM {1e-9 / opening:.2f} GB/s; "
        f"100 MiB: {100e3 * MIB * least:.0f} ms, on two cores {50e3 * MIB * least:.0f} ms"
    )
    return least


def models(folder: Path) -> list[Path]:
    """Make the models, and return where they are."""
    made = [TINY]
    for layers, side in SIZES:
        made.append(folder / f"float_{layers}_mib.tflite")
        made[-1].write_bytes(float_model(layers, side))
    return made


def make_place(model: Path, folder: Path) -> Place:
    """Return a model's place below `folder`, with keys of its own."""
    folder = folder / model.stem
    folder.mkdir(parents=True)
    identity = make_identity(folder / "keys")
    bundle, config = folder / "model.edgepack", folder / "device.json"
    bundle.write_bytes(make_bundle(model, identity.signing_key, identity.recipient))
    table = {"profile": "local", "trust": str(identity.trust), "key": str(identity.device_key), "num_threads": 1}
    config.write_text(json.dumps(table), "utf-8")
    return Place(model=model, bundle=bundle, config=config)


def make_bundle(model: Path, signing_key: Path, recipient: Path) -> bytes:
    """Return an encrypted bundle of `model` for this machine."""
    profile = local_profile()
    engine = load(profile.engine.name, str(model), num_threads=1)
    inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
    sample = GoldenSample(inputs=inputs, outputs=engine.run(inputs))
    manifest = Manifest(
        name="bench",
        version="1",
        licence="",
        profile=profile,
        model=ModelDescription(entry=MODEL_ENTRY, scheme="float32", inputs=engine.inputs, outputs=engine.outputs),
        golden=Golden(entry=GOLDEN_ENTRY, samples=1, tolerance=0.0),
        labels=(),
        provenance=Provenance(
            tool="bench",
            source_format="tflite",
            source_digest="",
            calibration_digest="",
            evaluation_digest="",
            steps=(),
            notes=(),
        ),
        evidence=(),
    )
    release = Release(
        signing_key=open_signer(SignerRequest(uri=str(signing_key))),
        recipients=(load_recipient(recipient),),
        security_version=1,
        created=int(time.time()),
    )
    golden = pack_golden([sample], engine.inputs, engine.outputs)
    return pack(Contents(model=model.read_bytes(), golden=golden), manifest, release)


def runs(place: Place, report: Report, rounds: int) -> None:
    """Report `Session.run` beside a loop of set_tensor, invoke and get_tensor."""
    from ai_edge_litert.interpreter import Interpreter

    bare = Interpreter(model_path=str(place.model), num_threads=1)
    bare.allocate_tensors()
    details = [(d["index"], np.zeros(d["shape"], d["dtype"])) for d in bare.get_input_details()]
    wanted = [d["index"] for d in bare.get_output_details()]

    def by_hand() -> None:
        for index, value in details:
            bare.set_tensor(index, value)
        bare.invoke()
        for index in wanted:
            bare.get_tensor(index)

    with open_bundle(place.bundle, device=place.device()) as session:
        feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}
        calls = min(500, max(1, int(0.05 / timed(by_hand, 1))))
        pairs = [(timed(lambda: session.run(feeds), calls), timed(by_hand, calls)) for _ in range(max(rounds, 3) * 3)]
    over = statistics.median(ours - theirs for ours, theirs in pairs) / calls * 1e6
    if place.size < MIB:
        report.at_most("Session.run over the bare engine", over, 5.0, " µs")
    else:
        report.at_most("Session.run / bare engine", statistics.median(a / b for a, b in pairs), 1.01)


def timed(call: Callable[[], object], count: int) -> float:
    """Return the seconds of some calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def starts(place: Place, report: Report, rounds: int, least: float) -> None:
    """Report process start to first output and memory, an encrypted bundle beside the bare file.

    `least` is what `floor` found. The floor of a model is the bare start and its bytes through both on two cores;
    importing the library that does it, and everything else, comes on top.
    """
    ratios, memory, bare = [], [], []
    with tempfile.TemporaryDirectory() as cache:
        # Both sides compiled, as they are on a device; whoever runs this may have told Python not to.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def start(code: str, *words: Path) -> tuple[float, list[int]]:
            command = [sys.executable, "-c", code, *map(str, words)]
            begin = time.perf_counter()
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            ) as child:
                assert child.stdout is not None
                line = child.stdout.readline()
                took = time.perf_counter() - begin
            return took, json.loads(line)

        for i in range(rounds + 1):
            ours, theirs = start(BUNDLE, place.bundle, place.config), start(BARE, place.model)
            if i:
                ratios.append(ours[0] / theirs[0])
                bare.append(theirs[0])
                memory.append([(a - b) / MIB for a, b in zip(ours[1], theirs[1], strict=True)])
    report.at_most(
        "start to first output, bundle / bare file",
        statistics.median(ratios),
        1.05 if place.size <= _SMALL else 1.15,
    )
    floor = 1 + place.size * least / 2 / statistics.median(bare)
    print(f"    floor, its bytes through both on two cores: {floor:.2f}")
    peak, anonymous = (statistics.median(column) for column in zip(*memory, strict=True))
    report.at_most("peak RSS over the bare engine's", peak, 12.0, " MiB")
    # The model's memory file is shared memory, and none of it can be given back.
    size = place.size / MIB
    report.at_most("unevictable memory over the bare engine's", anonymous + size, 1.02 * size, " MiB")


def pool(place: Place, report: Report, rounds: int) -> None:
    """Report what two interpreters on two cores do in the time of one, and how often the weights are there."""
    with open_bundle(place.bundle, device=place.device()) as session, session.pool(2) as both:
        feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}
        calls = max(2, int(0.3 / timed(lambda: session.run(feeds), 1)))

        def together() -> None:
            threads = [threading.Thread(target=timed, args=(lambda: both.run(feeds), calls)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        ratios = [2 * timed(lambda: session.run(feeds), calls) / timed(together, 1) for _ in range(rounds)]
        report.at_least("throughput of pool(2) / one interpreter", statistics.median(ratios), 1.8)
        report.at_most("decrypted copies of the weights", float(decrypted_copies()), 1.0)


def decrypted_copies() -> int:
    """Return how many memory files with models this process has."""
    mine = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return len({path.stat().st_ino for path in mine if "memfd:edgepack-model" in str(path.readlink())})


if __name__ == "__main__":
    sys.exit(main())
