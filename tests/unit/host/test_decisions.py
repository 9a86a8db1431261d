"""What outputs decide, what labels say is right, and what makes one doubt that they belong together."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.decisions import decide, doubt, fitting_outputs, right_classes, single_threshold
from edgepack.drop import source_doubts
from edgepack.errors import DatasetError
from edgepack.gate import Gate

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]], np.float32)
LABELS = np.zeros(3)


@pytest.mark.parametrize("shape", [(3, 1, 2), (3, 2), (3, 1, 1, 2)])
def test_the_highest_score_is_the_class_and_may_carry_the_batch_of_one(shape):
    assert decide(SCORES.reshape(shape), None).tolist() == [[1], [0], [0]]


@pytest.mark.parametrize("labels", [np.eye(2)[[1, 0, 1]], np.eye(2, dtype=bool)[[1, 0, 1]][:, None]])
def test_one_hot_labels_are_classes(labels):
    assert right_classes(labels, SCORES).tolist() == [[1], [0], [1]]


@pytest.mark.parametrize("labels", [[1.0, 0.0, 1.0], [True, False, True], [[1], [0], [1]]])
def test_classes_may_be_whole_numbers_of_any_kind(labels):
    assert right_classes(np.array(labels), SCORES).tolist() == [[1], [0], [1]]


def test_labels_of_a_mask_are_one_class_a_position():
    mask = np.zeros((2, 3, 4, 5))
    assert right_classes(np.ones((2, 3, 4)), mask).tolist() == [[1] * 12, [1] * 12]


@pytest.mark.parametrize(
    ("values", "threshold"),
    [([[0.0], [0.2], [1.0]], 0.5), ([[-0.1], [0.2], [0.9]], 0.0), ([[0.1], [0.2], [1.5]], 0.0)],
)
def test_one_value_a_sample_is_a_probability_or_a_logit(values, threshold):
    assert single_threshold(np.array(values), "y") == threshold


def test_one_whole_number_a_sample_needs_a_threshold_of_its_own():
    with pytest.raises(DatasetError, match=r"output 'y' is one int8 a sample") as caught:
        single_threshold(np.zeros((3, 1), np.int8), "y")
    assert "say the threshold" in caught.value.hint


def test_an_output_that_is_no_class_score_is_passed_over():
    assert fitting_outputs({"mask": np.zeros((3, 4, 4)), "y": SCORES}, Gate(), LABELS) == ("y",)


def test_two_outputs_that_could_be_meant_are_refused_with_the_option():
    with pytest.raises(DatasetError, match=r"the model has 2: \['a', 'b'\]") as caught:
        fitting_outputs({"b": SCORES, "a": SCORES}, Gate(), LABELS)
    assert "--metric-output" in caught.value.hint


def test_the_named_output_decides():
    assert fitting_outputs({"b": SCORES, "a": SCORES}, Gate(outputs=("a",)), LABELS) == ("a",)


def test_without_labels_each_output_of_class_scores_is_held_against_the_source():
    outputs = {"b": SCORES, "mask": np.zeros((3, 4, 4)), "a": SCORES}
    assert fitting_outputs(outputs, Gate(), None) == ("b", "a")


@pytest.mark.parametrize("name", ["mask", "nothing"])
def test_a_named_output_without_class_scores_is_refused(name):
    outputs = {"y": SCORES, "mask": np.zeros((3, 4, 4))}
    with pytest.raises(DatasetError, match=rf"output '{name}' gives no class scores; those that do are \['y'\]"):
        fitting_outputs(outputs, Gate(outputs=(name,)), LABELS)


def test_no_output_of_class_scores_is_refused():
    with pytest.raises(DatasetError, match=r"the model has 0"):
        fitting_outputs({"mask": np.zeros((3, 4, 4))}, Gate(), LABELS)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 1, 2], r"labels reach from 0 to 2, the output has 2 classes"),
        ([0, 1, -1], r"labels reach from -1 to 1"),
        ([0.5, 1, 0], r"no whole numbers"),
        ([np.nan, 1, 0], r"no whole numbers"),
        ([np.inf, 1, 0], r"no whole numbers"),
        (np.zeros((3, 5)), r"labels of shape \[3, 5\] fit neither classes \[n\] nor one-hot \[n, 2\]"),
        ([[1, 1], [0, 1], [1, 0]], r"are not one-hot"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, complaint):
    with pytest.raises(DatasetError, match=complaint):
        right_classes(np.array(labels), SCORES)


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


def test_doubts_are_told_of_the_source_that_the_gate_reads():
    (text,) = source_doubts(Gate(), {"y": SCORES}, np.array([1, 1, 1]))
    assert text.startswith("the float source is right on 33.33%")
