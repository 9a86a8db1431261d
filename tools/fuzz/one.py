"""One campaign, in a process of its own: ``python -m tools.fuzz.one TARGET CORPUS [libFuzzer options]``."""

from __future__ import annotations

import sys

# Instrumented code runs several times slower; the second is meant for code as a device runs it.
SLOWER = 8.0


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    import atheris  # type: ignore[import-untyped]

    name = sys.argv[1]
    with atheris.instrument_imports(include=["edgepack", "edgepack_runtime"]):
        from tools.fuzz.limits import run_within_limits
        from tools.fuzz.targets import TARGETS
    target = TARGETS[name]

    def one(data: bytes) -> None:
        run_within_limits(lambda given: (target.check(given), None)[1], data, slower=SLOWER)

    for seed in target.seeds():
        target.check(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
