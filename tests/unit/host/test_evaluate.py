"""Parity, decisions, metrics and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.errors import DatasetError, RecipeError
from edgepack.evaluate import METRICS, compare, doubt, measure_drop, parity, predictions

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]], np.float32)


# Parity


def test_equal_outputs_are_equal():
    found = parity("y", SCORES, SCORES.copy())
    assert (found.max_error, found.relative_error, found.agreement) == (0.0, 0.0, 1.0)
    assert found.correlation == pytest.approx(1.0)


def test_the_error_is_a_share_of_the_sources_range():
    found = parity("y", np.array([[0.0], [4.0]]), np.array([[0.0], [3.0]]))
    assert (found.max_error, found.range, found.relative_error) == (1.0, 4.0, 0.25)


def test_the_error_of_a_constant_output_is_a_share_of_its_magnitude():
    assert parity("y", np.full((2, 1), -200.0), np.full((2, 1), -300.0)).relative_error == 0.5


def test_the_error_of_an_output_that_is_always_zero_is_absolute():
    assert parity("y", np.zeros((2, 1)), np.full((2, 1), 0.5)).relative_error == 0.5


def test_decisions_that_differ_are_counted():
    assert parity("y", SCORES, SCORES[:, ::-1]).agreement == 0.0


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_where_there_is_nothing_to_decide_no_agreement_is_claimed(shape):
    assert parity("y", np.zeros(shape), np.zeros(shape)).agreement is None


def test_the_opposite_is_anticorrelated():
    centred = SCORES - SCORES.mean()
    assert parity("y", centred, -centred).correlation == pytest.approx(-1.0)


@pytest.mark.parametrize("wrong", [SCORES * 2, SCORES / 2, SCORES + 1, np.full_like(SCORES, 0.5)])
def test_another_scale_or_a_constant_added_is_not_alike(wrong):
    assert parity("y", SCORES, wrong).correlation < 0.97


def test_rounding_to_a_few_steps_is_alike():
    assert parity("y", SCORES, np.round(SCORES * 32) / 32).correlation > 0.99


def test_a_constant_candidate_is_not_like_a_source_that_varies():
    assert parity("y", SCORES, np.zeros_like(SCORES)).correlation == 0.0


def test_a_constant_source_that_is_met_is_correlated():
    assert parity("y", np.ones((2, 2)), np.ones((2, 2))).correlation == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["source", "candidate", "both"])
def test_what_is_no_number_is_as_wrong_as_can_be(value, side):
    spoiled = SCORES.copy()
    spoiled[1, 1] = value
    source = SCORES if side == "candidate" else spoiled
    candidate = SCORES if side == "source" else spoiled
    found = parity("y", source, candidate)
    assert (found.relative_error, found.correlation, found.agreement) == (math.inf, 0.0, None)


def test_integer_outputs_do_not_wrap_around():
    assert parity("y", np.array([[-128]], np.int8), np.array([[127]], np.int8)).max_error == 255


def test_another_shape_is_refused():
    with pytest.raises(DatasetError, match=r"output 'y': the source gives shape \[3, 2\], the candidate \[2, 3\]"):
        parity("y", SCORES, SCORES.reshape(2, 3))


def test_every_output_is_compared_in_the_sources_order():
    found = compare({"b": SCORES, "a": SCORES}, {"a": SCORES, "b": SCORES})
    assert [p.output for p in found] == ["b", "a"]


def test_other_output_names_are_refused():
    with pytest.raises(DatasetError, match=r"the source's outputs are \['a'\], the candidate's \['b'\]"):
        compare({"a": SCORES}, {"b": SCORES})


FINITE = hnp.arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6))


@given(FINITE, FINITE)
def test_parity_of_finite_outputs_is_finite_and_within_bounds(a, b):
    found = parity("y", a, b)
    assert math.isfinite(found.max_error)
    assert -1.000001 <= found.correlation <= 1.000001
    assert 0 <= found.agreement <= 1


# Predictions


def test_the_highest_score_is_the_class():
    predicted, truth = predictions({"y": SCORES}, np.array([1, 0, 1]), None)
    assert (predicted.tolist(), truth.tolist()) == ([1, 0, 0], [1, 0, 1])


@pytest.mark.parametrize("shape", [(3, 1, 2), (3, 2), (3, 1, 1, 2)])
def test_scores_may_carry_the_batch_of_one(shape):
    assert predictions({"y": SCORES.reshape(shape)}, np.zeros(3), None)[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("labels", [np.eye(2)[[1, 0, 1]], np.eye(2, dtype=bool)[[1, 0, 1]][:, None]])
def test_one_hot_labels_are_classes(labels):
    assert predictions({"y": SCORES}, labels, None)[1].tolist() == [1, 0, 1]


@pytest.mark.parametrize("labels", [[1.0, 0.0, 1.0], [True, False, True], [[1], [0], [1]]])
def test_classes_may_be_whole_numbers_of_any_kind(labels):
    assert predictions({"y": SCORES}, np.array(labels), None)[1].tolist() == [1, 0, 1]


def test_one_value_a_sample_is_a_probability():
    assert predictions({"y": np.array([[0.5], [0.49], [0.9]])}, np.array([1, 0, 1]), None)[0].tolist() == [1, 0, 1]


def test_a_single_sample_is_enough():
    assert predictions({"y": SCORES[:1]}, np.array([1]), None)[0].tolist() == [1]


def test_an_output_that_is_no_class_score_is_passed_over():
    outputs = {"mask": np.zeros((3, 4, 4)), "y": SCORES}
    assert predictions(outputs, np.zeros(3), None)[0].tolist() == [1, 0, 0]


def test_two_outputs_that_could_be_meant_are_refused_with_the_option():
    with pytest.raises(DatasetError, match=r"the model has 2: \['a', 'b'\]") as caught:
        predictions({"b": SCORES, "a": SCORES}, np.zeros(3), None)
    assert "--metric-output" in caught.value.hint


def test_the_named_output_decides():
    assert predictions({"b": SCORES, "a": SCORES[::-1]}, np.zeros(3), "a")[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["mask", "nothing"])
def test_a_named_output_without_class_scores_is_refused(name):
    with pytest.raises(DatasetError, match=rf"output '{name}' gives no class scores; those that do are \['y'\]"):
        predictions({"y": SCORES, "mask": np.zeros((3, 4, 4))}, np.zeros(3), name)


def test_no_output_of_class_scores_is_refused():
    with pytest.raises(DatasetError, match=r"the model has 0"):
        predictions({"mask": np.zeros((3, 4, 4))}, np.zeros(3), None)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 1, 2], r"labels reach from 0 to 2, the output has 2 classes"),
        ([0, 1, -1], r"labels reach from -1 to 1"),
        ([0.5, 1, 0], r"no whole numbers"),
        ([np.nan, 1, 0], r"no whole numbers"),
        ([np.inf, 1, 0], r"no whole numbers"),
        (np.zeros((3, 5)), r"labels of shape \[3, 5\] fit neither classes \[n\] nor one-hot \[n, 2\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, complaint):
    with pytest.raises(DatasetError, match=complaint):
        predictions({"y": SCORES}, np.array(labels), None)


# Metrics


def test_accuracy_is_the_share_of_hits():
    assert METRICS["accuracy"](np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])) == 0.75


# By hand: class 0 is said 3 times, is there twice, hit twice; class 1 is said once, is there twice, hit once.
@pytest.mark.parametrize(
    ("metric", "wanted"), [("precision", (2 / 3 + 1) / 2), ("recall", (1 + 1 / 2) / 2), ("f1", (4 / 5 + 2 / 3) / 2)]
)
def test_macro_averages_are_those_worked_out_by_hand(metric, wanted):
    assert METRICS[metric](np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_a_class_that_never_occurs_does_not_count(metric):
    assert METRICS[metric](np.array([0, 9]), np.array([0, 9])) == 1.0


@pytest.mark.parametrize("metric", sorted(METRICS))
@given(predicted=hnp.arrays(np.int64, 8, elements=st.integers(0, 3)),
       truth=hnp.arrays(np.int64, 8, elements=st.integers(0, 3)))  # fmt: skip
def test_a_metric_is_a_share_and_best_when_all_is_hit(metric, predicted, truth):
    assert 0 <= METRICS[metric](predicted, truth) <= METRICS[metric](truth, truth) == 1


def test_an_unknown_metric_is_refused():
    with pytest.raises(RecipeError, match=r"metric 'auc' is not known"):
        measure_drop("auc", np.zeros(3, int), np.zeros(3, int), np.zeros(3, int))


def test_the_drop_is_source_minus_candidate():
    truth = np.array([0, 1] * 10)
    drop = measure_drop("accuracy", truth, np.where(np.arange(20) < 5, 1 - truth, truth), truth)
    assert (drop.source.value, drop.candidate.value, drop.drop.value) == (1.0, 0.75, 0.25)


def test_a_candidate_that_decides_the_same_has_no_drop_and_no_doubt():
    rng = np.random.default_rng(1)
    truth, said = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    drop = measure_drop("accuracy", said, said, truth).drop
    assert (drop.value, drop.low, drop.high) == (0.0, 0.0, 0.0)


def test_a_drop_is_measured_the_same_twice():
    rng = np.random.default_rng(2)
    source, candidate, truth = rng.integers(0, 3, (3, 40))
    assert measure_drop("f1", source, candidate, truth) == measure_drop("f1", source, candidate, truth)


def test_the_interval_covers_the_true_drop_about_ninety_five_times_in_a_hundred():
    # Source right on 90 %, candidate wrong on one in ten of those and right on a fifth of the rest: drop 0.07.
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(40):
        truth = np.zeros(300, np.int64)
        right = rng.random(300) < 0.9
        still = np.where(right, rng.random(300) < 0.9, rng.random(300) < 0.2)
        interval = measure_drop("accuracy", (~right).astype(int), (~still).astype(int), truth).drop
        covered += interval.low <= 0.07 <= interval.high
    assert 35 <= covered < 40


# Doubts


def test_a_source_that_is_never_right_is_doubted():
    assert doubt(np.array([1, 1, 1, 1]), np.array([0, 0, 2, 3])) == (
        "the float source is right on 0.00% of the evaluation samples, always answering the commonest class "
        "would be on 50.00%: check the labels and the preprocessing"
    )


def test_a_source_that_always_says_the_same_is_doubted():
    assert doubt(np.zeros(4, int), np.array([0, 0, 1, 2])) != ""


@pytest.mark.parametrize("truth", [[0, 1, 2, 3], [0, 1, 2, 0], [1, 1, 2, 3]])
def test_a_source_better_than_its_commonest_class_is_not_doubted(truth):
    assert doubt(np.array([0, 1, 2, 3]), np.array(truth)) == ""


def test_a_source_that_is_always_right_is_not_doubted():
    assert doubt(np.zeros(4, int), np.zeros(4, int)) == ""
