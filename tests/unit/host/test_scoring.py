"""The metrics' own numbers: worked out by hand, and against slow and plain ways of counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.scoring import ClassPair, CountPair, RankPair, signal_values

CLASSES = hnp.arrays(np.int64, (8, 1), elements=st.integers(0, 3))


def whole(pair) -> float:
    return float(pair.scores(np.ones((1, pair.count)))[0][0])


# Class 0 is said 3 times, is there twice, hit twice; class 1 is said once, is there twice, hit once.
@pytest.mark.parametrize(
    ("metric", "wanted"), [("precision", (2 / 3 + 1) / 2), ("recall", (1 + 1 / 2) / 2), ("f1", (4 / 5 + 2 / 3) / 2)]
)
def test_macro_averages_are_those_worked_out_by_hand(metric, wanted):
    said, truth = np.array([[0], [0], [0], [1]]), np.array([[0], [0], [1], [1]])
    assert whole(ClassPair(metric, said, said, truth)) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_a_class_that_never_occurs_does_not_count(metric):
    said = np.array([[0], [9]])
    assert whole(ClassPair(metric, said, said, said)) == 1.0


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
@given(said=CLASSES, truth=CLASSES)
def test_a_metric_is_a_share_and_best_when_all_is_hit(metric, said, truth):
    assert 0 <= whole(ClassPair(metric, said, said, truth)) <= whole(ClassPair(metric, truth, truth, truth)) == 1


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
@given(said=CLASSES, truth=CLASSES, weights=hnp.arrays(np.int64, 8, elements=st.integers(0, 3)))
def test_a_weight_is_as_many_samples(metric, said, truth, weights):
    assume(weights.any())
    picks = np.repeat(np.arange(8), weights)
    weighted = ClassPair(metric, said, said, truth).scores(weights[None].astype(np.float64))[0][0]
    assert weighted == pytest.approx(whole(ClassPair(metric, said[picks], said[picks], truth[picks])))


# Of 3 said and 4 there, 2 are right.
@pytest.mark.parametrize(("metric", "wanted"), [("precision", 2 / 3), ("recall", 2 / 4), ("f1", 4 / 7)])
def test_yes_and_no_are_pooled_over_all_values(metric, wanted):
    said, truth = np.array([[1, 1, 0, 0], [1, 0, 0, 0]]), np.array([[1, 1, 1, 0], [0, 0, 0, 1]])
    assert whole(CountPair.of(metric, said, said, truth)) == pytest.approx(wanted)


def test_nothing_said_of_nothing_there_is_right():
    nothing = np.zeros((3, 4), np.int64)
    assert whole(CountPair.of("f1", nothing, nothing, nothing)) == 1.0


@given(scores=hnp.arrays(np.int64, 9, elements=st.integers(0, 4)), yes=hnp.arrays(np.bool_, 9))
def test_the_area_is_the_share_of_pairs_in_order_equal_ones_counted_half(scores, yes):
    assume(0 < yes.sum() < 9)
    pairs = [(a > b) + (a == b) / 2 for a in scores[yes] for b in scores[~yes]]
    values = scores[:, None].astype(np.float64)
    assert whole(RankPair.of(values, values, yes[:, None].astype(int))) == pytest.approx(np.mean(pairs))


def test_signal_metrics_are_those_worked_out_by_hand():
    wanted = np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    found = np.array([[3.0, 3.0], [6.0, 8.0], [0.0, 0.0]])
    assert signal_values("mse", found, wanted).tolist() == [0.5, 12.5, 0.0]
    assert signal_values("snr", found, wanted) == pytest.approx([10 * np.log10(25), 0.0, 100.0])
    assert signal_values("cosine", found, wanted) == pytest.approx([21 / (5 * np.sqrt(18)), 1.0, 1.0])
    # Twice as loud is no error to it; (3, 3) is (2.52, 3.36) along (3, 4), and (0.48, -0.36) across it.
    assert signal_values("si-sdr", found, wanted) == pytest.approx([10 * np.log10(17.64 / 0.36), 100.0, 100.0])
