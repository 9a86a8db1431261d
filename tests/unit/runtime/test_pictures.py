"""Pictures as the frameworks that models were trained with prepare them; see `tests/data/processing`."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack_runtime.errors import InputError
from edgepack_runtime.pictures import Frame, prepare_picture
from edgepack_runtime.processing import Image

FOLDER = Path(__file__).parents[2] / "data" / "processing"
_spec = importlib.util.spec_from_file_location("make_pictures", FOLDER / "make_pictures.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

PLAIN = Image(
    input="image", layout="nhwc", colours="rgb", fit="stretch", short_side=0, fill=0, resize="bilinear",
    divisor=1.0, mean=(0.0,), std=(1.0,),
)  # fmt: skip


def prepared(pixels, side, **changes):
    return prepare_picture(pixels, replace(PLAIN, **changes), side)[0]


def kept(file, how):
    """Yield a picture, the side wanted and what a framework made of it."""
    values = np.load(FOLDER / file)
    for height, width, *wanted in made.SIZES:
        given = "x".join(map(str, (height, width, *wanted)))
        yield made.picture(height, width), tuple(wanted), values[f"{how}_{given}"]


def test_pillow_is_followed_to_the_bit():
    differing = [
        (pixels.shape, side)
        for pixels, side, theirs in kept("pillow.npz", "pillow")
        if not np.array_equal(prepared(pixels, side, resize="pillow"), theirs)
    ]
    assert differing == []


def test_gray_is_pillows_to_the_bit():
    differing = [
        (pixels.shape, side)
        for pixels, side, theirs in kept("pillow.npz", "gray")
        if not np.array_equal(prepared(pixels, side, resize="pillow", colours="gray")[..., 0], theirs)
    ]
    assert differing == []


@pytest.mark.parametrize(
    ("how", "changes", "most"),
    [
        ("bilinear", {}, 0.001),
        ("antialias", {"resize": "antialias"}, 0.001),
        ("nearest", {"resize": "nearest"}, 0),
        ("crop", {"fit": "crop"}, 0.001),
    ],
)
def test_tensorflow_is_followed(how, changes, most):
    apart = [
        abs(prepared(pixels, side, **changes) - theirs).max() for pixels, side, theirs in kept("tensorflow.npz", how)
    ]
    assert max(apart) <= most


def test_the_middle_is_cut_out_as_torchvision_cuts_it():
    pixels = np.arange(40, dtype=np.uint8).reshape(5, 8)
    # Resize(5) leaves it as it is, CenterCrop(4) begins at round(0.5) and round(2.0).
    cut = prepared(pixels, (4, 4), fit="short_side", short_side=5, colours="gray", resize="nearest")[..., 0]
    assert cut.tolist() == pixels[0:4, 2:6].tolist()


def test_a_picture_is_fitted_whole_between_bars():
    pixels = np.full((4, 8, 3), 200, np.uint8)
    rows = prepared(pixels, (8, 8), fit="pad", fill=114)[:, 0, 0]
    assert rows.tolist() == [114] * 2 + [200] * 4 + [114] * 2


@pytest.mark.parametrize(
    ("changes", "frame"),
    [
        ({}, (0, 0, 20, 40)),
        ({"fit": "crop"}, (0, 10, 20, 20)),
        ({"fit": "short_side", "short_side": 10}, (2, 12, 16, 16)),
        ({"fit": "pad"}, (-10, 0, 40, 40)),
    ],
)
def test_the_frame_says_what_part_of_the_picture_the_model_sees(changes, frame):
    found = prepare_picture(np.zeros((20, 40, 3), np.uint8), replace(PLAIN, **changes), (8, 8))[1]
    assert found == Frame(top=frame[0], left=frame[1], height=frame[2], width=frame[3], picture=found.picture)


def test_values_are_normalised_as_torchvision_does_it():
    pixels = np.array([[[0, 128, 255]]], np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = (pixels.astype(np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    assert np.array_equal(prepared(pixels, (1, 1), divisor=255.0, mean=mean, std=std), wanted)


def test_colours_are_turned_round_before_they_are_normalised():
    pixels = np.array([[[10, 20, 30]]], np.uint8)
    assert prepared(pixels, (1, 1), colours="bgr", mean=(1.0, 2.0, 3.0)).ravel().tolist() == [29, 18, 7]


def test_a_gray_picture_has_three_colours_where_the_model_wants_them():
    assert prepared(np.array([[7]], np.uint8), (1, 1)).ravel().tolist() == [7, 7, 7]


def test_channels_come_first_where_the_model_has_them_first():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(prepared(pixels, (2, 2), layout="nchw"), pixels.transpose(2, 0, 1))


def test_a_line_of_one_pixel_is_cut_and_resized_like_any_other():
    assert prepared(np.full((1, 1000, 3), 9, np.uint8), (4, 4), fit="crop").min() == 9


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (np.zeros((4, 4, 3), np.float32), "numpy array of uint8, got float32"),
        ([[0]], "numpy array of uint8, got list"),
        (np.zeros((4, 4, 4), np.uint8), r"got \[4, 4, 4\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got \[1, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got \[0, 4, 3\]"),
        (np.zeros(4, np.uint8), r"got \[4\]"),
    ],
)
def test_what_is_no_picture_is_refused(pixels, complaint):
    with pytest.raises(InputError, match=complaint):
        prepared(pixels, (4, 4))
