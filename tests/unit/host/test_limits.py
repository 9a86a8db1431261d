"""What a profile says of inputs and outputs, held against a model's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.limits import check_limits
from edgepack.profiles import load_profile
from edgepack_runtime.profile import Delegate, InputLimits
from edgepack_runtime.tensors import TensorSpec

IMAGE = TensorSpec(name="image", dtype="uint8", shape=(1, 8, 8, 3))
STATE = TensorSpec(name="state", dtype="float32", shape=(1, 4))
OUT = TensorSpec(name="out", dtype="float32", shape=(1, 10))
PI4 = load_profile("raspberry-pi-4")


def broken(limits: InputLimits, *inputs: TensorSpec) -> list[tuple[str, str]]:
    found = check_limits(inputs or (IMAGE, STATE), (OUT,), replace(PI4, io=limits))
    assert {finding.verdict for finding in found} == {"measured"}
    return [(finding.check, finding.found) for finding in found if not finding.holds]


def test_a_profile_without_limits_has_no_findings():
    assert check_limits((IMAGE, STATE), (OUT,), PI4) == ()


def test_inputs_and_outputs_of_the_allowed_dtypes_pass():
    assert broken(InputLimits(input_dtypes=("uint8", "float32"), output_dtypes=("float32",))) == []


def test_the_inputs_of_other_dtypes_are_named_alone():
    assert broken(InputLimits(input_dtypes=("uint8",))) == [("input dtypes", "state: float32[1, 4]")]


def test_the_outputs_of_other_dtypes_are_named():
    assert broken(InputLimits(output_dtypes=("int8",))) == [("output dtypes", "out: float32[1, 10]")]


@pytest.mark.parametrize(("most", "holds"), [(8 * 8 * 3 + 4 * 4, True), (8 * 8 * 3 + 4 * 4 - 1, False)])
def test_the_bytes_of_all_inputs_are_counted_to_the_last(most, holds):
    assert broken(InputLimits(max_input_bytes=most)) == ([] if holds else [("input bytes", "208 bytes of inputs")])


def test_an_input_whose_size_the_caller_chooses_is_no_pass():
    open_ended = replace(STATE, shape=(-1, 4))
    assert [check for check, _ in broken(InputLimits(max_input_bytes=1 << 40), open_ended)] == ["input bytes"]


@pytest.mark.parametrize("shape", [(2, 4), (-1, 4), ()])
def test_an_input_of_another_batch_is_named(shape):
    other = replace(STATE, shape=shape)
    assert broken(InputLimits(batch=1), IMAGE, other) == [("batch", str(other))]


def test_a_delegate_of_its_own_is_said_to_be_unknown_and_one_of_the_wheel_is_not():
    delegates = (Delegate(name="XNNPACK", version="2.3.0"), Delegate(name="npu", version="7", library="libnpu.so.1"))
    (found,) = check_limits((IMAGE,), (OUT,), replace(PI4, engine=replace(PI4.engine, delegates=delegates)))
    assert (found.check, found.verdict) == ("delegates", "unknown")
    assert found.found.startswith("npu 7 (libnpu.so.1) not run here")
