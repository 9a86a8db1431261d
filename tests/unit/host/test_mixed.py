"""Mixed precision on real models: each layer gets its own, engines compute it right, and nothing named is ignored."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from tinymodels import LITERT, TFLITE, correlation, feeds, request, run, tiny

from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.layers import layers_of
from edgepack.model import PassRequest
from edgepack.passes import float16, full_integer, mixed
from edgepack.passes._choose import LayerRule
from edgepack.passoptions import options_text
from edgepack.schemes import scheme_of_weight, weights

DENSE = "PartitionedCall:0"
FEW_BITS = {"weight_only_int4": 0.98, "dynamic_int4": 0.98, "dynamic_int2": 0.6}


def order(base: str, *rules: tuple[str, str], engine: str = LITERT, name: str = "digits") -> PassRequest:
    chosen = tuple(LayerRule(layers=(layer,), precision=precision) for layer, precision in rules)
    return request(name, engine, options_text(mixed.Options(base=base, rules=chosen, min_elements=16)))


def stored(model: bytes) -> list[str]:
    return [scheme_of_weight(w) for w in weights(read_model(model))]


@pytest.mark.parametrize(
    "base", ["float32", "float16", "dynamic_range", "full_integer", "int16x8", "weight_only_int8"]
)
@pytest.mark.parametrize(
    "precision", ["float32", "float16", "dynamic_range", "full_integer", "int16x8", "weight_only_int8"]
)
def test_a_named_layer_has_its_own_precision_and_every_output_stays_right(base: str, precision: str) -> None:
    if base == precision == "float32":
        pytest.skip("nothing is quantized")
    result = mixed.run(order(base, (DENSE, precision)))
    samples = feeds("digits", 10, seed=9)
    before, after = run(tiny("digits"), samples), run(result.model, samples)
    assert stored(result.model)[-1] == precision
    assert {name: array.dtype for name, array in after.items()} == dict.fromkeys(before, np.float32)
    assert min(correlation(before[name], after[name]) for name in before) > 0.9


@pytest.mark.parametrize("precision", FEW_BITS)
def test_fewer_bits_are_for_litert_and_still_near_the_float_model(precision: str) -> None:
    result = mixed.run(order("float32", (DENSE, precision)))
    samples = feeds("digits", 10, seed=9)
    logits = [run(model, samples)["logits"] for model in (tiny("digits"), result.model)]
    assert stored(result.model)[-1] == precision
    assert correlation(*logits) > FEW_BITS[precision]


@pytest.mark.parametrize("precision", ["weight_only_int4", "dynamic_int4", "dynamic_int2"])
def test_an_engine_without_such_a_kernel_refuses_the_rule(precision: str) -> None:
    with pytest.raises(PassError, match=rf"can be {precision} on tflite-runtime") as caught:
        mixed.run(order("float32", (DENSE, precision), engine=TFLITE))
    assert "they can be float32, float16, full_integer" in str(caught.value.hint)


def test_sizes_lie_between_those_of_the_two_precisions() -> None:
    whole, half, none = (
        len(mixed.run(order("dynamic_range", (DENSE, precision))).model)
        for precision in ("dynamic_range", "float16", "float32")
    )
    assert whole + 1000 < half < none - 1000


@pytest.mark.parametrize("text", [DENSE, "#6", "op:FULLY_CONNECTED", "re:Partitioned.*:0$"])
def test_a_layer_is_named_by_name_place_operator_or_expression(text: str) -> None:
    found = stored(mixed.run(order("dynamic_range", (text, "float32"))).model)
    assert found == ["dynamic_range", "dynamic_range", "dynamic_range", "float32"]


def test_of_two_rules_for_a_layer_the_later_wins() -> None:
    found = stored(mixed.run(order("float32", ("re:.", "dynamic_range"), (DENSE, "float16"))).model)
    assert found == ["dynamic_range", "dynamic_range", "dynamic_range", "float16"]


def test_a_named_layer_has_no_least_size() -> None:
    base = mixed.Options(base="dynamic_range", rules=(LayerRule(layers=("#0",), precision="dynamic_range"),))
    found = stored(mixed.run(request("digits", options=options_text(base))).model)
    assert found == ["dynamic_range", "float32", "float32", "dynamic_range"]


@pytest.mark.parametrize("text", ["PartitionedCall:9", "#99", "op:LSTM", "re:nothing"])
def test_a_rule_that_names_no_layer_is_refused(text: str) -> None:
    with pytest.raises(PassError, match="the model has no layer"):
        mixed.run(order("dynamic_range", (text, "float32")))


def test_a_misspelt_layer_is_refused_with_the_nearest() -> None:
    with pytest.raises(PassError, match=r"did you mean 'PartitionedCall:0'\?"):
        mixed.run(order("dynamic_range", ("PartitonedCall:0", "float32")))


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(PassError, match="is no regular expression"):
        mixed.run(order("dynamic_range", ("re:(", "float32")))


@pytest.mark.parametrize(("base", "precision"), [("float31", "float32"), ("float32", "int3")])
def test_an_unknown_precision_is_refused(base: str, precision: str) -> None:
    with pytest.raises(PassError, match="is none a layer can have"):
        mixed.run(order(base, (DENSE, precision)))


def test_a_precision_that_no_named_layer_can_have_is_refused() -> None:
    with pytest.raises(PassError, match=r"no layer of op:SOFTMAX \(SOFTMAX\) can be dynamic_range"):
        mixed.run(order("full_integer", ("op:SOFTMAX", "dynamic_range")))


def test_a_model_that_stays_float_is_refused() -> None:
    with pytest.raises(PassError, match="no weights were quantized"):
        mixed.run(order("dynamic_range", ("re:.", "float32")))


def test_the_notes_count_the_layers_and_name_those_that_got_something_else() -> None:
    notes = " | ".join(mixed.run(order("float32", ("re:.", "dynamic_int4"))).notes)
    assert "layers with weights: 3 dynamic_int4, 1 dynamic_range" in notes
    assert "named otherwise, but became dynamic_range: depthwise" in notes


def test_integers_need_calibration_samples() -> None:
    wanted = dataclasses.replace(order("float32", (DENSE, "full_integer")), calibration={})
    with pytest.raises(PassError, match="calibration data is named"):
        mixed.run(wanted)


def test_rules_of_the_recipe_are_read_strictly() -> None:
    rules = json.dumps({"rules": [{"layers": [DENSE], "precison": "float32"}]})
    with pytest.raises(PassError, match=r"options\.rules\[0\]: a LayerRule has the fields"):
        mixed.run(request("digits", options=rules))


def test_layers_are_listed_as_rules_name_them() -> None:
    layers = [layer for layer in layers_of(read_model(tiny("digits"))) if layer.elements]
    assert [(layer.index, layer.operator, layer.weight_bytes) for layer in layers] == [
        (0, "CONV_2D", 288),
        (3, "CONV_2D", 1152),
        (4, "DEPTHWISE_CONV_2D", 288),
        (6, "FULLY_CONNECTED", 5120),
    ]


def test_a_float16_source_has_the_same_layers_under_other_places() -> None:
    halved = float16.run(request("digits")).model
    before, after = (layers_of(read_model(data)) for data in (tiny("digits"), halved))
    assert [(a.name, a.operator, a.elements) for a in after] == [(b.name, b.operator, b.elements) for b in before]
    assert after[0].index > before[0].index


def test_a_float16_source_can_be_mixed_by_its_own_places() -> None:
    halved = float16.run(request("digits")).model
    (dense,) = [layer for layer in layers_of(read_model(halved)) if layer.operator == "FULLY_CONNECTED"]
    wanted = order("dynamic_range", (f"#{dense.index}", "float16"))
    found = stored(mixed.run(dataclasses.replace(wanted, model=halved)).model)
    assert found == ["dynamic_range", "dynamic_range", "dynamic_range", "float16"]


def test_an_operator_kept_float_after_an_integer_output_keeps_both_outputs_right() -> None:
    # ai-edge-quantizer 0.10 makes what it quantizes for the reader the output, or leaves the signature behind.
    samples = feeds("digits", 10, seed=9)
    before = run(tiny("digits"), samples)
    for operator in ("FULLY_CONNECTED", "SOFTMAX"):
        model = full_integer.run(request("digits", options=json.dumps({"keep_float": [operator]}))).model
        after = run(model, samples)
        assert min(correlation(before[name], after[name]) for name in before) > 0.9
