"""A coverage campaign's journal: it survives being stopped. And nothing unexplained is documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.onnx_coverage.journal import Journal, Outcome
from tools.onnx_coverage.results import DISPUTED, EQUAL, REFUSED, Row
from tools.onnx_coverage.table import document


def an_outcome(case: str, verdict: str = EQUAL) -> Outcome:
    return Outcome(row=Row(suite="node", case=case, operator="Add", road="onnx2tf", verdict=verdict), said="so")


def test_a_campaign_that_was_stopped_goes_on_with_what_its_journal_lacks(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for outcome in (an_outcome("first", REFUSED), an_outcome("second"), an_outcome("first")):
        journal.add(outcome, "onnx-1")
    journal.add(an_outcome("third"), "onnx-2")
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"toolchain": "onnx-1", "ro')
    known = Journal(tmp_path / "journal.jsonl").outcomes("onnx2tf", "onnx-1")
    assert known == {"node.first": an_outcome("first"), "node.second": an_outcome("second")}


def test_what_is_written_behind_a_line_that_was_cut_short_is_read(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"toolchain": "onnx-1", "ro')
    Journal(tmp_path / "journal.jsonl").add(an_outcome("first"), "onnx-1")
    known = Journal(tmp_path / "journal.jsonl").outcomes("onnx2tf", "onnx-1")
    assert known == {"node.first": an_outcome("first")}


def test_a_dispute_that_nobody_looked_into_is_not_documented() -> None:
    with pytest.raises(LookupError, match="who is right about Add"):
        document([an_outcome("first", DISPUTED).row])
