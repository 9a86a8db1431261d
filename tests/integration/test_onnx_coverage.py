"""The coverage of the ONNX roads: a sample of ONNX's own tests comes out as results.csv says, and none is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools.onnx_coverage.__main__ import DOCUMENT, RESULTS, TOOLCHAINS
from tools.onnx_coverage.campaign import run_campaign
from tools.onnx_coverage.results import WRONG, Row, read_rows
from tools.onnx_coverage.table import document

from edgepack.toolchain import ensure, locate

ROOT = Path(__file__).parents[2]
# Every so manieth row of a road; onnx-tf takes longer.
STEPS = {"onnx2tf": 150, "onnx-tf": 400}


def python_of(road: str) -> Path:
    return ensure(locate(TOOLCHAINS[road]), offline=False, say=print)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_rows(RESULTS)


def test_the_coverage_document_is_what_the_results_give(rows: list[Row]) -> None:
    assert DOCUMENT.read_text() == document(rows)


def test_no_result_is_wrong(rows: list[Row]) -> None:
    assert [row for row in rows if row.verdict == WRONG] == []


def test_every_case_went_through_every_road(rows: list[Row]) -> None:
    cases = {road: sorted((row.suite, row.case) for row in rows if row.road == road) for road in TOOLCHAINS}
    assert cases["onnx2tf"] == cases["onnx-tf"]
    assert len(set(cases["onnx2tf"])) == len(cases["onnx2tf"]) > 1700


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("road", TOOLCHAINS)
def test_a_sample_comes_out_as_the_results_say(rows: list[Row], road: str, tmp_path: Path) -> None:
    sample = [row for row in rows if row.road == road][:: STEPS[road]]
    folder = tmp_path / "cases"
    folder.mkdir()
    names = [f"{row.suite}.{row.case}" for row in sample]
    subprocess.run(
        [python_of("onnx2tf"), "-m", "tools.onnx_coverage.cases", folder, *names], cwd=ROOT, check=True, timeout=300
    )
    found = run_campaign(sorted(folder.iterdir()), road, python_of(road), jobs=2)
    order = sorted((outcome.row for outcome in found), key=lambda row: (row.suite, row.case))
    assert order == sample
