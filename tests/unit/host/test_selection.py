"""The choice among many candidates that are all a little worse than allowed: how often one of them is shipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepack.candidate import Samples
from edgepack.drop import measure_drop
from edgepack.gate import Gate, Verdict
from edgepack.holdout import part
from edgepack.optimize import Optimize
from edgepack.trials import Loss, Trial, confidences, finalists
from edgepack_runtime.tensors import Array

pytestmark = pytest.mark.slow
CANDIDATES, SAMPLES, TIMES = 40, 400, 80
GATE = Gate(metric="accuracy", max_drop=0.05)
# Each loses this much in truth.
TRUE_DROP = 0.055


def scores(right: Array) -> dict[str, Array]:
    """Return an output of two classes that decides for class 1 where it is right, which class 1 always is."""
    return {"y": np.stack([~right, right], 1).astype(np.float32)}


def drops_on(right: Array, gate: Gate = GATE) -> tuple[Verdict, Loss]:
    count = len(right)
    truth = np.ones(count, np.int64)
    (drop,) = measure_drop(gate, scores(np.ones(count, bool)), scores(right), truth)
    loss = Loss(check="d", value=drop.drop.value, low=drop.drop.low, high=drop.drop.high, budget=drop.budget)
    return drop.verdict, loss


def shipped_with_a_holdout(candidates: Array, seed: int) -> bool:
    """Return whether any candidate is shipped as the search does it."""
    everything = Samples(
        feeds={"x": np.arange(SAMPLES)}, reference={"y": np.zeros((SAMPLES, 2))}, calibration=0, labels=None
    )
    choose, judge = (s.feeds["x"] for s in part(everything, Optimize(seed=seed), stream=False))
    trials = [
        Trial(title=str(i), scheme="s", options=str(i), digest="d", size=i + 1, losses=(drops_on(right[choose])[1],))
        for i, right in enumerate(candidates)
    ]
    called = finalists(trials, "size", (len(choose) / len(judge)) ** 0.5)
    for trial, level in zip(called, confidences(len(called), GATE.confidence), strict=False):
        verdict, _ = drops_on(candidates[int(trial.title)][judge], replace(GATE, confidence=level))
        if verdict is Verdict.HOLDS:
            return True
    return False


def test_a_candidate_outside_the_budget_is_shipped_one_time_in_twenty_at_most_however_many_there_are() -> None:
    rng = np.random.default_rng(1)
    held, without = 0, 0
    for seed in range(TIMES):
        candidates = rng.random((CANDIDATES, SAMPLES)) >= TRUE_DROP
        held += shipped_with_a_holdout(candidates, seed)
        without += any(drops_on(right)[0] is Verdict.HOLDS for right in candidates)
    assert held <= 0.05 * TIMES
    # Chosen and judged by the same samples, luck ships one far more often: that is what the holdout is for.
    assert without > 0.1 * TIMES
