"""Passes on real models: the numbers stay right, nothing stays float unnoticed, and refusals say why."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tinymodels import LITERT, TFLITE, correlation, feeds, request, run, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.passes import (
    dynamic_int2,
    dynamic_int4,
    dynamic_range,
    float16,
    float32,
    full_integer,
    int16x8,
    weight_only_int4,
    weight_only_int8,
)
from edgepack.passes._quantizer import evenly
from edgepack.passes._ranges import _range
from edgepack.schemes import scheme_of, weights
from edgepack_runtime.profile import SCHEMES

SMALL = '{"min_elements": 16}'


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_of_the_profiles_has_a_pass_of_its_name(scheme: str) -> None:
    module = importlib.import_module(f"edgepack.passes.{scheme}")
    assert (module.SCHEME, dataclasses.is_dataclass(module.Options())) == (scheme, True)


@pytest.mark.parametrize("engine", [LITERT, TFLITE])
@pytest.mark.parametrize("name", ["digits", "matmul"])
@pytest.mark.parametrize(
    ("module", "options", "least"),
    [
        (float32, "{}", 0.999999),
        (float16, SMALL, 0.9999),
        (dynamic_range, SMALL, 0.995),
        (full_integer, "{}", 0.9),
    ],
)
def test_a_pass_yields_its_scheme_and_keeps_every_output(
    module: ModuleType, options: str, least: float, name: str, engine: str
) -> None:
    result = module.run(request(name, engine, options))
    samples = feeds(name, 20, seed=9)
    before, after = run(tiny(name), samples), run(result.model, samples)
    assert scheme_of(result.model) == module.SCHEME
    assert list(after) == list(before)
    assert min(correlation(before[key], after[key]) for key in before) > least


@pytest.mark.parametrize("module", [float32, float16, dynamic_range, full_integer])
def test_names_and_order_of_the_signature_are_kept(module: ModuleType) -> None:
    options = SMALL if module in (float16, dynamic_range) else "{}"
    (before,), (after,) = (
        read_model(data).signatures for data in (tiny("digits"), module.run(request("digits", options=options)).model)
    )
    names = [[name for name, _ in pairs] for s in (before, after) for pairs in (s.inputs, s.outputs)]
    assert names[:2] == names[2:]


def scales_of(model: bytes, operator: str) -> set[int]:
    return {len(w.stored.scales) for w in weights(read_model(model)) if w.operator == operator}


@pytest.mark.parametrize(("name", "operator"), [("digits", "FULLY_CONNECTED"), ("matmul", "BATCH_MATMUL")])
def test_dense_weights_get_one_scale_for_tflite_runtime_which_misreads_more(name: str, operator: str) -> None:
    model = dynamic_range.run(request(name, TFLITE, SMALL)).model
    assert scales_of(model, operator) == {1}


def test_dense_weights_get_a_scale_per_row_for_litert() -> None:
    assert scales_of(dynamic_range.run(request("digits", LITERT, SMALL)).model, "FULLY_CONNECTED") == {10}


def test_a_model_padded_with_the_lowest_float_has_no_absurd_scale_in_int8() -> None:
    view = read_model(full_integer.run(request("digits")).model)
    assert max(s for g in view.subgraphs for t in g.tensors for s in t.scales) < 10


def test_operators_without_an_int8_kernel_on_the_engine_are_kept_float_and_named() -> None:
    notes = " | ".join(full_integer.run(request("matmul", TFLITE)).notes)
    assert "kept float, as tflite-runtime==2.14.0 has no" in notes
    assert "SQRT v2" in notes
    assert "DIV on int8" in notes


def test_an_engine_that_has_them_gets_them_in_int8() -> None:
    assert "still compute in float32: 1 NEG" in full_integer.run(request("matmul", LITERT)).notes[-1]


def test_full_integer_io_can_be_int8() -> None:
    view = read_model(full_integer.run(request("digits", options='{"io": "int8"}')).model)
    (signature,) = view.signatures
    indices = [index for _, index in (*signature.inputs, *signature.outputs)]
    assert {view.subgraphs[0].tensors[i].dtype for i in indices} == {"int8"}


def test_weights_too_small_to_quantize_are_refused_by_name() -> None:
    with pytest.raises(PassError, match=r"no weights were quantized: .* FULLY_CONNECTED") as caught:
        dynamic_range.run(request("digits", options='{"min_elements": 100000}'))
    assert "fewer than 100000 elements" in str(caught.value.hint)


@pytest.mark.parametrize("module", [float16, dynamic_range, full_integer])
def test_a_quantized_source_is_refused(module: ModuleType) -> None:
    done = full_integer.run(request("digits"))
    with pytest.raises(PassError, match="quantized already \\(full_integer\\)"):
        module.run(dataclasses.replace(request("digits"), model=done.model))


def test_a_convolutions_bias_is_float16_where_its_weights_are() -> None:
    # Beside a float32 bias ai-edge-litert 1.1 to 1.3 compute wrong numbers.
    (graph,) = read_model(float16.run(request("digits", options='{"min_elements": 128}')).model).subgraphs
    convolutions = [graph.operands(o.inputs) for o in graph.operators if o.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    unpacked = [[tensor is not None and not tensor.is_constant for tensor in one[1:3]] for one in convolutions]
    assert sorted(map(tuple, unpacked)) == [(False, False), (False, False), (True, True)]


def test_float16_weights_are_expanded_before_they_are_quantized() -> None:
    half = float16.run(request("digits", options=SMALL)).model
    result = dynamic_range.run(dataclasses.replace(request("digits", options=SMALL), model=half))
    assert "float16 or sparse constants were expanded" in result.notes[0]
    assert {w.stored.dtype for w in weights(read_model(result.model))} == {"int8"}


def test_a_float16_source_becomes_float32_when_that_is_asked_for() -> None:
    half = float16.run(request("digits", options=SMALL)).model
    model = float32.run(dataclasses.replace(request("digits"), model=half)).model
    assert scheme_of(model) == "float32"
    samples = feeds("digits", 5)
    np.testing.assert_array_equal(run(model, samples)["logits"], run(half, samples)["logits"])


def test_a_file_with_only_deprecated_operator_codes_is_quantized_like_any_other() -> None:
    old = edit.unpack(tiny("digits"))
    for code in old.operatorCodes:
        code.builtinCode = 0
    result = dynamic_range.run(dataclasses.replace(request("digits", options=SMALL), model=edit.pack(old)))
    assert "4 of 4 weight tensors are int8" in result.notes


def test_tensors_of_one_name_are_told_apart() -> None:
    twins = edit.unpack(tiny("digits"))
    for tensor in twins.subgraphs[0].tensors:
        tensor.name = "same"
    result = full_integer.run(dataclasses.replace(request("digits"), model=edit.pack(twins)))
    samples = feeds("digits", 10)
    assert correlation(run(tiny("digits"), samples)["logits"], run(result.model, samples)["logits"]) > 0.98


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({}, "is named \\[\\], the model takes \\['image'\\]"),
        ({"image": np.zeros((0, 1, 8, 8, 1), np.float32)}, "the same number"),
        ({"image": np.zeros((3, 1, 9, 8, 1), np.float32)}, "wanted is float32\\[n, 1, 8, 8, 1\\]"),
        ({"image": np.zeros((3, 1, 8, 8, 1), np.float64)}, "is float64"),
        ({"image": np.full((3, 1, 8, 8, 1), np.nan, np.float32)}, "NaN or infinity"),
    ],
)
def test_calibration_data_that_does_not_fit_is_refused(calibration: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(PassError, match=message):
        full_integer.run(dataclasses.replace(request("digits"), calibration=calibration))


CODEC = Path(__file__).parents[2] / "data" / "engines" / "codec.tflite"


def test_a_model_with_several_signatures_stays_as_it_is_in_float32() -> None:
    codec = dataclasses.replace(request("digits"), model=CODEC.read_bytes())
    keys = [signature.key for signature in read_model(float32.run(codec).model).signatures]
    assert sorted(keys) == ["decode", "encode"]


@pytest.mark.parametrize("module", [dynamic_range, float16])
def test_a_model_with_several_signatures_is_not_quantized(module: ModuleType) -> None:
    codec = dataclasses.replace(request("digits"), model=CODEC.read_bytes())
    with pytest.raises(PassError, match=r"several signatures \(decode, encode\)"):
        module.run(codec)


@pytest.mark.parametrize("module", [dynamic_range, full_integer])
def test_what_is_quantized_is_not_called_float32(module: ModuleType) -> None:
    quantized = dataclasses.replace(request("digits"), model=module.run(request("digits")).model)
    with pytest.raises(PassError, match=f"quantized already \\({module.SCHEME}\\); that cannot be undone"):
        float32.run(quantized)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (float32, '{"io": "int8"}', "'io' is not known"),
        (float16, '{"min_elements": "many"}', "expected int"),
        (full_integer, '{"io": "uint8"}', "io 'uint8'"),
        (full_integer, '{"samples": 0}', "samples 0"),
        (full_integer, '{"outliers": 0.5}', "outliers 0.5"),
        (full_integer, '{"keep_float": ["RELU7"]}', "no operator 'RELU7'"),
        (full_integer, '{"keep_float": ["LOG"]}', "'LOG' is no operator ai-edge-quantizer quantizes"),
        (dynamic_range, "[]", "expected a table"),
    ],
)
def test_wrong_options_are_refused(module: ModuleType, options: str, message: str) -> None:
    with pytest.raises(PassError, match=message):
        module.run(request("digits", options=options))


def test_an_operator_named_in_keep_float_stays_float() -> None:
    notes = full_integer.run(request("digits", options='{"keep_float": ["FULLY_CONNECTED"]}')).notes
    assert any("kept float32: weights of 1 FULLY_CONNECTED" in note for note in notes)


def test_a_few_strange_samples_do_not_stretch_a_range() -> None:
    extremes = np.array([(-1.0, 1.0)] * 39 + [(-900.0, 1.0)])
    assert (_range(extremes, 0.05).low, _range(extremes, 0.05).cut) == (-1.0, True)


def test_ranges_that_leave_samples_out_are_noted() -> None:
    wild = request("digits", count=40)
    wild.calibration["image"][7] *= 1000
    assert any("leave out samples" in note for note in full_integer.run(wild).notes)


def test_rare_samples_that_cost_little_stay_in_the_range() -> None:
    extremes = np.array([(-10.0, 1.0)] * 39 + [(-10.0, 3.0)])
    assert (_range(extremes, 0.05).high, _range(extremes, 0.05).cut) == (3.0, False)


def test_samples_are_chosen_evenly_and_always_the_same() -> None:
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert evenly(3, 200) == [0, 1, 2]


OTHERS = [int16x8, weight_only_int8, weight_only_int4, dynamic_int4]


@pytest.mark.parametrize("module", OTHERS)
def test_the_other_schemes_yield_what_they_say_and_keep_every_output(module: ModuleType) -> None:
    result = module.run(request("digits", LITERT, "{}" if module is int16x8 else SMALL))
    samples = feeds("digits", 20, seed=9)
    before, after = run(tiny("digits"), samples), run(result.model, samples)
    assert scheme_of(result.model) == module.SCHEME
    assert list(after) == list(before)
    least = 0.85 if "int4" in module.SCHEME else 0.93
    assert min(correlation(before[key], after[key]) for key in before) > least


def test_int2_is_for_dense_layers_and_the_others_get_int8() -> None:
    found = [w.stored.dtype for w in weights(read_model(dynamic_int2.run(request("digits", LITERT, SMALL)).model))]
    assert found == ["int8", "int8", "int8", "int2"]


def test_int2_numbers_are_computed_as_they_are_stored() -> None:
    # A network whose weights are -1, 0 and 1 loses nothing by it.
    model = edit.unpack(tiny("digits"))
    (graph,) = model.subgraphs
    dense = graph.tensors[graph.operators[6].inputs[1]]
    whole = np.sign(np.round(edit.constant(model, dense, "float32") * 4)).astype(np.float32)
    dense.buffer = edit.add_buffer(model, whole.tobytes())
    source = edit.pack(model)
    wanted = '{"keep_float": ["CONV_2D", "DEPTHWISE_CONV_2D"]}'
    made = dynamic_int2.run(dataclasses.replace(request("digits", LITERT, wanted), model=source)).model
    samples = feeds("digits", 10, seed=9)
    assert correlation(run(source, samples)["logits"], run(made, samples)["logits"]) > 0.999


@pytest.mark.parametrize("module", [weight_only_int4, dynamic_int4, dynamic_int2])
def test_few_bits_are_refused_for_an_engine_that_computes_them_wrong(module: ModuleType) -> None:
    with pytest.raises(PassError, match=rf"tflite-runtime==2\.14\.0 has no {module.SCHEME} kernel"):
        module.run(request("digits", TFLITE, SMALL))


def test_int2_is_refused_for_releases_that_cannot_run_it() -> None:
    with pytest.raises(PassError, match="no weights became dynamic_int2"):
        dynamic_int2.run(request("digits", "ai-edge-litert==2.1.0", SMALL))


def test_dense_layers_on_int16_get_one_scale_for_tflite_runtime_which_misreads_more() -> None:
    found = [
        scales_of(int16x8.run(request("digits", engine)).model, "FULLY_CONNECTED") for engine in (TFLITE, LITERT)
    ]
    assert found == [{1}, {10}]


@pytest.mark.parametrize("algorithm", ["mse", "octav"])
def test_scales_can_be_chosen_by_other_algorithms(algorithm: str) -> None:
    plain, other = (
        weight_only_int4.run(request("digits", LITERT, json.dumps({"min_elements": 16, "algorithm": name}))).model
        for name in ("min_max", algorithm)
    )
    assert (scheme_of(other), other == plain) == ("weight_only_int4", False)


def test_an_unknown_algorithm_is_refused_with_those_there_are() -> None:
    with pytest.raises(PassError, match="'gptq' is not known") as caught:
        dynamic_int4.run(request("digits", LITERT, '{"algorithm": "gptq"}'))
    assert caught.value.hint == "known are min_max, mse, octav"
