"""What may be declared before and behind a model, and what a hostile bundle may not make a device do."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

import realbundle
from edgepack_runtime._fields import Fields
from edgepack_runtime.errors import FormatError, SchemaError
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.processing import Classes, Image, Processing, take_processing

IMAGE = {
    "input": "image",
    "layout": "nhwc",
    "colours": "rgb",
    "fit": "stretch",
    "short_side": 0,
    "fill": 0,
    "resize": "bilinear",
    "divisor": 255.0,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25],
}
MANIFEST = realbundle.manifest(realbundle.model("int8"), realbundle.profile())
CLASSES = {"output": "scores", "activation": "softmax", "top": 3, "threshold": 0.5}


def read(table: object) -> Processing:
    return take_processing(Fields(table, "processing"))


def test_what_is_declared_is_read():
    image = Image(**IMAGE | {"mean": (0.5, 0.5, 0.5), "std": (0.25,)})
    wanted = Processing(image=image, classes=Classes(**CLASSES))
    assert read({"image": IMAGE, "classes": CLASSES}) == wanted


def test_a_manifest_carries_it_there_and_back():
    manifest = dataclasses.replace(MANIFEST, processing=read({"image": IMAGE, "classes": CLASSES}))
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_a_manifest_without_it_is_as_it_was_before():
    assert b"processing" not in MANIFEST.to_bytes()


def test_a_manifest_names_the_field_that_is_wrong():
    table = json.loads(MANIFEST.to_bytes())
    table["processing"] = {"image": IMAGE | {"fit": "squeeze"}}
    with pytest.raises(FormatError, match=r"manifest\.processing\.image\.fit: 'squeeze' is none of stretch"):
        Manifest.from_bytes(json.dumps(table).encode())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"short_side": 10**9, "fit": "short_side"}, "1000000000 is not from 0 to 4096"),
        ({"short_side": -1, "fit": "short_side"}, "-1 is not from 0"),
        ({"short_side": 256}, "short_side: above 0 with fit"),
        ({"fill": 3}, "fill: above 0 with fit"),
        ({"mean": [math.nan]}, "mean: expected numbers from -1e"),
        ({"mean": [0.0] * 4}, "mean: expected one number, or one for each colour"),
        ({"std": [0.0]}, "std: expected numbers from 1e-09"),
        ({"std": [10**400]}, "std: expected numbers from 1e-09"),
        ({"divisor": math.nan}, "divisor: nan is not from 1e-09"),
        ({"divisor": math.inf}, "divisor: inf is not from 1e-09"),
        ({"colours": "gray"}, "mean: expected one number"),
        ({"antialias": True}, "unknown field"),
    ],
)
def test_an_image_beyond_its_bounds_is_refused(change, complaint):
    with pytest.raises(SchemaError, match=complaint):
        read({"image": IMAGE | change})


@pytest.mark.parametrize("change", [{"top": 10**9}, {"top": 0}, {"threshold": math.nan}, {"activation": "relu"}])
def test_classes_beyond_their_bounds_are_refused(change):
    with pytest.raises(SchemaError, match=f"processing.classes.{next(iter(change))}"):
        read({"classes": CLASSES | change})


def test_a_declaration_of_nothing_is_refused():
    with pytest.raises(SchemaError, match="at least one of image, audio, mel, classes"):
        read({})


@pytest.mark.parametrize("member", IMAGE)
def test_every_member_of_an_image_has_to_be_there(member):
    with pytest.raises(SchemaError, match=rf"processing\.image\.{member}: missing"):
        read({"image": {name: value for name, value in IMAGE.items() if name != member}})
