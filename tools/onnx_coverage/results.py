"""What became of each case on each road: the rows of ``results.csv``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONSTANT", "DISPUTED", "EQUAL", "NEAR", "REFUSED", "WRONG", "Row", "grouped", "read_rows", "write_rows"]

EQUAL, CONSTANT, REFUSED, WRONG = "equal", "equal with constants", "refused", "wrong"
NEAR, DISPUTED = "near", "disputed"
_COLUMNS = ("suite", "case", "operator", "road", "verdict", "reason")
_SHORT = 90
# What is said, by how much it says when several attempts said different things; {} is what the pattern found.
_GROUPS = (
    (r"is of type (\w+); known are", "type {}"),
    (r"is a \w+, no tensor|is no tensor of a known type|No corresponding Numpy type", "type unknown to edgepack"),
    (r"the model has no input", "no input"),
    (r"otherwise than ONNX's own tests", "onnxruntime is no judge of it"),
    (r"onnxruntime cannot run the model", "onnxruntime cannot run it"),
    (r"changes its shape from sample to sample|a device needs every dimension fixed", "open shape"),
    (r"^calibration data", "the test's data do not fit its model"),
    (r"cannot convert operator '(\w+)'", "operator {}"),
    (r"needs the (?:\S+ )*?operator '(\w+)'", "operator {}"),
    (r"differs from onnxruntime", "differs from onnxruntime"),
    (r"constant", "needs a constant"),
    (r"ai-edge-litert (?:crashes|cannot run)", "the engine cannot run the result"),
    (r"became|came out", "another type or shape came out"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case on one road; `reason` says why it was refused or what is wrong."""

    suite: str
    case: str
    operator: str
    road: str
    verdict: str
    reason: str = ""


def grouped(message: str) -> str:
    """Return the kind of a refusal, in a few words."""
    for pattern, group in _GROUPS:
        if found := re.search(pattern, message):
            return group.format(*found.groups())
    return "something else: " + message[:_SHORT]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that `write_rows` wrote."""
    with path.open(newline="") as file:
        return [Row(**line) for line in csv.DictReader(file)]


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write the rows in order of case and road."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in sorted(rows, key=lambda r: (r.suite, r.case, r.road)):
        writer.writerow([getattr(row, column) for column in _COLUMNS])
    path.write_text(text.getvalue())
