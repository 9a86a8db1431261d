"""The drop of each metric, its interval, and the verdict: nothing passes for want of samples."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.drop import measure_drop
from edgepack.errors import DatasetError, RecipeError
from edgepack.gate import Gate, Verdict
from edgepack.intervals import count_discordant


def scores(classes: np.ndarray, count: int = 3) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def one(gate: Gate, source: np.ndarray, candidate: np.ndarray, labels: np.ndarray | None):
    (found,) = measure_drop(gate, {"y": source}, {"y": candidate}, labels)
    return found


@pytest.mark.parametrize(("count", "verdict"), [(10, Verdict.UNCLEAR), (370, Verdict.UNCLEAR), (400, Verdict.HOLDS)])
def test_a_candidate_that_never_differs_passes_only_with_enough_samples(count, verdict):
    truth = np.arange(count) % 3
    found = one(Gate(), scores(truth), scores(truth), truth)
    assert (found.drop.value, found.verdict) == (0.0, verdict)
    assert found.drop.high > 0


def test_the_samples_said_to_be_needed_are_enough():
    truth = np.arange(50) % 3
    needed = one(Gate(), scores(truth), scores(truth), truth).needed
    more = np.arange(needed) % 3
    assert one(Gate(), scores(more), scores(more), more).verdict is Verdict.HOLDS


@pytest.mark.parametrize("metric", ["f1", "precision", "recall", "auc", "cosine", "top2"])
def test_no_metric_passes_ten_samples_without_a_difference(metric):
    truth = np.arange(10) % 3
    found = one(Gate(metric=metric), scores(truth), scores(truth), scores(truth) if metric == "cosine" else truth)
    assert (found.drop.value, found.verdict) == (0.0, Verdict.UNCLEAR)


def test_a_drop_above_the_budget_is_worse_and_not_unclear():
    truth = np.zeros(20, int)
    found = one(Gate(), scores(truth), scores(np.arange(20) % 2), truth)
    assert found.verdict is Verdict.WORSE
    assert "even the lower end" in found.why


def test_the_score_interval_is_that_of_tango_1998():
    # His table: 12 of 50 lost, 2 gained gives 0.2 with 0.0611 to 0.3367 or thereabouts (method of his own).
    source = np.repeat([True, False, True], [12, 2, 36])
    candidate = np.repeat([False, True, True], [12, 2, 36])
    found = count_discordant(source, candidate).drop
    assert found.value == pytest.approx(0.2)
    assert 0.04 < found.low < 0.08
    assert 0.31 < found.high < 0.36


def test_a_bad_model_passes_in_at_most_one_of_twenty_tries():
    rng, passed, tries = np.random.default_rng(1), 0, 400
    for _ in range(tries):
        source = rng.random(1000) < 0.95
        candidate = np.where(source, rng.random(1000) >= 0.03, rng.random(1000) < 0.36)
        # True drop: 0.95 * 0.03 - 0.05 * 0.36 = 0.0105, above the budget.
        passed += count_discordant(source, candidate).drop.high <= 0.01
    assert passed <= 0.05 * tries


def test_without_labels_the_report_says_that_it_is_agreement():
    truth = np.arange(400) % 3
    found = one(Gate(metric="accuracy"), scores(truth), scores(truth), None)
    assert found.check == "accuracy drop against float: y"
    assert found.found.startswith("accuracy 1.0000 with the float source: drop 0.0000 [")
    assert "without labels how far it agrees" in found.found


def test_a_threshold_judges_each_value_of_every_output():
    rng = np.random.default_rng(0)
    outputs = {name: rng.random((12, 30, 40)).astype(np.float32) for name in ("onset", "note")}
    worse = outputs | {"note": np.where(rng.random((12, 30, 40)) < 0.3, 0.0, outputs["note"])}
    found = measure_drop(Gate(metric="f1", max_drop=0.02, threshold=0.3), outputs, worse, None)
    assert {drop.output: drop.verdict for drop in found} == {"onset": Verdict.HOLDS, "note": Verdict.WORSE}


def test_a_single_logit_is_decided_at_zero_and_a_probability_at_a_half():
    labels = np.array([0, 1] * 200)
    logits = np.where(labels == 1, 0.2, -3.0)[:, None]
    assert one(Gate(), logits, logits, labels).source.value == 1.0
    assert one(Gate(), labels[:, None] * 0.6, labels[:, None] * 0.6, labels).source.value == 1.0


def test_macro_metrics_are_told_class_by_class():
    truth = np.array([0, 0, 0, 1, 1, 2] * 100)
    said = np.where(np.arange(600) % 6 == 4, 0, truth)
    found = one(Gate(metric="recall"), scores(truth), scores(said), truth)
    assert found.classes == ((0, 1.0, 1.0), (1, 1.0, 0.5), (2, 1.0, 1.0))


def test_the_class_that_lost_most_is_told():
    truth = np.array([0, 0, 0, 1, 1, 2] * 100)
    said = np.where(np.arange(600) % 6 == 4, 0, truth)
    found = one(Gate(metric="recall"), scores(truth), scores(said), truth)
    assert "; class 1 lost most, 1.0000 to 0.5000; worse than allowed" in found.found
    assert "lost most" not in one(Gate(metric="recall"), scores(truth), scores(truth), truth).found


def test_each_output_has_a_metric_and_a_budget_of_its_own_and_labels_tell_of_one():
    truth = np.arange(400) % 3
    mask = np.random.default_rng(0).normal(size=(400, 5, 5))
    gate = Gate(
        metric="accuracy",
        outputs=("y",),
        also=(Gate(metric="cosine", outputs=("mask",), against="float", max_drop=0.05),),
    )
    source = {"y": scores(truth), "mask": mask}
    found = measure_drop(gate, source, source | {"mask": -mask}, truth)
    assert [(d.metric, d.output, d.against, d.verdict) for d in found] == [
        ("accuracy", "y", "labels", Verdict.HOLDS),
        ("cosine", "mask", "float source", Verdict.WORSE),
    ]


def test_a_higher_confidence_needs_more_samples():
    truth = np.arange(400) % 3
    sure = one(Gate(confidence=0.99), scores(truth), scores(truth), truth)
    assert (sure.verdict, sure.confidence) == (Verdict.UNCLEAR, 0.99)
    assert sure.needed > 600


def test_an_area_is_that_counted_by_hand():
    labels = np.array([0, 0, 1, 1, 0, 1])
    found = one(Gate(metric="auc"), np.array([0.1, 0.4, 0.35, 0.8, 0.35, 0.9])[:, None], np.zeros((6, 1)), labels)
    assert found.source.value == pytest.approx(7.5 / 9)
    assert found.candidate.value == 0.5


def test_less_is_better_of_an_error():
    target = np.random.default_rng(0).normal(size=(40, 100))
    found = one(Gate(metric="mse", max_drop=0.1), target, target + 1.0, target)
    assert (found.drop.value, found.verdict) == (pytest.approx(1.0), Verdict.WORSE)


def test_labels_of_a_class_that_is_not_there_are_refused():
    with pytest.raises(DatasetError, match="labels reach from 0 to 3, the output has 3 classes"):
        one(Gate(), scores(np.zeros(4, int)), scores(np.zeros(4, int)), np.array([0, 1, 2, 3]))


def test_an_output_with_nan_is_refused():
    with pytest.raises(DatasetError, match="'y' holds NaN or infinity"):
        one(Gate(), scores(np.zeros(4, int)), np.full((4, 3), np.nan), np.zeros(4, int))


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'accuracy'"):
        Gate(metric="acuracy")


# Labels of their own for each output

CLASS, OTHER = np.arange(400) % 3, np.arange(400) % 2
BOTH = {"class": scores(CLASS), "other": scores(OTHER, 2)}


def test_each_output_is_judged_by_its_own_labels():
    worse = {**BOTH, "other": scores(np.where(np.arange(400) % 5 == 0, 1 - OTHER, OTHER), 2)}
    found = measure_drop(Gate(max_drop=0.05), BOTH, worse, {"other": OTHER, "class": CLASS})
    assert {drop.output: (drop.source.value, drop.drop.value) for drop in found} == {
        "class": (1.0, 0.0),
        "other": (1.0, pytest.approx(0.2)),
    }


def test_each_further_gate_is_judged_by_the_labels_of_its_output():
    gate = Gate(metric="accuracy", outputs=("class",), also=(Gate(metric="mse", outputs=("other",)),))
    found = measure_drop(gate, BOTH, BOTH, {"class": CLASS, "other": 2 * scores(OTHER, 2)})
    assert [(drop.output, drop.labelled, drop.source.value) for drop in found] == [
        ("class", True, 1),
        ("other", True, 0.5),
    ]


def test_an_output_without_labels_may_be_judged_against_the_float_source():
    gate = Gate(metric="accuracy", also=(Gate(metric="accuracy", outputs=("other",), against="float"),))
    found = measure_drop(gate, BOTH, BOTH, {"class": CLASS})
    assert [(drop.output, drop.labelled) for drop in found] == [("class", True), ("other", False)]


@pytest.mark.parametrize(
    ("gate", "labels", "complaint"),
    [
        (Gate(outputs=("other",)), {"class": CLASS}, "no labels for the output 'other', only for \\['class'\\]"),
        (Gate(), {"clas": CLASS}, "the output 'clas'; there are \\['class', 'other'\\]"),
        (Gate(outputs=("oth",)), {"class": CLASS}, "the output 'oth'; there are"),
        (Gate(), {"class": CLASS + 1}, "labels reach from 1 to 3, the output has 3 classes"),
        (Gate(metric="mse"), {"class": CLASS}, r"output 'class' \[3\] with labels \[\] gives no values like"),
    ],
)
def test_labels_of_outputs_that_do_not_fit_are_refused(gate, labels, complaint):
    with pytest.raises(DatasetError, match=complaint):
        measure_drop(gate, BOTH, BOTH, labels)
