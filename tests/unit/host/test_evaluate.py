"""Parity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.errors import DatasetError
from edgepack.evaluate import compare, parity

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
