"""Dense layers without a bias, which crash tflite-runtime on ARM in int8: they get one of zeros."""

from __future__ import annotations

import numpy as np
import pytest
from tinymodels import LITERT, TFLITE, correlation, run, tiny
from tools.prediction_matrix.models import read_archive
from tools.prediction_matrix.networks import samples

from edgepack.fit import check_fit
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.passes import full_integer
from edgepack.passes._biases import with_biases
from edgepack.profiles import load_profile

BOARD = load_profile("raspberry-pi-3")


@pytest.fixture(scope="module")
def attention() -> bytes:
    return read_archive()["attention.float32"]


def quantized(model: bytes, engine: str) -> PassResult:
    request = PassRequest(model=model, engine=engine, options="{}", calibration={"x": samples("attention")})
    return full_integer.run(request)


def refused(model: bytes) -> list[str]:
    return [f.check for f in check_fit(model, BOARD) if not f.holds]


def test_an_int8_network_for_tflite_runtime_does_not_crash_on_arm(attention: bytes) -> None:
    made = {engine: quantized(attention, engine) for engine in (TFLITE, LITERT)}
    assert [refused(made[engine].model) for engine in (TFLITE, LITERT)] == [[], ["tensor types"]]
    assert "4 dense layers got a bias of zeros: the engine crashes without one on ARM" in made[TFLITE].notes


def test_a_bias_of_zeros_changes_no_output(attention: bytes) -> None:
    inputs = {"x": samples("attention")}
    data, count = with_biases(attention)
    assert (count, np.array_equal(run(attention, inputs)["y"], run(data, inputs)["y"])) == (4, True)
    assert correlation(run(attention, inputs)["y"], run(quantized(attention, TFLITE).model, inputs)["y"]) > 0.999


def test_layers_of_one_row_and_with_a_bias_are_left_alone() -> None:
    models = (tiny("digits"), tiny("matmul"), read_archive()["mlp.float32"])
    assert [with_biases(model) for model in models] == [(model, 0) for model in models]


def test_biases_are_added_once(attention: bytes) -> None:
    once, _ = with_biases(attention)
    assert with_biases(once) == (once, 0)
    names = [t.name for t in read_model(once).subgraphs[0].tensors]
    assert len(names) == len(set(names))
