"""``python -m tools.bench [MODEL.tflite ...]``: what a bundle costs beside the bare engine, with the goals for it.

Without a model it makes some: a tiny one, and float models of 4, 14 and 100 MB. Bundle and bare engine take turns, so
that a machine that slows down slows both; medians of the paired ratios are printed. The exit code is 0 whatever comes
out: a machine with other work to do cannot tell. Run it on an idle one with two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.bench.figures import Figure
from tools.bench.floor import floor_figures
from tools.bench.inside import pool_figures, run_figures
from tools.bench.models import SIZES, chain
from tools.bench.processes import process_figures
from tools.bench.subjects import Subject, subject

_ROOT = Path(__file__).resolve().parents[2]
_TINY = _ROOT / "tests" / "data" / "engines" / "two_by_two.tflite"
_TINY_BYTES = 100_000


def main() -> int:
    """Print every figure as it comes."""
    parser = argparse.ArgumentParser(prog="tools.bench", description="Time a bundle against the bare engine.")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.tflite", help="in place of those made here")
    parser.add_argument("--rounds", type=int, default=15, help="of each pair of processes, and of timed runs (15)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for made in _subjects(arguments.models, Path(folder)):
            for figure in _figures(made, arguments.rounds):
                print(figure, flush=True)
    for figure in floor_figures(arguments.rounds):
        print(figure, flush=True)
    return 0


def _subjects(models: list[Path], folder: Path) -> Iterator[Subject]:
    """Give each model as a subject, one at a time: a hundred megabytes need not lie there thrice."""
    for number, path in enumerate(models or [_TINY]):
        yield subject(path.stem, path.read_bytes(), folder / f"given-{number}")
    for name, (layers, width) in SIZES.items() if not models else ():
        yield subject(name, chain(layers, width), folder / name.replace(" ", ""))


def _figures(made: Subject, rounds: int) -> Iterator[Figure]:
    yield from run_figures(made, rounds, tiny=made.size < _TINY_BYTES)
    if made.size >= _TINY_BYTES:
        yield from pool_figures(made, rounds)
    yield from process_figures(made, rounds)


if __name__ == "__main__":
    sys.exit(main())
