"""When a converted model is its source: on samples, and on edge cases made up beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.converters._parity import difference
from edgepack.edgecases import edge_cases, no_edge_cases
from edgepack.errors import DatasetError, ParityError, RecipeError
from edgepack.evaluate import largest_difference
from edgepack.model import TFLiteModel
from edgepack.parity import Comparison, constant_notes, judge, parity_tolerance
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

REAL = np.array([[0.0, 1.0], [2.0, 4.0]])


def judged(
    real: Array, found: Array, edges: tuple[Array, Array, Array] | None = None, dtype: str = "float32"
) -> tuple[Evidence, ...]:
    """Return the evidence on one output: the source's and what was found, and of one edge case with it shaken."""
    source, result = [real], [found]
    if edges is not None:
        case, shaken, found_case = edges
        source, result = [real, case[None], shaken[None]], [found, found_case[None], found_case[None]]
    spec = TensorSpec(name="y", dtype=dtype, shape=real.shape[1:])
    comparison = Comparison(
        model=TFLiteModel(data=b"", inputs=(), outputs=(spec,), history=()),
        feeds={},
        reference={"y": np.concatenate(source).astype(dtype)},
        real=len(real),
        cases=() if edges is None else ("maximum",),
        tolerance=1e-4,
    )
    return judge(comparison, {"y": np.concatenate(result).astype(dtype)}, "here")


def test_what_is_found_is_told_in_every_measure() -> None:
    (evidence,) = judged(REAL, REAL + 1e-4)
    assert evidence.found.startswith("largest difference 0.0001, 2.5e-05 of the range, cosine 1.0000000")
    assert evidence.wanted == "at most 0.0001 of the range"


def test_a_difference_beyond_the_tolerance_is_refused() -> None:
    with pytest.raises(ParityError, match=r"'y' differs by 0.0005, 0.01% of its range"):
        judged(REAL, REAL + 5e-4)


def test_whole_numbers_must_be_the_same() -> None:
    with pytest.raises(ParityError, match="no difference is accepted") as caught:
        judged(REAL * 1_000_000, REAL * 1_000_000 + 1, dtype="int64")
    assert "give the scores themselves" in (caught.value.hint or "")


# Neighbours that are one number in float64.
LARGE = np.array([[2**60], [2**60 + 2]])


def test_large_whole_numbers_must_be_the_same() -> None:
    with pytest.raises(ParityError, match="differs by 1, "):
        judged(LARGE, LARGE + 1, dtype="int64")


def test_large_whole_numbers_of_an_edge_case_must_be_the_same() -> None:
    with pytest.raises(ParityError, match="edge case 'maximum' output 'y' differs by 1, "):
        judged(LARGE, LARGE, (LARGE[0], LARGE[0], LARGE[0] + 1), dtype="int64")


def test_the_smallest_and_the_largest_whole_number_are_as_far_apart_as_they_are() -> None:
    ends = np.array([-(2**63), 2**63 - 1])
    assert largest_difference(ends, ends[::-1]) == 2.0**64


def test_a_road_is_told_of_large_whole_numbers_too() -> None:
    assert difference(LARGE, LARGE + 1) > 0


def test_an_output_without_elements_is_what_its_source_gives() -> None:
    (evidence,) = judged(np.zeros((2, 0)), np.zeros((2, 0)))
    assert evidence.value == 0.0


def test_a_source_that_gives_no_numbers_is_told_from_a_wrong_conversion() -> None:
    broken = np.array([[0.0, np.nan], [2.0, 4.0]])
    with pytest.raises(DatasetError, match=r"'y' of the source itself is NaN or infinity on 1 of 2 samples"):
        judged(broken, broken)


def test_a_conversion_that_gives_no_numbers_is_refused() -> None:
    with pytest.raises(ParityError, match=r"'y' is NaN or infinity on 2 of 2 samples, the source's is a number"):
        judged(REAL, np.full_like(REAL, np.inf))


def compared(rows: Array) -> Comparison:
    spec = TensorSpec(name="y", dtype="float32", shape=rows.shape[1:])
    model = TFLiteModel(data=b"", inputs=(), outputs=(spec,), history=())
    return Comparison(model=model, feeds={}, reference={"y": rows}, real=len(rows), cases=(), tolerance=1e-4)


def test_an_output_that_is_the_same_on_every_sample_is_told() -> None:
    (note,) = constant_notes(compared(np.array([[1.0, 2.0]] * 3)))
    assert note.startswith("output 'y' of the source is the same on all 3 samples")


def test_an_output_that_varies_is_not_told() -> None:
    assert constant_notes(compared(REAL)) == ()


def test_of_one_sample_nothing_is_told() -> None:
    assert constant_notes(compared(REAL[:1])) == ()


def test_truth_values_must_be_the_same() -> None:
    with pytest.raises(ParityError, match="no difference is accepted"):
        judged(np.array([[True], [False]]), np.array([[True], [True]]), dtype="bool")


def test_float16_may_differ_in_its_last_place() -> None:
    (evidence,) = judged(REAL, np.nextafter(REAL.astype("float16"), np.float16(9)), dtype="float16")
    assert evidence.wanted == "at most 0.000976562 of the range"


def test_an_edge_case_that_differs_is_refused_by_name() -> None:
    with pytest.raises(ParityError, match=r"edge case 'maximum' output 'y' differs by 1, 20\.00% of"):
        judged(REAL, REAL, (np.array([5.0, 5.0]), np.array([5.0, 5.0]), np.array([5.0, 4.0])))


def test_an_edge_case_on_which_the_source_is_unstable_is_not_judged_and_named() -> None:
    edges = judged(REAL, REAL, (np.array([5.0, 5.0]), np.array([5.0, 4.9]), np.array([5.0, 4.0])))[1]
    assert edges.found.startswith("largest difference 0, 0 of the range, on 0 made-up samples")
    assert edges.found.endswith("unstable on maximum: not judged")


def test_an_edge_case_on_which_the_source_hardly_moves_is_judged() -> None:
    with pytest.raises(ParityError, match="edge case"):
        judged(REAL, REAL, (np.array([5.0, 5.0]), np.array([5.0, 5.0 + 1e-4]), np.array([5.0, 4.0])))


def test_no_number_where_an_unstable_source_has_one_is_refused() -> None:
    with pytest.raises(ParityError, match="edge case"):
        judged(REAL, REAL, (np.array([5.0, 5.0]), np.array([5.0, 4.0]), np.array([5.0, np.nan])))


def test_an_edge_case_is_measured_by_its_own_range_too() -> None:
    edges = judged(REAL, REAL, (np.full(2, 1e6), np.full(2, 1e6), np.full(2, 1e6 + 1)))[1]
    assert edges.value == pytest.approx(1e-6)


def test_a_source_that_has_no_number_for_an_edge_case_is_equal_to_a_conversion_that_has_none() -> None:
    nothing = np.array([np.nan, np.inf])
    assert judged(REAL, REAL, (nothing, nothing, nothing))[1].value == 0.0


@pytest.mark.parametrize("found", [[np.nan, 1.0], [0.0, -np.inf], [0.0, 1.0]])
def test_a_number_and_none_are_no_agreement(found: list[float]) -> None:
    nothing = np.array([0.0, np.inf])
    with pytest.raises(ParityError, match="edge case"):
        judged(REAL, REAL, (nothing, nothing, np.array(found)))


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(DatasetError, match="'y'"):
        judged(REAL, REAL[:, :1])


def test_a_tolerance_that_is_no_conversion_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"max_difference 0\.5"):
        parity_tolerance('{"max_difference":0.5}')


# Edge cases


def feeds_of_every_type() -> dict[str, Array]:
    return {dtype: np.array([[[1, 0]], [[1, 1]]], dtype) for dtype in DTYPES}


def test_every_input_gets_as_many_edge_cases_and_keeps_its_type() -> None:
    cases = edge_cases(feeds_of_every_type())
    assert {(a.shape, str(a.dtype)) for a in cases.feeds.values()} == {((14, 1, 2), dtype) for dtype in DTYPES}
    assert cases.names[:4] == ("zeros", "minimum", "maximum", "random 1")


@given(hnp.arrays(st.sampled_from(["int8", "uint8", "int64", "int32"]), (3, 2)))
def test_whole_numbers_stay_between_the_samples(samples: Array) -> None:
    made = edge_cases({"ids": samples}).feeds["ids"]
    assert samples.min() <= made.min()
    assert made.max() <= samples.max()


@given(hnp.arrays("float32", (3, 2), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_random_numbers_stay_between_the_samples(samples: Array) -> None:
    made = edge_cases({"x": samples}).feeds["x"][3:7]
    assert samples.min() <= made.min()
    assert made.max() <= samples.max()


def test_zeros_smallest_and_largest_are_everywhere() -> None:
    made = edge_cases({"x": np.array([[2.0, -3.0], [7.0, 1.0]], "float32")}).feeds["x"]
    assert made[:3].tolist() == [[0, 0], [-3, -3], [7, 7]]


def test_a_shaken_case_is_as_good_as_the_case() -> None:
    made = edge_cases({"x": np.array([[2.0, -3.0], [7.0, 1.0]], "float32")}).feeds["x"]
    assert 0 < np.abs(made[7:] - made[:7]).max() < 1e-5


def test_the_cases_are_the_same_in_every_build() -> None:
    first, second = (edge_cases(feeds_of_every_type()).feeds["float32"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_samples_come_first() -> None:
    samples = feeds_of_every_type()
    behind = edge_cases(samples).behind(samples)
    np.testing.assert_array_equal(behind["int8"][:2], samples["int8"])


def test_a_stream_gets_nothing_behind_it() -> None:
    samples = feeds_of_every_type()
    assert len(no_edge_cases(samples).behind(samples)["int8"]) == 2
