"""Which candidates a search brings before the judge, in which order, and how sure the judge has to be."""

from __future__ import annotations

import math

import pytest

from edgepack.model import Refusal
from edgepack.trials import Loss, Trial, confidences, finalists, margin, unpromising


def trial(title: str, size: int, high: float, *, ratio: float = 1.0) -> Trial:
    loss = Loss(check="accuracy drop: y", value=0.0, low=-high, high=high, budget=0.02)
    return Trial(title=title, scheme="mixed", options=title, digest=title, size=size, losses=(loss,), ratio=ratio)


FLOAT = Trial(title="float32", scheme="float32", options="{}", digest="f", size=400, ratio=1.0)
REFUSED = Refusal(profile="p", scheme="s", check="memory", found="2", wanted="1", remedy="-")


def titles(found: tuple[Trial, ...]) -> list[str]:
    return [one.title for one in found]


def test_the_smallest_candidate_within_the_budget_is_judged_first_and_then_safer_ones() -> None:
    tried = (FLOAT, trial("half", 200, 0.001), trial("eighth", 50, 0.03), trial("quarter", 100, 0.01))
    assert titles(finalists(tried, "size", 1.0)) == ["quarter", "half", "float32"]


def test_a_larger_candidate_that_is_no_safer_is_not_judged() -> None:
    tried = (trial("larger", 110, 0.01), trial("quarter", 100, 0.01))
    assert titles(finalists(tried, "size", 1.0)) == ["quarter"]


def test_by_latency_the_fastest_comes_first() -> None:
    tried = (trial("small", 50, 0.01, ratio=0.9), trial("fast", 100, 0.01, ratio=0.5))
    assert titles(finalists(tried, "latency", 1.0))[0] == "fast"


def test_of_a_long_way_a_few_steps_are_judged_the_first_and_the_last_among_them() -> None:
    tried = tuple(trial(str(i), 100 + i, 0.019 - i * 0.001) for i in range(15))
    assert titles(finalists(tried, "size", 1.0)) == ["0", "5", "9", "14"]


def test_a_candidate_that_something_else_refused_is_not_judged() -> None:
    refused = Trial(title="no", scheme="float16", options="{}", digest="d", size=1, refusals=(REFUSED,))
    assert finalists((refused,), "size", 1.0) == ()
    assert unpromising(refused, 1.0) == "refused: memory"


def test_fewer_samples_to_choose_by_than_to_judge_by_do_not_rule_a_candidate_out() -> None:
    assert unpromising(trial("q", 100, 0.03), 1.0) != ""
    assert unpromising(trial("q", 100, 0.03), 0.6) == ""


def test_what_is_the_float_model_has_all_room() -> None:
    assert margin(FLOAT, 1.0) == math.inf


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_risks_of_all_finalists_add_up_to_the_gates(count: int) -> None:
    assert sum(1 - level for level in confidences(count, 0.95)) == pytest.approx(0.05)


def test_where_the_gate_is_asked_all_it_can_say_there_is_one_try() -> None:
    assert confidences(3, 0.9995) == (0.9995,)
