"""The RAM budget, on models whose need is known: a tenth too much is refused, a tenth to spare runs within it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade import dense, sums

from edgepack.candidate import memory_evidence
from edgepack.errors import WorkerError
from edgepack.lab import LabRequest, LabResult, replay, run_in_lab
from edgepack.profiles import load_profile
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import EngineError
from edgepack_runtime.manifest import Evidence

HERE = Workplace(python=Path(sys.executable))
MB = 1 << 20
SIDE = 1024
# Four matrices of 4 MiB: the file, and what XNNPACK packs of it once more.
WEIGHTS = 4 * SIDE * SIDE * 4
# Eight sums of a vector of 4 MiB are alive at once, beside the vector, a sum of sums, and the caller's two copies.
VECTOR, ALIVE = 1 << 20, 10
MODELS = {
    "weights": (dense(SIDE, 4), SIDE, 2 * WEIGHTS),
    "activations": (sums(VECTOR, 8), VECTOR, ALIVE * VECTOR * 4),
}


def request(model: str, budget: int = 0, threads: int = 1) -> LabRequest:
    data, size, _ = MODELS[model]
    feeds = {"x": np.ones((1, 1, size), np.float32)}
    return LabRequest(model=data, engine="ai-edge-litert", num_threads=threads, feeds=feeds, ram_budget=budget)


def verdict(result: LabResult, budget: int) -> Evidence:
    profile = load_profile("generic-x86-64-linux")
    return memory_evidence(
        dataclasses.replace(profile, budget=dataclasses.replace(profile.budget, ram_bytes=budget)), result
    )


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def need(model: str) -> int:
    return run_in_lab(request(model), HERE).ram_bytes


def test_what_is_measured_is_what_the_model_was_made_to_need(model: str, need: int) -> None:
    made_to_need = MODELS[model][2]
    # Beside it: the interpreter, the caller's copies of input and output, and code that is run for the first time.
    assert made_to_need <= need <= made_to_need + 20 * MB


@pytest.mark.parametrize("threads", [1, 4])
def test_a_tenth_to_spare_runs_within_the_budget(model: str, need: int, threads: int) -> None:
    budget = need * 11 // 10
    result = run_in_lab(request(model, budget, threads), HERE)
    assert (result.within_budget, verdict(result, budget).holds) == (True, True)


def test_a_tenth_too_much_is_refused(model: str, need: int) -> None:
    budget = need * 10 // 11
    found = verdict(run_in_lab(request(model, budget), HERE), budget)
    assert (found.holds, "bytes at the peak" in found.found) == (False, True)


def test_the_limit_itself_stops_what_needs_far_more(model: str, need: int) -> None:
    with pytest.raises((EngineError, WorkerError)):
        run_task("edgepack.lab:replay", request(model, need * 7 // 10), LabResult, HERE)


def test_a_model_that_fits_by_its_figure_and_not_by_the_limit_is_refused() -> None:
    result = LabResult(
        outputs={}, engine_version="2.3.0", machine="x86_64", latency_ms=1.0, ram_bytes=1, within_budget=False
    )
    assert not verdict(result, 2).holds


def test_a_budget_that_the_file_alone_exceeds_says_so() -> None:
    with pytest.raises(EngineError, match="the model alone takes"):
        replay(request("weights", WEIGHTS))
