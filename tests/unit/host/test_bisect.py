"""The first layer that differs, among layers of which it is said how far each is off."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.converters._bisect import Layer, first_differing, said_by
from edgepack.errors import ConversionError

LAYERS = [Layer(name=f"conv_{i}", operator="Conv") for i in range(1000)]


def found(count: int, first_wrong: int) -> tuple[str, list[int]]:
    """Return what is said where the layers from `first_wrong` on differ, and which were tried."""
    tried: list[int] = []

    def said_at(i: int) -> str:
        tried.append(i)
        return "0.12 of its range" if i >= first_wrong else ""

    divergence = first_differing(LAYERS[:count], said_at)
    return divergence.text if divergence else "", tried


@given(st.data())
def test_the_first_layer_that_differs_is_named(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 1000))
    first = data.draw(st.integers(0, count - 1))
    assert found(count, first)[0] == f"first differs at node 'conv_{first}' (Conv): 0.12 of its range"


@given(st.integers(0, 999))
def test_few_pieces_are_tried_and_none_twice(first: int) -> None:
    tried = sorted(found(1000, first)[1])
    assert len(tried) <= 12
    assert all(a != b for a, b in pairwise(tried))


@pytest.mark.parametrize("count", [0, 5])
def test_no_layer_is_named_where_the_last_is_equal(count: int) -> None:
    assert found(count, count)[0] == ""


def test_time_that_is_up_leaves_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.converters._bisect._PIECES", 3)
    text = found(8, 2)[0]
    assert text == (
        "first differs behind 'conv_1' (Conv) and not later than at node 'conv_3' (Conv): 0.12 of its range"
    )


def test_a_difference_is_told_in_its_own_words() -> None:
    error = ConversionError("onnx2tf does not lead ...: output 'h' differs from onnxruntime by 0.48 of its range (at")
    assert said_by(error) == "0.48 of its range"


def test_a_piece_that_cannot_be_converted_says_so() -> None:
    assert said_by(ConversionError("no operator 'DET'")) == "it cannot be converted alone: no operator 'DET'"
