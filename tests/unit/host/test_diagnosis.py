"""Faults planted in small models: the diagnosis names that layer first, and that reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faultymodels import LITERT, changed, network, operators, quantized, tensor_of
from tinymodels import feeds, tiny

from edgepack.diagnosis import Diagnosis, judge
from edgepack.layer_error import LayerRequest, Places, layer_errors
from edgepack.model import PassRequest
from edgepack.passes import mixed
from edgepack.worker import Workplace
from edgepack_runtime.profile import EngineRequirement
from edgepack_runtime.tensors import Array

HERE = Workplace(python=Path(sys.executable))
ENGINE = EngineRequirement(name="ai-edge-litert", version="2.3.0", num_threads=1)
Samples = Mapping[str, Array]


def diagnosed(float_model: bytes, model: bytes, samples: Samples) -> Diagnosis:
    asked = LayerRequest(float_model=float_model, quantized=model, feeds=samples, engine=ENGINE)
    return judge(layer_errors(asked, Places(host=HERE, engine=HERE)), "full_integer", 0.97)


def first(found: Diagnosis) -> tuple[str, str]:
    """Return the operator of the first layer that is blamed, and its reason."""
    finding = found.findings[0]
    return finding.layer.kind, finding.reason.name if finding.reason else "unknown"


def rescale(tensor: Any, times: float) -> None:
    """Make what a tensor can hold so many times narrower."""
    tensor.quantization.scale = tensor.quantization.scale / np.float32(times)


def samples(count: int = 8, scale: float = 1.0, seed: int = 9) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"x": (rng.normal(size=(count, 1, 16)) * scale).astype(np.float32)}


def test_of_a_healthy_model_nothing_is_said_to_be_wrong() -> None:
    model = network()
    found = diagnosed(model, quantized(model, samples(40)), samples())
    assert (found.good, found.wrong, found.way_out) == (True, (), "")


def test_calibration_on_far_smaller_values_is_recognised_at_the_input() -> None:
    model = network()
    found = diagnosed(model, quantized(model, samples(40, 0.02)), samples())
    assert (found.good, *first(found)) == (False, "QUANTIZE", "clipped")
    # Another precision is no cure for that, and none is told.
    assert (found.rule, "calibrated on samples like these" in found.way_out) == ((), True)


def test_calibration_on_far_larger_values_is_recognised_at_the_input() -> None:
    model = network()
    found = diagnosed(model, quantized(model, samples(40, 60.0)), samples())
    assert (found.good, *first(found)) == (False, "QUANTIZE", "range too wide")


def test_a_layer_whose_range_alone_is_too_narrow_is_named_first() -> None:
    model = network()

    def narrow(graph: Any, model: Any) -> None:
        rescale(tensor_of(model, "FULLY_CONNECTED", 1), 24)

    found = diagnosed(model, changed(quantized(model, samples(40)), narrow), samples())
    finding = found.findings[0]
    assert (first(found), finding.layer.name) == (("FULLY_CONNECTED", "clipped"), "h1")


def test_a_concat_whose_scale_does_not_hold_its_inputs_is_recognised() -> None:
    model = network(concat=True)

    def saturate(graph: Any, model: Any) -> None:
        for operator in operators(model, "CONCATENATION"):
            for index in (*operator.inputs, *operator.outputs):
                rescale(graph.tensors[int(index)], 24)

    found = diagnosed(model, changed(quantized(model, samples(40)), saturate), samples())
    assert (found.good, first(found)[1]) == (False, "saturated concat")


def test_a_concat_input_that_is_lost_in_the_range_of_another_is_recognised() -> None:
    model = network(concat=True, branch=1e-3)
    found = diagnosed(model, quantized(model, samples(40)), samples())
    assert (found.good, *first(found)) == (False, "FULLY_CONNECTED", "narrow concat input")


def test_a_weight_far_out_is_recognised_in_its_layer() -> None:
    # A feature that is nearly nothing, times a weight that is far beyond the others.
    def plant(weights: Array) -> None:
        weights[:, 3] *= 4000.0

    def silent(given: dict[str, Array]) -> dict[str, Array]:
        given["x"][:, :, 3] *= 1e-5
        return given

    model = network(plant={0: plant})
    found = diagnosed(model, quantized(model, silent(samples(40))), silent(samples()))
    assert (found.good, first(found), found.findings[0].layer.name) == (
        False,
        ("FULLY_CONNECTED", "weight outliers"),
        "h0",
    )


def test_channels_lost_in_the_range_of_another_are_recognised() -> None:
    def small(weights: Array) -> None:
        weights[1:] *= 1e-3

    def large(weights: Array) -> None:
        weights[:, 1:] *= 1e3

    model = network(plant={0: small, 1: large})
    found = diagnosed(model, quantized(model, samples(40)), samples())
    assert (found.good, first(found)[1], found.findings[0].layer.name) == (False, "tiny channels", "h0")


def test_a_few_values_far_out_are_recognised() -> None:
    def far(given: dict[str, Array], places: range) -> dict[str, Array]:
        for i in places:
            given["x"][i, 0, 0] = 300.0
        return given

    model = network()
    found = diagnosed(model, quantized(model, far(samples(40), range(0, 40, 4))), far(samples(), range(2)))
    assert (first(found), "in 2 of 8 samples" in found.findings[0].reason.seen) == (
        ("QUANTIZE", "range outliers"),
        True,
    )  # type: ignore[union-attr]


def test_small_values_that_a_logarithm_tells_apart_are_recognised() -> None:
    model = network(logarithm=True)
    found = diagnosed(model, quantized(model, samples(40)), samples())
    assert (found.good, first(found)[1]) == (False, "small values matter")


@pytest.mark.parametrize("constant", [-1e9, -3e30])
def test_a_huge_padding_constant_is_recognised_where_it_is_put_in(constant: float) -> None:
    def pad(graph: Any, model: Any) -> None:
        buffer = model.buffers[graph.tensors[int(operators(model, "PADV2")[0].inputs[2])].buffer]
        buffer.data = np.frombuffer(np.array(constant, np.float32).tobytes(), np.uint8)

    model = changed(tiny("digits"), pad)
    found = diagnosed(model, quantized(model, feeds("digits", 30)), feeds("digits", 6, seed=9))
    finding = found.findings[0]
    # Its layer shares one range with the convolution before it, which is where the harm begins.
    assert (found.good, first(found), "'PadV2'" in finding.reason.seen) == (  # type: ignore[union-attr]
        False,
        ("CONV_2D", "huge constant"),
        True,
    )


def test_a_layer_that_always_gives_the_same_is_recognised() -> None:
    def lose(graph: Any, model: Any) -> None:
        buffer = model.buffers[graph.tensors[int(operators(model, "FULLY_CONNECTED")[1].inputs[1])].buffer]
        buffer.data = np.zeros_like(buffer.data)

    model = network()
    found = diagnosed(model, changed(quantized(model, samples(40)), lose), samples())
    finding = found.findings[0]
    assert (finding.layer.name, finding.layer.dead, first(found)[1]) == ("h1", True, "other weights")


def test_a_model_that_the_engine_refuses_is_not_good_and_its_layer_is_named() -> None:
    def spoil(graph: Any, model: Any) -> None:
        tensor_of(model, "PADV2", 0).quantization.scale = np.array([1.3e36], np.float32)

    model = tiny("digits")
    calibrated = quantized(model, feeds("digits", 30))
    found = diagnosed(model, changed(calibrated, spoil), feeds("digits", 6, seed=9))
    assert (found.good, bool(found.errors.refused), *first(found)) == (False, True, "PADV2", "huge constant")


@pytest.mark.parametrize("fault", ["logarithm", "branch"])
def test_a_mixed_precision_by_the_rule_that_is_told_cures_the_model(fault: str) -> None:
    model = network(logarithm=True) if fault == "logarithm" else network(concat=True, branch=1e-3)
    rule = diagnosed(model, quantized(model, samples(40)), samples()).rule
    options = {"base": "full_integer", "rules": [{"layers": list(rule), "precision": "float32"}]}
    asked = PassRequest(model=model, engine=LITERT, options=json.dumps(options), calibration=samples(40))
    assert diagnosed(model, mixed.run(asked).model, samples()).good


def test_for_a_healthy_model_there_is_no_rule() -> None:
    model = network()
    assert diagnosed(model, quantized(model, samples(40)), samples()).rule == ()
