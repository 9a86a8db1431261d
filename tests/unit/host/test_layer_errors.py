"""Each layer's own error and the one it inherits, on models whose faults are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import faultymodels
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from faultymodels import network, quantized
from handmade import doubling
from tinymodels import feeds, request, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import DatasetError, SourceModelError
from edgepack.layer_error import LayerErrors, LayerRequest, Places, decibels, layer_errors
from edgepack.layer_plan import PlanRequest, make_plan
from edgepack.passes import dynamic_range, full_integer
from edgepack.worker import Workplace
from edgepack_runtime.profile import EngineRequirement

HERE = Workplace(python=Path(sys.executable))
ENGINE = EngineRequirement(name="ai-edge-litert", version="2.3.0", num_threads=1)


@cache
def int8(name: str) -> bytes:
    return full_integer.run(request(name)).model


def changed(data: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """Return the model after `change(model, its graph)`."""
    model = edit.unpack(data)
    change(model, model.subgraphs[0])
    return edit.pack(model)


def errors(quantized: bytes, name: str = "digits") -> LayerErrors:
    samples = feeds(name, 6, seed=9)
    asked = LayerRequest(float_model=tiny(name), quantized=quantized, feeds=samples, engine=ENGINE)
    return layer_errors(asked, Places(host=HERE, engine=HERE))


def tensor(graph: Any, kind: str, position: int, codes: list[int]) -> Any:
    """Return an input (from 0 on) or the output (-1) of the first operator of a kind."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = getattr(schema.BuiltinOperator, kind)
    operator = next(o for o in graph.operators if codes[o.opcodeIndex] == wanted)
    return graph.tensors[int(operator.outputs[0] if position < 0 else operator.inputs[position])]


def codes_of(model: Any) -> list[int]:
    return [code.builtinCode for code in model.operatorCodes]


def test_the_layers_of_a_healthy_model_are_all_measured_and_all_close() -> None:
    found = errors(int8("digits"))
    assert [layer.kind for layer in found.layers] == [
        "QUANTIZE",
        "CONV_2D",
        "PADV2",
        "MAX_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert min(layer.own_sqnr or 0.0 for layer in found.layers) > 25
    assert (found.unmatched, found.refused, found.alone_failure) == (0, "", "")
    assert [round(parity.correlation, 1) for parity in found.outputs] == [1.0, 1.0]


def test_looking_at_every_tensor_does_not_change_what_the_model_computes() -> None:
    assert errors(int8("matmul"), "matmul").disturbed == 0


def test_a_layer_that_lost_its_weights_is_found_and_those_before_it_are_not_blamed() -> None:
    def lose(model: Any, graph: Any) -> None:
        weights = tensor(graph, "DEPTHWISE_CONV_2D", 1, codes_of(model))
        model.buffers[weights.buffer].data = np.zeros_like(model.buffers[weights.buffer].data)

    found = errors(changed(int8("digits"), lose))
    wrong = [layer for layer in found.layers if (layer.own_sqnr or 0.0) < 10]
    assert [(layer.kind, layer.dead) for layer in wrong] == [("DEPTHWISE_CONV_2D", True)]
    assert (wrong[0].from_weights or 0.0) < 1 < 30 < (wrong[0].from_inputs or 0.0)
    effects = {layer.kind: layer.effect for layer in found.layers if layer.effect is not None}
    assert min(effects, key=lambda kind: effects[kind]) == "DEPTHWISE_CONV_2D"
    assert effects["DEPTHWISE_CONV_2D"] < 3 < 10 < sorted(effects.values())[1]
    # What comes after is wrong as the model runs, and right by itself.
    after = found.layers[-2]
    assert (after.kind, (after.sqnr or 0.0) < 1 < 25 < (after.own_sqnr or 0.0)) == ("FULLY_CONNECTED", True)


def test_a_model_the_engine_cannot_run_is_computed_from_its_numbers() -> None:
    def spoil(model: Any, graph: Any) -> None:
        tensor(graph, "PADV2", -1, codes_of(model)).quantization.scale = np.array([1.3e36], np.float32)

    found = errors(changed(int8("digits"), spoil))
    assert (bool(found.refused), found.outputs) == (True, ())
    first = next(layer for layer in found.layers if (layer.own_sqnr or 0.0) < 10)
    assert (first.kind, first.name) == ("PADV2", "PadV2")


def test_what_a_kernel_rounds_at_run_time_is_told_from_its_weights() -> None:
    quantized = dynamic_range.run(request("digits", options='{"min_elements": 16}')).model
    dense = next(layer for layer in errors(quantized).layers if layer.kind == "FULLY_CONNECTED")
    assert all(30 < (part or 0.0) < 60 for part in (dense.from_inputs, dense.from_weights))
    # What is left for the engine is a third rounding at most.
    assert (dense.from_engine or 0.0) > 30


def test_other_samples_than_the_float_model_takes_are_refused() -> None:
    asked = LayerRequest(
        float_model=tiny("digits"), quantized=int8("digits"), feeds={"x": np.zeros((2, 7), "f4")}, engine=ENGINE
    )
    with pytest.raises(DatasetError, match=r"samples of shape \[7\], expected \[8, 8, 1\]"):
        layer_errors(asked, Places(host=HERE, engine=HERE))


def refusal(float_model: bytes, quantized: bytes) -> str:
    with pytest.raises(SourceModelError) as caught:
        make_plan(PlanRequest(float_model=float_model, quantized=quantized))
    return caught.value.message


def test_two_models_that_have_nothing_in_common_are_refused() -> None:
    assert "do not belong together" in refusal(tiny("matmul"), int8("digits"))


def test_models_of_the_same_inputs_and_outputs_with_other_layers_are_refused() -> None:
    def become_another(graph: Any, model: Any) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TANH
        model.operatorCodes.append(code)
        first = graph.operators[0]
        first.opcodeIndex, first.inputs = len(model.operatorCodes) - 1, [first.inputs[0]]
        first.builtinOptionsType, first.builtinOptions = 0, None
        for index, one in enumerate(graph.tensors):
            one.name = f"z{index}"

    samples = {"x": np.random.default_rng(3).normal(size=(20, 1, 16)).astype(np.float32)}
    other = faultymodels.changed(network(), become_another)
    assert "3 of the 4 layers of the quantized model are not found" in refusal(other, quantized(network(), samples))


def test_the_two_models_by_turns_are_refused() -> None:
    assert "float model is quantized already (full_integer)" in refusal(int8("digits"), tiny("digits"))
    assert "nothing to explain" in refusal(tiny("digits"), tiny("digits"))


def test_a_model_of_the_same_layers_with_other_weights_is_refused() -> None:
    def train_again(model: Any, graph: Any) -> None:
        for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            buffer = model.buffers[tensor(graph, kind, 1, codes_of(model)).buffer]
            values = np.frombuffer(bytes(buffer.data), np.float32)
            new = np.random.default_rng(3).normal(scale=values.std(), size=values.size).astype(np.float32)
            buffer.data = np.frombuffer(new.tobytes(), np.uint8)

    assert "most of their weights are others" in refusal(changed(tiny("digits"), train_again), int8("digits"))


def test_a_model_with_state_is_refused() -> None:
    def remember(model: Any, graph: Any) -> None:
        graph.tensors[int(graph.operators[0].outputs[0])].isVariable = True

    assert "keeps state between runs" in refusal(changed(tiny("digits"), remember), int8("digits"))


def test_a_model_too_large_to_hold_every_tensor_is_refused_before_anything_runs() -> None:
    huge = doubling([1, 1 << 28])
    assert "1 operators that compute 2,147,483,648 bytes" in refusal(huge, huge)


def test_a_constant_that_is_shorter_than_its_shape_is_refused() -> None:
    def cut_short(model: Any, graph: Any) -> None:
        buffer = model.buffers[tensor(graph, "CONV_2D", 1, codes_of(model)).buffer]
        buffer.data = buffer.data[:-8]

    assert "one of the files is damaged" in refusal(tiny("digits"), changed(int8("digits"), cut_short))


def test_a_scale_that_is_no_number_is_refused() -> None:
    def spoil(model: Any, graph: Any) -> None:
        tensor(graph, "CONV_2D", -1, codes_of(model)).quantization.scale = np.array([np.inf], np.float32)

    assert "has the scale inf" in refusal(tiny("digits"), changed(int8("digits"), spoil))


@pytest.mark.parametrize(("signal", "noise", "ratio"), [(100, 1, 20), (1, 0, 120), (1, 1e300, -120), (0, 1, None)])
def test_decibels_are_bounded(signal: float, noise: float, ratio: float | None) -> None:
    assert decibels(signal, noise) == ratio
