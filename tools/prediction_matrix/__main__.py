"""Predict every model on every engine without running it, run it, and write both down.

    python -m tools.prediction_matrix [--models] [--only ENGINE==VERSION] [--quick] [--table] [--emulate]

``--models`` makes the models again first (TensorFlow's toolchain, half a minute). Without ``--only`` the rows of
all engines are written to ``matrix.csv`` and docs/prediction-matrix.md, and what XNNPACK takes to ``xnnpack.csv``
among edgepack's data; with it, the rows of one engine are printed. ``--quick`` leaves the build's verdict out, and
prints as well. ``--table`` only writes the document's table anew. ``--emulate`` runs the models on emulated boards
instead, 64-bit and 32-bit ARM, and writes ``emulated.csv``, in a minute or two. Each engine's environment is made
where it is missing, 150 MB each. It takes about half an hour.
"""

from __future__ import annotations

import argparse
import sys

from edgepack.engine_ops import parse_engine
from tools.prediction_matrix.matrix import DELEGATES, EMULATED, ENGINES, MATRIX, emulate, judge, read_rows, write_rows
from tools.prediction_matrix.models import make_models, read_archive, write_archive
from tools.prediction_matrix.table import write_table


def main() -> int:
    """Make the matrix."""
    parser = argparse.ArgumentParser(prog="python -m tools.prediction_matrix")
    parser.add_argument("--models", action="store_true", help="make the models again")
    parser.add_argument("--only", metavar="ENGINE==VERSION", help="one engine, printed and not written")
    parser.add_argument("--quick", action="store_true", help="without the build's verdict")
    parser.add_argument("--table", action="store_true", help="only write the document's table anew")
    parser.add_argument("--emulate", action="store_true", help="on the emulated boards instead")
    arguments = parser.parse_args()
    if arguments.table:
        write_table(read_rows())
        return 0
    if arguments.models:
        write_archive(make_models())
    models = read_archive()
    if arguments.emulate:
        with EMULATED.open("w", encoding="utf-8", newline="") as file:
            write_rows(emulate(models), file)
        return 0
    engines = [parse_engine(arguments.only)] if arguments.only else ENGINES
    rows, delegates = [], []
    for name, version in engines:
        print(f"{name} {version}", file=sys.stderr, flush=True)
        found, taken = judge(models, name, version, build=not arguments.quick)
        rows += found
        delegates += taken
    if arguments.only or arguments.quick:
        write_rows(rows, sys.stdout)
    else:
        with MATRIX.open("w", encoding="utf-8", newline="") as file:
            write_rows(rows, file)
        with DELEGATES.open("w", encoding="utf-8", newline="") as file:
            write_rows(delegates, file)
        write_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
