"""Inputs and outputs of every kind: several, of several types, scalars, open dimensions, states, either layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from test_converters import check, convert, interface, made_by, noise, outputs_of

from edgepack.errors import ConversionError
from edgepack.flatbuffer import read_model
from edgepack.layout import laid_out
from edgepack.model import Conversion
from edgepack.recipe import parse_layout
from edgepack_runtime.tensors import Array

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def onnx_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("make_shapes_onnx.py", "onnx", tmp_path_factory.mktemp("onnx-shapes"))


@pytest.fixture(scope="session")
def tensorflow_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("make_shapes_tensorflow.py", "tensorflow", tmp_path_factory.mktemp("tensorflow-shapes"))


def gated_feeds() -> dict[str, Array]:
    random = np.random.default_rng(1)
    return {
        "pixels": random.integers(0, 256, (6, 4)).astype(np.uint8),
        "mask": random.integers(0, 2, (6, 4)).astype(bool),
        "gain": noise(6),
    }


def equal(conversion: Conversion, feeds: Mapping[str, Array]) -> None:
    """Hold what the host's engine computes against the source's outputs, whole numbers to the digit."""
    found = outputs_of(conversion.tflite, feeds)
    for name, reference in conversion.reference.items():
        got = found[name].reshape(reference.shape)
        assert got.dtype == reference.dtype
        np.testing.assert_allclose(got, reference, rtol=0, atol=1e-4 * np.ptp(reference.astype(np.float64)))


def test_bytes_truth_values_and_a_scalar_go_in_and_a_number_comes_out_of_onnx(onnx_shapes: Path) -> None:
    conversion = convert(onnx_shapes / "gated.onnx", gated_feeds(), inputs=["gain:float32:", "pixels:uint8:1,4"])
    assert interface(conversion) == (
        ["pixels: uint8[1, 4]", "mask: bool[1, 4]", "gain: float32[]"],
        ["y: float32[1, 3]", "best: int64[1]"],
    )
    equal(conversion, gated_feeds())


def test_bytes_truth_values_and_a_scalar_go_in_and_a_number_comes_out_of_tensorflow(tensorflow_shapes: Path) -> None:
    conversion = convert(tensorflow_shapes / "functions", gated_feeds(), signature_key="gated")
    assert interface(conversion) == (
        ["gain: float32[]", "mask: bool[1, 4]", "pixels: uint8[1, 4]"],
        ["best: int64[1]", "bright: bool[1]", "y: float32[1, 3]"],
    )
    equal(conversion, gated_feeds())


def test_a_dtype_other_than_the_models_is_refused(onnx_shapes: Path) -> None:
    with pytest.raises(ConversionError, match="'pixels' is of type uint8, float32 was asked for"):
        convert(onnx_shapes / "gated.onnx", gated_feeds(), inputs=["pixels:float32:1,4"])


def test_token_ids_of_open_length_stand_beside_a_vector(tensorflow_shapes: Path) -> None:
    feeds = {"ids": np.random.default_rng(1).integers(0, 20, (6, 7)), "meta": noise(6, 3)}
    conversion = convert(tensorflow_shapes / "mixed.keras", feeds, inputs=["ids:int64:1,7"])
    assert interface(conversion) == (
        ["ids: int64[1, 7]", "meta: float32[1, 3]"],
        ["good: bool[1, 5]", "score: float32[1, 5]"],
    )
    equal(conversion, feeds)


DOUBLE = {"x": noise(6, 4).astype(np.float64)}


@pytest.fixture(scope="session")
def double_keras(tensorflow_shapes: Path) -> Conversion:
    return check(tensorflow_shapes / "double.keras", DOUBLE)


@pytest.fixture(scope="session")
def double_onnx(onnx_shapes: Path) -> Conversion:
    return check(onnx_shapes / "double.onnx", DOUBLE)


@pytest.mark.parametrize("fixture", ["double_keras", "double_onnx"])
def test_a_float64_model_takes_and_gives_float64(request: pytest.FixtureRequest, fixture: str) -> None:
    assert interface(request.getfixturevalue(fixture)) == (["x: float64[1, 4]"], ["y: float64[1, 3]"])


@pytest.mark.parametrize("fixture", ["double_keras", "double_onnx"])
def test_that_a_bundle_computes_float64_in_float32_is_told(request: pytest.FixtureRequest, fixture: str) -> None:
    assert any("in float32" in note for note in request.getfixturevalue(fixture).notes)


def test_an_open_number_of_steps_is_fixed(tensorflow_shapes: Path) -> None:
    conversion = check(tensorflow_shapes / "time.keras", {"steps": noise(6, 5, 4)}, inputs=["steps:1,5,4"])
    assert interface(conversion) == (["steps: float32[1, 5, 4]"], ["states: float32[1, 5, 6]"])


@pytest.mark.parametrize(
    ("fixture", "name", "options"),
    [("tensorflow_shapes", "functions", {"signature_key": "centred"}), ("onnx_shapes", "centred.onnx", {})],
)
def test_a_source_that_mixes_the_samples_of_a_batch_is_told_of(
    request: pytest.FixtureRequest, fixture: str, name: str, options: dict[str, str]
) -> None:
    notes = convert(request.getfixturevalue(fixture) / name, {"x": noise(6, 4)}, **options).notes
    assert any(note.startswith("the source mixes the samples of a batch: output 'y' of 4") for note in notes)


@pytest.mark.parametrize("fixture", ["double_keras", "double_onnx"])
def test_a_source_that_does_not_mix_them_is_told_of_too(request: pytest.FixtureRequest, fixture: str) -> None:
    notes = request.getfixturevalue(fixture).notes
    assert "the source gives for 4 samples at once what it gives one by one" in notes


def test_a_state_that_the_caller_carries_is_an_input_and_an_output(onnx_shapes: Path) -> None:
    conversion = check(onnx_shapes / "step.onnx", {"x": noise(6, 4), "state": noise(6, 5)})
    stream, state = noise(12, 4), np.zeros((1, 5), np.float32)
    gru = gated_recurrent_unit()
    for x in stream:
        found = outputs_of(conversion.tflite, {"x": x[None], "state": state})
        expected = gru(x, state[0])
        state = found["next_state"].reshape(1, 5)
        np.testing.assert_allclose(state[0], expected, atol=1e-5)


def gated_recurrent_unit():
    """Return ONNX's GRU by its formula, with the weights of the source script."""
    random = np.random.default_rng(0)
    for shape in ((4, 3), (4, 3)):
        random.normal(size=shape)
    w, r = (random.normal(size=shape).astype(np.float32)[0] for shape in ((1, 15, 4), (1, 15, 5)))

    def step(x: Array, h: Array) -> Array:
        z, k = (1 / (1 + np.exp(-(x @ w[i : i + 5].T + h @ r[i : i + 5].T))) for i in (0, 5))
        new = np.tanh(x @ w[10:].T + (k * h) @ r[10:].T)
        return (1 - z) * new + z * h

    return step


# Layout


def operators(data: bytes) -> list[str]:
    return [operator.name for _, operator in read_model(data).operators()]


@pytest.fixture(scope="session")
def segmenter(onnx_shapes: Path) -> Conversion:
    return check(onnx_shapes / "segmenter.onnx", {"image": noise(6, 3, 32, 24)})


def test_a_channels_last_bundle_of_a_channels_first_model_has_no_transpose(segmenter: Conversion) -> None:
    assert operators(segmenter.tflite).count("TRANSPOSE") == 2
    laid = laid_out(segmenter.tflite, segmenter.inputs, segmenter.outputs, parse_layout(["nhwc"]))
    assert laid is not None
    assert operators(laid.data).count("TRANSPOSE") == 0


def test_a_channels_last_bundle_computes_the_same(segmenter: Conversion) -> None:
    laid = laid_out(segmenter.tflite, segmenter.inputs, segmenter.outputs, parse_layout(["nhwc"]))
    assert laid is not None
    frames = noise(6, 3, 32, 24).transpose(0, 2, 3, 1)
    found = outputs_of(laid.data, {"image": np.ascontiguousarray(frames)})["mask"]
    np.testing.assert_allclose(found[:, 0].transpose(0, 3, 1, 2), segmenter.reference["mask"], atol=1e-4)


def test_a_build_ships_the_layout_it_was_told(shop, onnx_shapes: Path) -> None:
    np.save(shop.folder / "frames.npy", noise(20, 3, 32, 24))
    done = shop.run(
        "build", onnx_shapes / "segmenter.onnx", "--calibration", "frames.npy", "--profile", "raspberry-pi-4",
        "--precision", "float32", "--layout", "nhwc", "--json", "-o", "layout",
    )  # fmt: skip
    assert done.code == 0, done.err
    manifest = done.json()["bundles"][0]["manifest"]
    assert manifest["model"]["inputs"][0]["shape"] == [1, 32, 24, 3]
    assert manifest["model"]["outputs"][0]["shape"] == [1, 32, 24, 2]
    assert [step["use"] for step in manifest["provenance"]["steps"]] == [
        "convert onnx by onnx2tf",
        "layout",
        "float32",
    ]
    assert "TRANSPOSE operators 2 before, 0 after" in done.err
