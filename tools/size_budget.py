"""What the runtime costs a device before it does anything: ``python -m tools.size_budget``.

It builds the wheel, and holds its size and what its import takes against their limits. The import is that of the
wheel's own modules, compiled, in processes of their own, beside one that imports numpy and the engine alone; the two
take turns. Processor time is counted, which other work on the machine changes less than seconds. Exit code 1 if a
limit is passed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgepack_runtime.engines import installed

__all__ = ["Imports", "build_wheel", "main"]

ROOT = Path(__file__).resolve().parent.parent
MAX_WHEEL = 120_000
MAX_IMPORT_MS = 60.0


class Imports:
    """Times imports of the modules in a folder, and keeps what they are compiled to in another one."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(cache)}
        # Whoever runs this may have told Python not to; a device has them compiled.
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def added_ms(self, before: str, more: str, rounds: int) -> float:
        """Return the milliseconds of processor time that importing `more` takes after importing `before`."""
        differences = []
        for i in range(rounds + 1):
            alone, both = self._spent(f"import {before}"), self._spent(f"import {before}, {more}")
            if i:  # The first round compiles.
                differences.append((both - alone) * 1e3)
        return statistics.median(differences)

    def _spent(self, code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=self._environment, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def build_wheel(folder: Path) -> Path:
    """Return the runtime's wheel, built in a folder without a network."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "-w", str(folder), str(ROOT / "runtime")],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("edgepack_runtime-*.whl")
    return wheel


def main(words: list[str] | None = None) -> int:
    """Print what the runtime takes, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="size_budget", description="The size and the import of the runtime's wheel."
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often the imports take turns; default: 15")
    rounds = parser.parse_args(words).rounds
    engine = f"{installed()[0][0].replace('-', '_')}.interpreter"
    with tempfile.TemporaryDirectory() as folder:
        wheel, modules = build_wheel(Path(folder)), Path(folder, "modules")
        size = wheel.stat().st_size
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(modules)
        imports = Imports(modules, Path(folder, "cache"))
        package = imports.added_ms(f"numpy, {engine}", "edgepack_runtime", rounds)
        opening = imports.added_ms(f"numpy, {engine}", "edgepack_runtime.session", rounds)
    print(f"{wheel.name}: {size:,} bytes, at most {MAX_WHEEL:,}")
    for what, took in (("import edgepack_runtime", package), ("and all that open_bundle imports", opening)):
        print(f"{what}: {took:.1f} ms more than numpy and {engine}, at most {MAX_IMPORT_MS:.0f} ms")
    return 0 if size <= MAX_WHEEL and max(package, opening) <= MAX_IMPORT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
