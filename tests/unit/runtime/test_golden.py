"""Golden tensors: packed and unpacked without loss, and a verdict on whoever computes them again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack_runtime.errors import FormatError
from edgepack_runtime.golden import GoldenSample, compare_golden, pack_golden, replay_golden, unpack_golden
from edgepack_runtime.tensors import DTYPES, TensorSpec

SPECS = (
    TensorSpec(name="a", dtype="float32", shape=(1, 2)),
    TensorSpec(name="b", dtype="int64", shape=()),
)
OUT = (TensorSpec(name="y", dtype="float16", shape=(3,)),)


def sample(seed: int = 0) -> GoldenSample:
    rng = np.random.default_rng(seed)
    inputs = {"a": rng.random((1, 2), np.float32), "b": np.array(rng.integers(0, 99))}
    return GoldenSample(inputs=inputs, outputs={"y": rng.random(3).astype(np.float16)})


def outputs(*rows: object, dtype: str = "float32") -> list[GoldenSample]:
    return [GoldenSample(inputs={}, outputs={"y": np.array(row, dtype)}) for row in rows]


def test_samples_come_out_as_they_went_in():
    samples = [sample(0), sample(1)]
    found = unpack_golden(pack_golden(samples, SPECS, OUT), 2, SPECS, OUT)
    for one, other in zip(samples, found, strict=True):
        np.testing.assert_array_equal(one.inputs["a"], other.inputs["a"])
        np.testing.assert_array_equal(one.inputs["b"], other.inputs["b"])
        np.testing.assert_array_equal(one.outputs["y"], other.outputs["y"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_out_in_its_own(dtype):
    spec = (TensorSpec(name="y", dtype=dtype, shape=(2,)),)
    array = np.array([0, 1], dtype)
    (found,) = unpack_golden(pack_golden([GoldenSample(inputs={}, outputs={"y": array})], (), spec), 1, (), spec)
    assert found.outputs["y"].dtype == array.dtype
    np.testing.assert_array_equal(found.outputs["y"], array)


def test_the_bytes_are_little_endian_inputs_before_outputs_in_the_specs_order():
    specs = (TensorSpec(name="z", dtype="int16", shape=(1,)), TensorSpec(name="a", dtype="int16", shape=(1,)))
    one = GoldenSample(
        inputs={"a": np.array([2], ">i2"), "z": np.array([1], np.int16)}, outputs={"y": np.array([3, 4, 5], "f2")}
    )
    assert pack_golden([one], specs, OUT)[:4] == b"\x01\x00\x02\x00"


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"", lambda d: d * 2])
def test_another_length_is_refused(change):
    data = pack_golden([sample()], SPECS, OUT)
    with pytest.raises(FormatError, match=r"golden tensors: \d+ bytes are not 1 samples of 22 bytes"):
        unpack_golden(change(data), 1, SPECS, OUT)


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (-1, 4)), (1, (2**32, 2**32)), (1, (0, 4)), (2**50, (0,)), (1, (2**31, 2**31, 4)), (0, (3,))],
)
def test_shapes_that_lie_are_refused(count, shape):
    spec = (TensorSpec(name="y", dtype="float32", shape=shape),)
    with pytest.raises(FormatError, match=r"golden tensors"):
        unpack_golden(b"" if count else b"1234", count, (), spec)


def test_a_model_without_outputs_cannot_pass_for_one_that_was_tested():
    with pytest.raises(FormatError, match=r"golden tensors"):
        unpack_golden(b"", 1, (), ())


# The verdict


def compared(golden: list[GoldenSample], *found: object, tolerance: float = 0.1):
    return compare_golden({"y": np.array(found, np.float32)}, golden, tolerance)


def test_equal_outputs_hold():
    replay = compared(outputs([1, 2], [3, 4]), [1, 2], [3, 4], tolerance=0.0)
    assert (replay.holds, replay.samples, replay.error, replay.output) == (True, 2, 0.0, "y")


def test_the_error_is_a_share_of_the_range_over_all_samples():
    assert compared(outputs([0], [8]), [0], [10]).error == 0.25


@pytest.mark.parametrize(("tolerance", "holds"), [(0.25, True), (0.24, False)])
def test_the_tolerance_is_the_largest_error_that_holds(tolerance, holds):
    assert compared(outputs([0], [8]), [0], [10], tolerance=tolerance).holds is holds


@pytest.mark.parametrize("magnitude", [-4e6, 4.0, 4e-6])
def test_the_error_of_a_constant_output_is_a_share_of_its_magnitude(magnitude):
    golden = outputs([magnitude], [magnitude], dtype="float64")
    assert compared(golden, [magnitude], [1.25 * magnitude]).error == pytest.approx(0.25)


def test_the_error_of_an_output_that_is_zero_is_absolute():
    assert compared(outputs([0], [0]), [0], [0.5]).error == 0.5


def test_the_worst_output_is_named():
    golden = [GoldenSample(inputs={}, outputs={n: np.array([0.0, 1.0]) for n in "abc"})]
    found = {"a": np.array([[0.0, 1.1]]), "b": np.array([[0.0, 1.5]]), "c": np.array([[0.0, 1.2]])}
    assert compare_golden(found, golden, 0.1).output == "b"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_where_one_was_signed_does_not_hold(value):
    replay = compared(outputs([0, 1]), [0, value], tolerance=1.0)
    assert (replay.holds, replay.error) == (False, math.inf)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_and_was_signed_as_that_holds(value):
    assert compared(outputs([0, 1, value]), [0, 1, value], tolerance=0.0).holds


def test_an_output_of_nothing_but_infinity_holds_when_it_is_the_same():
    assert compared(outputs([np.inf, np.inf]), [np.inf, np.inf]).error == 0.0


def test_infinity_of_the_other_sign_does_not_hold():
    assert not compared(outputs([0, np.inf]), [0, -np.inf], tolerance=1.0).holds


def test_a_number_where_infinity_was_signed_does_not_hold():
    assert not compared(outputs([0, np.inf]), [0, 1], tolerance=1.0).holds


def test_another_shape_does_not_hold():
    assert not compare_golden({"y": np.zeros((1, 3))}, outputs([0, 0]), 1.0).holds


def test_a_missing_output_does_not_hold():
    replay = compare_golden({"z": np.zeros((1, 2))}, outputs([0, 1]), 1.0)
    assert (replay.holds, replay.output) == (False, "y")


def test_integers_that_wrap_around_do_not_look_close():
    golden = outputs([0, 0, 127], dtype="int8")
    assert compare_golden({"y": np.array([[0, 0, -128]], np.int8)}, golden, 1.0).holds is False


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.integers(0, 5), st.floats(0.02, 0.9))
def test_an_error_of_any_share_is_found_to_be_that(values, at, share):
    values = [*values, -200.0, 200.0]
    found = list(values)
    found[at % len(values)] += share * 400
    golden = [GoldenSample(inputs={}, outputs={"y": np.array(values)})]
    assert compare_golden({"y": np.array([found])}, golden, 1.0).error == pytest.approx(share)


def test_every_sample_is_run_once_in_order():
    samples = [sample(i) for i in range(3)]
    seen = []

    def run(feeds):
        seen.append(feeds)
        return samples[len(seen) - 1].outputs

    assert replay_golden(run, samples, 0.0).holds
    assert seen == [s.inputs for s in samples]


def test_a_sample_that_differs_is_found_wherever_it_is():
    samples = [sample(i) for i in range(3)]
    assert not replay_golden(lambda feeds: samples[0].outputs, samples, 0.0).holds
