"""Static fit: what does not run, or does not run right, on a profile's engine is found before it gets there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tinymodels import LITERT, TFLITE, request, tiny
from tools.prediction_matrix.models import read_archive

from edgepack import _flatbuffer_edit as edit
from edgepack.engine_ops import as_tensorflow, oldest_with, parse_engine, support
from edgepack.errors import SourceModelError
from edgepack.fit import Finding, activation_bytes, check_fit, scheme_of
from edgepack.flatbuffer import read_model
from edgepack.passes import dynamic_range, float16, full_integer
from edgepack.profiles import load_profile
from edgepack_runtime.profile import DeviceProfile, KnownWrong, Source

SMALL = '{"min_elements": 16}'


def profile(engine: str = TFLITE, **budget: int) -> DeviceProfile:
    base = load_profile("raspberry-pi-4")
    name, _, version = engine.partition("==")
    return dataclasses.replace(
        base,
        engine=dataclasses.replace(base.engine, name=name, version=version),
        budget=dataclasses.replace(base.budget, **budget),
    )


def finding(model: bytes, check: str, on: DeviceProfile) -> Finding:
    return next(f for f in check_fit(model, on) if f.check == check)


def per_channel() -> bytes:
    return dynamic_range.run(request("digits", LITERT, SMALL)).model


def with_versions(model: bytes, version: int) -> bytes:
    objects = edit.unpack(model)
    for code in objects.operatorCodes:
        code.version = version
    return edit.pack(objects)


@pytest.mark.parametrize("engine", [LITERT, TFLITE])
@pytest.mark.parametrize("name", ["digits", "matmul"])
def test_a_float_model_fits(name: str, engine: str) -> None:
    assert all(f.holds for f in check_fit(tiny(name), profile(engine)))


@pytest.mark.parametrize("engine", [LITERT, TFLITE])
@pytest.mark.parametrize("name", ["digits", "matmul"])
def test_what_a_pass_made_for_an_engine_fits_it(name: str, engine: str) -> None:
    models = [
        dynamic_range.run(request(name, engine, SMALL)).model,
        float16.run(request(name, engine, SMALL)).model,
        full_integer.run(request(name, engine)).model,
    ]
    assert [f for m in models for f in check_fit(m, profile(engine)) if not f.holds] == []


def test_a_version_the_probed_engine_lacks_is_refused() -> None:
    found = finding(per_channel(), "op versions", profile())
    assert (found.holds, found.verdict) == (False, "measured")
    assert "FULLY_CONNECTED v12 (tflite-runtime 2.14.0 was probed: FULLY_CONNECTED up to v10)" in found.found


def test_a_file_that_states_too_low_a_version_does_not_get_through() -> None:
    assert not finding(with_versions(per_channel(), 1), "op versions", profile()).holds


def test_weights_the_engine_misreads_are_refused_by_type_as_well() -> None:
    found = finding(per_channel(), "tensor types", profile())
    assert not found.holds
    assert "FULLY_CONNECTED on float32 with int8 weights (per channel): computes wrong numbers" in found.found


def test_the_engine_that_reads_them_right_takes_them() -> None:
    assert all(f.holds for f in check_fit(per_channel(), profile(LITERT)))


def test_an_engine_between_two_probed_ones_is_judged_by_the_older_and_says_so() -> None:
    found = finding(tiny("digits"), "op versions", profile("ai-edge-litert==2.2.5"))
    assert (found.holds, found.verdict) == (True, "estimated")
    assert "ai-edge-litert 2.2.0, which is older" in found.found


@pytest.mark.parametrize(
    ("engine", "operator", "version", "holds", "verdict"),
    [
        (TFLITE, "FULLY_CONNECTED", 10, True, "measured"),
        (TFLITE, "FULLY_CONNECTED", 11, False, "measured"),
        ("tflite-runtime==2.11.0", "FULLY_CONNECTED", 10, True, "estimated"),
        ("tflite-runtime==2.10.0", "FULLY_CONNECTED", 10, False, "estimated"),
        ("tflite-runtime==2.13.0", "FULLY_CONNECTED", 12, False, "estimated"),
        ("ai-edge-litert==1.2.0", "FULLY_CONNECTED", 13, True, "measured"),
        ("ai-edge-litert==1.2.0", "FULLY_CONNECTED", 14, False, "measured"),
        ("ai-edge-litert==0.9.0", "FULLY_CONNECTED", 12, None, "unknown"),
        ("ai-edge-litert==0.9.0", "FULLY_CONNECTED", 14, False, "estimated"),
        ("ai-edge-litert==2.1.7", "DEQUANTIZE", 9, None, "unknown"),
        ("ai-edge-litert==9.0.0", "DEQUANTIZE", 9, True, "estimated"),
        (LITERT, "BUILTIN_999", 1, False, "measured"),
    ],
)
def test_support_is_told_with_how_far_it_is_known(
    engine: str, operator: str, version: int, holds: bool | None, verdict: str
) -> None:
    name, _, release = engine.partition("==")
    found = support(name, release, operator, version)
    assert (found.holds, found.verdict) == (holds, verdict)


@pytest.mark.parametrize(
    ("engine", "release"),
    [
        ("ai-edge-litert==1.0.1", "2.14.0"),
        ("ai-edge-litert==1.2.0", "2.19.0"),
        ("ai-edge-litert==2.3.9", "2.23.0"),
        ("ai-edge-litert==0.9.0", ""),
        ("tflite-runtime==2.11.0", "2.11.0"),
    ],
)
def test_an_engines_numbering_is_told_in_tensorflows(engine: str, release: str) -> None:
    assert as_tensorflow(*parse_engine(engine)) == release


def test_what_crashes_on_arm_only_is_refused_there_only() -> None:
    model = read_archive()["attention.tf_int8"]
    desktop = load_profile("generic-x86-64-linux")
    old_desktop = dataclasses.replace(desktop, engine=profile(TFLITE).engine)
    boards = [load_profile("raspberry-pi-4-32bit"), profile(TFLITE), profile(LITERT), old_desktop]
    found = [finding(model, "tensor types", board) for board in boards]
    assert [f.holds for f in found] == [False, False, True, True]
    assert "FULLY_CONNECTED on int8 with int8 weights (per channel rows without bias): crashes" in found[0].found


def test_the_oldest_engine_that_has_all_operators_is_named() -> None:
    assert oldest_with("ai-edge-litert", [("FULLY_CONNECTED", 14), ("CONV_2D", 8)]) == "2.1.0"
    assert oldest_with("ai-edge-litert", [("FULLY_CONNECTED", 99)]) == ""


def test_what_is_unknown_is_no_pass() -> None:
    found = finding(with_versions(tiny("matmul"), 60), "op versions", profile("ai-edge-litert==3.0.0"))
    assert (found.holds, found.verdict) == (False, "unknown")


def test_custom_operators_are_refused_by_name() -> None:
    objects = edit.unpack(tiny("matmul"))
    code = objects.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = 32
    code.customCode = "FlexTanh"
    found = finding(edit.pack(objects), "custom ops", profile())
    assert (found.holds, found.found) == (False, "FlexTanh")


def test_the_custom_operator_that_engines_have_is_none() -> None:
    model = Path(__file__).parents[2] / "data" / "engines" / "detection.tflite"
    found = finding(model.read_bytes(), "custom ops", profile())
    assert (found.holds, found.found) == (True, "none")


def test_storage_is_held_against_the_budget_to_the_byte() -> None:
    size = len(tiny("digits"))
    holds = [finding(tiny("digits"), "storage", profile(storage_bytes=b)).holds for b in (size, size - 1)]
    assert holds == [True, False]


def test_memory_is_the_file_and_what_lives_at_once() -> None:
    view = read_model(tiny("digits"))
    # 8x8x8 floats of the first convolution, read while the padded 10x10x8 are written, beside input and outputs.
    wanted = (8 * 8 * 8 + 10 * 10 * 8 + 8 * 8 + 10 + 10) * 4
    assert activation_bytes(view.subgraphs[0]) == wanted
    total = wanted + len(tiny("digits"))
    holds = [finding(tiny("digits"), "memory (estimated)", profile(ram_bytes=b)).holds for b in (total, total - 1)]
    assert holds == [True, False]


def test_a_scheme_the_profile_does_not_list_is_refused() -> None:
    on = dataclasses.replace(profile(), quantization=("full_integer",))
    found = finding(tiny("digits"), "quantization", on)
    assert (found.holds, found.found) == (False, "float32")


def test_schemes_are_told_from_tensors() -> None:
    models = {
        "float32": tiny("digits"),
        "float16": float16.run(request("digits", options=SMALL)).model,
        "dynamic_range": per_channel(),
        "full_integer": full_integer.run(request("digits")).model,
    }
    assert [scheme_of(model) for model in models.values()] == list(models)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(SourceModelError, match="not a TFLite model"):
        check_fit(b"not a model at all, but long enough", profile())


def test_a_scheme_known_to_be_wrong_is_refused_with_the_reason_and_who_says_so() -> None:
    wrong = KnownWrong(scheme="float32", reason="overflows", source=Source(kind="measured", text="unit 7"))
    on = dataclasses.replace(profile(), quantization=("full_integer",), known_wrong=(wrong,))
    found = finding(tiny("digits"), "quantization", on)
    assert (found.holds, found.found) == (False, "float32, known to be wrong: overflows (measured: unit 7)")
