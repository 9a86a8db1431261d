"""Bench: ``python -m tools.optimize_bench FOLDER [NAME...] [--candidates N]``.

FOLDER holds the models and the data that `cases` names; nothing else of the project needs them. For each model: what
the fixed precisions, other tools' defaults and ``--optimize auto`` make of it, on the same evaluation samples, under
the same engine in the same run. Exit code 1: auto is outside the budget, or larger than a fixed precision
is inside it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from edgepack.builder import _prepare
from edgepack.cli.request import module_from
from edgepack.inputs import read_inputs
from edgepack.optimize import Optimize
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter
from edgepack_runtime.errors import EdgepackError
from edgepack_runtime.profile import SCHEMES
from tools.optimize_bench.cases import CASES, Case
from tools.optimize_bench.others import onnx2tf_models, stock_models, tensorflow_models
from tools.optimize_bench.rows import Row, auto_rows, fixed_rows, foreign_row, table


class _Loud(Reporter):
    def say(self, text: str) -> None:
        print(text, flush=True)


def _bench(case: Case, asked: argparse.Namespace) -> list[Row]:
    data = case.data(asked.folder)
    reporter = _Loud()
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as scratch:
        calibration, evaluation = Path(scratch) / "calibration.npz", Path(scratch) / "evaluation.npz"
        np.savez(calibration, x=data.calibration)
        labels = {} if data.labels is None else {"y": data.labels}
        np.savez(evaluation, x=data.evaluation, **labels)  # type: ignore[arg-type]
        recipe = Recipe(
            model=asked.folder / case.model,
            calibration=calibration,
            evaluation=evaluation,
            profiles=(asked.profile,),
            output=asked.output / Path(case.model).stem,
            gate=case.gate,
            module=module_from(str(asked.folder / case.module)) if case.module else None,
            optimize=Optimize(search="auto", candidates=asked.candidates, objective=asked.objective),
        )
        work = _prepare(recipe, read_inputs(recipe, reporter), False, reporter)
        rows = list(fixed_rows(work, reporter))
        foreign = [*stock_models(work)]
        if case.trained:
            foreign += tensorflow_models(asked.folder / case.trained, data.calibration)
        if case.onnx:
            foreign += onnx2tf_models(asked.folder / case.onnx, data.calibration)
        for name, made in foreign:
            rows.append(foreign_row(name, made, work) if isinstance(made, bytes) else Row(name=name, verdict=made))
        rows += auto_rows(work, reporter)
    return rows


def _judged(rows: list[Row]) -> list[str]:
    """Return what auto did that it must not do."""
    found = []
    held, *rest = [row for row in rows if row.name.startswith("auto")]
    if not held.inside:
        found.append(f"auto is not inside the budget on the held-out samples: {held.verdict}")
    fixed = [row for row in rows if row.inside and row.name in SCHEMES]
    if rest and fixed and rest[0].size > (least := min(fixed, key=lambda row: row.size)).size:
        found.append(f"auto has {rest[0].size:,} bytes, {least.name} {least.size:,}")
    return found


def _beaten(rows: list[Row]) -> str:
    """Return what of all others is inside the budget and smaller than what auto ships."""
    shipped = [row for row in rows if row.name.startswith("auto")][-1]
    smaller = [row for row in rows if row.inside and row.size < shipped.size]
    if not smaller:
        return "nothing that is inside the budget is smaller than auto"
    return "smaller than auto, and inside: " + ", ".join(f"{row.name} ({row.size:,})" for row in smaller)


def main() -> int:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(prog="python -m tools.optimize_bench", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the models and the data are")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--profile", default="generic-x86-64-linux")
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--objective", default="size")
    parser.add_argument("-o", "--output", type=Path, default=Path(".build/optimize_bench"), help="for the journals")
    asked = parser.parse_args()
    faults = 0
    for name in asked.names or CASES:
        case = CASES[name]
        try:
            rows = _bench(case, asked)
        except EdgepackError as error:
            faults += 1
            print(f"\nFAULT: {name}: {error.message}", flush=True)
            continue
        text = f"## {name}: {case.gate.metric or 'accuracy'}, at most {case.gate.max_drop:g}\n\n{table(rows)}\n"
        text += f"{_beaten(rows)}\n"
        print(f"\n{text}", flush=True)
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / f"{name}.md").write_text(text, "utf-8")
        for fault in _judged(rows):
            faults += 1
            print(f"FAULT: {fault}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
