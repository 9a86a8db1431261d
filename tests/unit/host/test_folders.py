"""Folders of pictures as data: what is in them, which class, and that they are prepared as a device prepares them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.dataset import Dataset
from edgepack.errors import DatasetError
from edgepack.folders import load_folder, prepare_arrays
from edgepack.preparation import take_preparation
from edgepack_runtime._fields import Fields
from edgepack_runtime.pictures import prepare_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3)).astype(np.uint8)
TABLE = {"size": [4, 3], "divisor": 127.5, "mean": [1], "resize": "pillow"}


def declared(**changes: object):
    return take_preparation(Fields({"processing": {"image": TABLE | changes}}, "edgepack.toml"))


def prepared(pixels, preparation):
    return np.stack([prepare_picture(p, preparation.declared.image, preparation.size)[0] for p in pixels])


def arrays(**feeds: object) -> Dataset:
    return Dataset(path=Path("data.npz"), feeds=feeds, labels=None, digest="")


@pytest.fixture
def folder(tmp_path):
    """Return a folder of two classes, whose files have the pixels of `PIXELS` in this order."""
    image = pytest.importorskip("PIL.Image")
    for i, name in enumerate(("cat/a", "cat/b", "dog/a", "dog/b", "dog/c")):
        path = tmp_path / "data" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(PIXELS[i]).save(path)
    return tmp_path / "data"


def test_pictures_are_prepared_as_a_device_prepares_them(folder):
    data = load_folder(folder, "calibration", declared(), ())
    assert np.array_equal(data.feeds["x"], prepared(PIXELS, declared()))


def test_a_folder_may_be_named_from_where_one_is(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert load_folder(Path(folder.name), "calibration", declared(), ()).count == 5


def test_sub_folders_are_classes_in_the_order_of_their_names(folder):
    assert load_folder(folder, "calibration", declared(), ()).labels.tolist() == [0, 0, 1, 1, 1]


def test_sub_folders_are_the_classes_that_the_labels_say(folder):
    labels = ("dog", "bird", "cat")
    assert load_folder(folder, "calibration", declared(), labels).labels.tolist() == [2, 2, 0, 0, 0]


def test_pictures_in_the_folder_itself_have_no_class(folder):
    data = load_folder(folder / "cat", "calibration", declared(input="image"), ())
    assert (data.labels, list(data.feeds), data.count) == (None, ["image"], 2)


def test_a_picture_that_was_changed_or_renamed_is_another_digest(folder):
    first = load_folder(folder, "calibration", declared(), ()).digest
    (folder / "cat" / "b.png").rename(folder / "cat" / "c.png")
    second = load_folder(folder, "calibration", declared(), ()).digest
    (folder / "cat" / "c.png").write_bytes((folder / "cat" / "a.png").read_bytes())
    assert len({first, second, load_folder(folder, "calibration", declared(), ()).digest}) == 3


def test_a_damaged_picture_is_named(folder):
    (folder / "dog" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"calibration data .*dog/b\.png: no picture that Pillow can decode"):
        load_folder(folder, "calibration", declared(), ())


@pytest.mark.parametrize(
    ("files", "labels", "complaint"),
    [
        ((), (), "0 pictures, expected 1"),
        (("cat/a.png", "b.png"), (), r"both folders and files \(b\.png\)"),
        (("cat/notes.txt",), (), r"cat: notes\.txt is no picture"),
        (("cat/a.png/b.png",), (), r"cat: a\.png is no picture"),
        (("cat/.hidden",), (), "cat: 0 pictures, expected 1"),
        (("cow/a.png",), ("cat", "dog"), r"the folder cow is none of the labels \(cat, dog\)"),
    ],
)
def test_a_folder_with_something_else_in_it_is_refused(tmp_path, files, labels, complaint):
    for name in files:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "data").mkdir(exist_ok=True)
    with pytest.raises(DatasetError, match=f"evaluation data .*{complaint}"):
        load_folder(tmp_path / "data", "evaluation", declared(), labels)


def test_a_folder_needs_a_declaration(tmp_path):
    with pytest.raises(DatasetError, match="nothing says how a picture or a sound becomes an input"):
        load_folder(tmp_path, "calibration", None, ())


def test_more_than_fits_into_memory_is_refused(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.png").touch()
    with pytest.raises(DatasetError, match="40 pictures are 7680 MiB as inputs, at most 4096"):
        load_folder(tmp_path, "calibration", declared(size=[4096, 4096]), ())


def test_pixels_in_an_array_are_prepared_too():
    found = prepare_arrays(arrays(x=PIXELS), declared(), "calibration")
    assert np.array_equal(found.feeds["x"], prepared(PIXELS, declared()))


def test_an_array_of_floats_is_an_input_already():
    data = arrays(x=PIXELS.astype(np.float32))
    assert prepare_arrays(data, declared(), "calibration") is data


def test_pixels_stay_what_they_are_where_nothing_is_declared():
    data = arrays(x=PIXELS)
    assert prepare_arrays(data, None, "calibration") is data


def test_pixels_that_are_no_pictures_are_refused():
    with pytest.raises(DatasetError, match=r"data\.npz, array 'x': a picture is \[height, width\]"):
        prepare_arrays(arrays(x=PIXELS[None]), declared(), "calibration")
