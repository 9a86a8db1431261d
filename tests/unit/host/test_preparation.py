"""What edgepack.toml declares before and behind a model, and whether it is true of the model."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tomllib

from doctext import text_of
from edgepack.errors import RecipeError
from edgepack.preparation import DEFAULTS, Preparation, take_preparation
from edgepack.recipe import load_recipe
from edgepack_runtime._fields import Fields
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec

IMAGE = {"size": [8, 6], "divisor": 255}
SCORES = TensorSpec(name="scores", dtype="float32", shape=(1, 3))


def read(**table: object) -> Preparation | None:
    return take_preparation(Fields({"processing": table}, "edgepack.toml"))


def spec(*shape: int, dtype: str = "float32", quantized: bool = False) -> TensorSpec:
    quantization = QuantizationParameters(scale=(0.5,), zero_point=(0,)) if quantized else None
    return TensorSpec(name="image", dtype=dtype, shape=shape, quantization=quantization)


def test_a_file_without_the_table_declares_nothing():
    assert take_preparation(Fields({}, "edgepack.toml")) is None


def test_what_a_file_leaves_out_is_filled_in():
    read_back = read(image=IMAGE, classes={})
    image, classes = read_back.declared.image, read_back.declared.classes
    assert (read_back.size, image.resize, image.mean, classes.top) == ((8, 6), "bilinear", (0.0,), 5)


def test_the_table_is_read_from_edgepack_toml(tmp_path):
    (tmp_path / "edgepack.toml").write_text(
        '[model]\npath = "m"\n[data]\ncalibration = "c"\n[build]\nprofiles = ["p"]\n'
        "[processing.image]\nsize = [8, 6]\ndivisor = 255\n"
    )
    assert load_recipe(tmp_path / "edgepack.toml").processing == read(image=IMAGE)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"image": {}}, r"image\.size: expected \[height, width\]"),
        ({"image": {"size": [8]}}, r"image\.size: expected"),
        ({"image": {"size": [8, 10**9]}}, r"image\.size: expected"),
        ({"image": {"size": [True, 8]}}, r"image\.size: expected"),
        ({"image": {"size": [8, -8]}}, r"image\.size: expected"),
        ({"image": IMAGE | {"dtype": "float16"}}, r"image\.dtype: 'float16' is none of float32"),
        ({"image": IMAGE | {"mean": [math.nan]}}, r"image\.mean: expected numbers"),
        ({"image": IMAGE | {"colour": "rgb"}}, r"image\.colour: unknown field \(did you mean 'colours'"),
        ({"classes": {"top": 0}}, r"classes\.top: 0 is not from 1"),
        ({"audio": {"rate": 8000, "samples": 12, "shape": [3, 5]}}, r"audio\.shape: expected 12 numbers like \[12\]"),
        ({"audio": {"rate": 8000, "samples": 12, "shape": [-3, -4]}}, r"audio\.shape: expected 12 numbers"),
        ({"audio": {"rate": 8000, "samples": 12, "shape": 12}}, r"audio\.shape: expected 12 numbers"),
        ({"text": {}}, "image: expected at least one of image, audio"),
        ({"image": []}, r"image: expected table"),
    ],
)
def test_a_declaration_that_is_wrong_names_the_field(table, complaint):
    with pytest.raises(SchemaError, match=f"edgepack.toml.processing.{complaint}"):
        read(**table)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_documented_are_those_of_the_reader(name):
    document = text_of(Path(__file__).parents[3] / "docs" / "processing.md").split("## In edgepack.toml")[1]
    table = document.split(f"| Field of `processing.{name}` ")[1].split("\n\n")[0]
    told = {
        field: tomllib.loads(f"x = {value}")["x"]
        for field, value in re.findall(r"^\| `(\w+)` \| `(.*?)`", table, re.M)
    }
    told.pop("dtype", None)
    assert told == DEFAULTS[name]


def test_the_only_input_and_output_need_no_name():
    fitted = read(image=IMAGE, classes={}).for_model((spec(1, 8, 6, 3),), (SCORES,), ())
    assert (fitted.image.input, fitted.classes.output) == ("image", "scores")


def test_one_of_several_outputs_has_to_be_named():
    with pytest.raises(RecipeError, match=r"classes\.output is missing: there are scores.*, image"):
        read(classes={}).for_model((), (SCORES, spec(1, 2)), ())


def test_a_bundle_declares_the_layout_that_the_build_gave_its_model():
    fitted = read(image=IMAGE | {"layout": "nchw"}).for_model((spec(1, 8, 6, 3),), (), ())
    assert fitted.image.layout == "nhwc"


def test_a_model_of_another_size_is_told():
    with pytest.raises(RecipeError, match=r"declares rgb of \[8, 6\], the model takes image: float32\[1, 6, 8, 3\]"):
        read(image=IMAGE).for_model((spec(1, 6, 8, 3),), (), ())


def test_a_float_model_that_was_quantized_here_keeps_its_declaration():
    fitted = read(image=IMAGE).for_model((spec(1, 8, 6, 3, dtype="int8", quantized=True),), (), ())
    assert fitted.image.divisor == 255


def test_a_model_that_came_quantized_is_refused_for_stored_numbers():
    with pytest.raises(RecipeError, match="was quantized before it came here"):
        read(image=IMAGE | {"dtype": "uint8"}).for_model((spec(1, 8, 6, 3, dtype="uint8", quantized=True),), (), ())


def test_another_dtype_than_the_models_is_told():
    with pytest.raises(RecipeError, match=r"dtype is float32, the model takes image: uint8"):
        read(image=IMAGE).for_model((spec(1, 8, 6, 3, dtype="uint8"),), (), ())


def test_sound_and_its_features_are_declared_too():
    mel = {"frame": 400, "hop": 640, "fft": 512, "bins": 20, "high": 7500}
    declared = read(audio={"rate": 16000, "samples": 4000}, mel=mel)
    fitted = declared.for_model((spec(1, 6, 20, 1),), (), ())
    assert (fitted.audio.input, fitted.mel.filters, fitted.mel.power) == ("image", "tensorflow", 2)


def test_features_that_are_not_as_many_as_the_model_takes_are_told():
    declared = read(audio={"rate": 16000, "samples": 4000})
    with pytest.raises(RecipeError, match=r"processing\.audio: 4000 numbers .* are no input image"):
        declared.for_model((spec(1, 16000),), (), ())


def test_labels_that_are_not_as_many_as_the_scores_are_told():
    with pytest.raises(RecipeError, match="there are 2 labels, the model gives scores"):
        read(classes={}).for_model((), (SCORES,), ("a", "b"))


def test_boxes_and_scores_of_the_only_output_need_no_name():
    inputs, outputs = (spec(1, 8, 6, 3),), (replace(SCORES, shape=(1, 9, 6)),)
    fitted = read(image=IMAGE, boxes={}).for_model(inputs, outputs, ("cat", "dog"))
    assert (fitted.boxes.boxes, fitted.boxes.scores, fitted.boxes.classes) == ("scores", "scores", "")


def test_boxes_that_are_not_the_models_are_refused_at_build():
    inputs, outputs = (spec(1, 8, 6, 3),), (replace(SCORES, shape=(1, 9, 6)),)
    with pytest.raises(RecipeError, match="9 times 2 scores, 9 boxes and 3 labels"):
        read(image=IMAGE, boxes={}).for_model(inputs, outputs, ("cat", "dog", "bird"))
