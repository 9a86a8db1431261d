"""Every precision on the engines it is for: what they compute is what the float model computes."""

from __future__ import annotations

import functools
import importlib
import json

import numpy as np
import pytest
from tools.prediction_matrix import networks
from tools.prediction_matrix.models import read_archive

from edgepack.lab import LabRequest, run_in_lab
from edgepack.model import PassRequest
from edgepack.toolchain import engine_toolchain, ensure
from edgepack.worker import Workplace
from edgepack_runtime.tensors import Array

pytestmark = pytest.mark.slow
LITERT, TFLITE = ("ai-edge-litert", "2.3.0"), ("tflite-runtime", "2.14.0")
DENSE_MIX = {"base": "float16", "rules": [{"layers": ["op:FULLY_CONNECTED"], "precision": "full_integer"}]}
WIDE_MIX = {"base": "int16x8", "rules": [{"layers": ["op:FULLY_CONNECTED"], "precision": "dynamic_range"}]}
CASES = [
    ("attention", "int16x8", {}),
    ("conv", "int16x8", {}),
    ("attention", "weight_only_int8", {"min_elements": 16}),
    ("conv", "weight_only_int8", {"min_elements": 16}),
    ("attention", "mixed", DENSE_MIX),
    ("attention", "mixed", WIDE_MIX),
]
FEW_BITS = [("mlp", "dynamic_int4"), ("conv", "dynamic_int4"), ("conv", "weight_only_int4"), ("mlp", "dynamic_int2")]


def outputs(model: bytes, engine: tuple[str, str], x: Array) -> Array:
    place = Workplace(python=ensure(engine_toolchain(*engine), offline=False, say=print))
    request = LabRequest(model=model, engine=engine[0], version=engine[1], num_threads=1, feeds={"x": x})
    (found,) = run_in_lab(request, place).outputs.values()
    return found.ravel().astype(np.float64)


@functools.cache
def truth(network: str, engine: tuple[str, str]) -> Array:
    return outputs(read_archive()[f"{network}.float32"], engine, networks.samples(network)[:4])


def likeness(network: str, scheme: str, options: dict[str, object], engine: tuple[str, str]) -> float:
    source, x = read_archive()[f"{network}.float32"], networks.samples(network)
    request = PassRequest(model=source, engine="==".join(engine), options=json.dumps(options), calibration={"x": x})
    model = importlib.import_module(f"edgepack.passes.{scheme}").run(request).model
    return float(np.corrcoef(truth(network, engine), outputs(model, engine, x[:4]))[0, 1])


@pytest.mark.parametrize("engine", [LITERT, TFLITE], ids=["litert", "tflite"])
@pytest.mark.parametrize(("network", "scheme", "options"), CASES)
def test_what_both_engines_have_is_right_on_both(
    network: str, scheme: str, options: dict[str, object], engine: tuple[str, str]
) -> None:
    assert likeness(network, scheme, options, engine) > 0.999


@pytest.mark.parametrize(("network", "scheme"), FEW_BITS)
def test_few_bits_are_right_where_they_are_built(network: str, scheme: str) -> None:
    assert likeness(network, scheme, {"min_elements": 16}, LITERT) > 0.999
