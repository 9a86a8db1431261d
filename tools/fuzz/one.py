"""One campaign, in a process of its own: ``python -m tools.fuzz.one TARGET CORPUS [libFuzzer options]``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python parsers that ours stand on: what they branch on is worth an input too.
FOREIGN = ["tomllib", "zipfile"]


def confirm(name: str, data: bytes) -> None:
    """Run an input that took long again as a device would, without instruments.

    Raises:
        OverLimit: it takes too long there too.
    """
    from tools.fuzz.limits import OverLimit

    with tempfile.NamedTemporaryFile(prefix="edgepack-slow-") as kept:
        kept.write(data)
        kept.flush()
        command = [sys.executable, "-m", "tools.fuzz.run", "--input", kept.name, name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise OverLimit(f"confirmed without instruments: {(done.stderr.splitlines() or ['no word'])[-1]}")


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    import atheris  # type: ignore[import-untyped]

    name = sys.argv[1]
    # What is imported already would not be instrumented.
    for module in FOREIGN:
        sys.modules.pop(module, None)
    with atheris.instrument_imports(include=["edgepack", "edgepack_runtime", "tools.fuzz.drill", *FOREIGN]):
        from tools.fuzz.drill import DRILLS
        from tools.fuzz.limits import OverTime, run_within_limits
        from tools.fuzz.targets import TARGETS
    target = {**TARGETS, **DRILLS}[name]

    def one(data: bytes) -> None:
        try:
            run_within_limits(lambda given: (target.check(given), None)[1], data)
        except OverTime:
            confirm(name, data)

    # What is made or imported with the first input is not an input's.
    for seed in target.seeds():
        target.check(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
