"""The coverage document, written from the rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.onnx_coverage.results import CONSTANT, DISPUTED, EQUAL, NEAR, REFUSED, WRONG, Row

__all__ = ["document", "write_document"]

ROOT = Path(__file__).resolve().parents[2]
_ROADS = ("onnx2tf", "onnx-tf")
_EITHER, _ALL = "either road", "all"
# What was found out about each.
_DISPUTES = {
    "Resize": "onnxruntime may be wrong: with these scales as constants it is refused, here they are an input",
    "QLinearMatMul": "where a sum is beyond int8 the test's turns over, as -236 to 20; the standard says to saturate",
}
# What was used, and the lock file that pins it.
_VERSIONS = (
    ("onnx", "sdk/edgepack/toolchains/onnx.txt", "the tests"),
    ("onnxruntime", "sdk/edgepack/toolchains/onnx.txt", "the reference of both roads"),
    ("onnx2tf", "sdk/edgepack/toolchains/onnx.txt", "road `onnx2tf`"),
    ("onnx-tf", "sdk/edgepack/toolchains/onnx-tf.txt", "road `onnx-tf`"),
    ("tensorflow-cpu", "sdk/edgepack/toolchains/onnx-tf.txt", "road `onnx-tf`"),
    ("ai-edge-litert", "locks/host.txt", "the engine that is judged"),
)
_HEAD = """# What the ONNX roads convert

The package `onnx` ships the ONNX project's own backend tests: a model, its inputs and the outputs that are right.
Each goes through each road's converter as a build's model does. This document is written by the tool; make it anew
with `python -m tools.onnx_coverage`. Case by case: `tools/onnx_coverage/results.csv`.

- **equal**: the TFLite file gives the test's own outputs, within the test's own tolerance, in the host's engine, and
  its inputs and outputs have the names, dtypes and shapes of the model's.
- **with constants**: refused as it is, and equal when every input but the first is a constant. Many tests give
  weights, axes and shapes as inputs; exporters write them as constants.
- **near**: it gives them within what a build accepts, 0.0001 of the output's range, but single small values are
  beyond the test's tolerance.
- **disputed**: it gives what onnxruntime gives, and that is not what the test says. A build compares with
  onnxruntime. Where onnxruntime is the one that is wrong, the operator's form is refused
  (`sdk/edgepack/converters/_onnx_disputed.py`); why the others are not is said with them.
- **refused**: the converter says why, and hands nothing over.
- **wrong**: it handed over something else. There must be none: the tool ends with an error and writes no document.

Every test counts in the share converted: also those with types edgepack does not know (strings, sequences, float8,
int4 and others), those of training operators, and those onnxruntime cannot run. The last column leaves out those with
other types and those onnxruntime cannot run.
"""


def _version(name: str, lock: str) -> str:
    found = re.search(rf"^{re.escape(name)}==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{lock} does not pin {name}")
    return found[1]


def _lines(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> list[str]:
    marks = ["---" if i < left else "---:" for i in range(len(header))]
    return [f"| {' | '.join(map(str, cells))} |" for cells in (header, marks, *rows)] + [""]


def _best(rows: Sequence[Row]) -> list[Row]:
    """Return one row a case: that of the road that does best."""
    order = (EQUAL, CONSTANT, NEAR, DISPUTED, REFUSED, WRONG)
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.suite, row.case)
        if key not in found or order.index(row.verdict) < order.index(found[key].verdict):
            found[key] = row
    return list(found.values())


def _counts(rows: Sequence[Row]) -> list[int]:
    told = Counter(row.verdict for row in rows)
    return [told[verdict] for verdict in (EQUAL, CONSTANT, NEAR, DISPUTED, REFUSED, WRONG)]


def _shares(rows: Sequence[Row]) -> list[str]:
    table = []
    for suite in (*sorted({row.suite for row in rows}), _ALL):
        of_suite = [r for r in rows if suite in (r.suite, _ALL)]
        for road in (*_ROADS, _EITHER):
            chosen = _best(of_suite) if road == _EITHER else [r for r in of_suite if r.road == road]
            equal, constant, *others = _counts(chosen)
            inside = [row for row in chosen if not _is_outside(row)]
            cells = (f"{(equal + constant) / len(part):.0%}" if part else "" for part in (chosen, inside))
            table.append(
                (suite if suite == _ALL else f"`{suite}`", road, len(chosen), equal, constant, *others, *cells)
            )
    header = ("Tests", "Road", "Cases", "equal", "with constants", "near", "disputed", "refused", "wrong", "share")
    return _lines((*header, "of those inside"), table, left=2)


def _is_outside(row: Row) -> bool:
    """Return whether a test is about what no road is for: another type, or what onnxruntime itself cannot run."""
    return row.verdict == REFUSED and row.reason.startswith(("type ", "onnxruntime cannot run it"))


def _kind(row: Row) -> str:
    """Return the group of a refusal, without the operator's name."""
    if row.reason.startswith("operator "):
        return "an operator cannot be converted"
    if row.reason.startswith("something else"):
        return "something else"
    return row.reason


def _reasons(rows: Sequence[Row]) -> list[str]:
    told = {road: Counter(_kind(r) for r in rows if r.road == road and r.verdict == REFUSED) for road in _ROADS}
    kinds = sorted({kind for counter in told.values() for kind in counter}, key=lambda k: (-told[_ROADS[0]][k], k))
    return _lines(("Refused because", *_ROADS), [(kind, *(told[road][kind] for road in _ROADS)) for kind in kinds])


def _named(rows: Sequence[Row], verdict: str, why: Mapping[str, str]) -> list[str]:
    """Return a list of the rows of one verdict, with `why` by operator, or else a row's own reason.

    Raises:
        LookupError: a disputed one has no reason.
    """
    chosen = sorted((row for row in rows if row.verdict == verdict), key=lambda r: (r.suite, r.case, r.road))
    if verdict == DISPUTED and (unknown := {row.operator for row in chosen} - why.keys()):
        raise LookupError(f"nobody has found out who is right about {', '.join(sorted(unknown))}")
    lines = [f"- `{row.suite}` `{row.case}`, `{row.road}`: {why.get(row.operator, row.reason)}" for row in chosen]
    return [*(lines or ["None."]), ""]


def _of_an_operator(rows: Sequence[Row]) -> tuple[str, str]:
    """Return the cell that counts, and the one that says why most of the refused are."""
    equal, constant, near, disputed, refused, _ = _counts(rows)
    counted = [f"{equal} + {constant}" if constant else str(equal)]
    counted += [f"{count} {verdict}" for count, verdict in ((near, NEAR), (disputed, DISPUTED)) if count]
    if not refused:
        return ", ".join(counted), ""
    reason, _ = Counter(r.reason for r in rows if r.verdict == REFUSED).most_common(1)[0]
    return ", ".join(counted), f"{refused}: {reason}"


def _operators(rows: Sequence[Row]) -> list[str]:
    table = []
    nodes = [row for row in rows if row.suite == "node"]
    for operator in sorted({row.operator for row in nodes}, key=str.lower):
        mine = [row for row in nodes if row.operator == operator]
        cells = [_of_an_operator([r for r in mine if r.road == road]) for road in _ROADS]
        count = len({row.case for row in mine})
        table.append((f"`{operator}`", *(text for pair in cells for text in pair), count))
    header = ("Operator", "onnx2tf: equal", "refused", "onnx-tf: equal", "refused", "Cases")
    return _lines(header, table, left=5)


def document(rows: Sequence[Row]) -> str:
    """Return the whole document."""
    versions = [(f"{name} {_version(name, lock)}", what) for name, lock, what in _VERSIONS]
    parts = [
        *_HEAD.splitlines(), "",
        "## Shares", "", *_shares(rows),
        "## Why the others are refused", "", *_reasons(rows),
        "## Near", "", *_named(rows, NEAR, {}),
        "## Disputed", "", *_named(rows, DISPUTED, _DISPUTES),
        "## By operator", "",
        "The tests of single operators (`node`), their expanded forms included. `3 + 2` is three equal and two more",
        "with constants; beside it, how many are refused, and the commonest reason.", "", *_operators(rows),
        "## Made with", "", *_lines(("Package", "For"), versions, left=2),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def write_document(rows: Sequence[Row], path: Path) -> None:
    """Write it."""
    path.write_text(document(rows))
