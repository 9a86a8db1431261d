"""Folders of pictures as calibration and evaluation data, prepared as a device will prepare them.

A folder has pictures, or a sub-folder of pictures for each class. They are decoded in a child process: a picture may
come from anywhere.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepack.dataset import UNNAMED, Dataset
from edgepack.errors import DatasetError
from edgepack.preparation import Preparation
from edgepack.worker import Workplace, run_task
from edgepack_runtime.decoding import read_picture
from edgepack_runtime.errors import FileError, InputError
from edgepack_runtime.pictures import prepare_picture
from edgepack_runtime.prediction import as_stored
from edgepack_runtime.processing import Image
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["Pictures", "PreparedPictures", "load_folder", "prepare_arrays", "read_pictures"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MAX_FILES = 1_000_000
_MAX_BYTES = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What the child is asked for: these files, as inputs of `size` (height, width) and `dtype`."""

    files: tuple[Path, ...]
    image: Image
    size: tuple[int, int]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPictures:
    """One input for each file."""

    samples: Array


def load_folder(folder: Path, what: str, preparation: Preparation | None, labels: Sequence[str]) -> Dataset:
    """Return the pictures in a folder as samples; sub-folders are their classes.

    Args:
        folder: pictures, or a sub-folder of them for each class.
        what: ``calibration`` or ``evaluation``, for messages.
        preparation: how a picture becomes an input.
        labels: the names of the classes, in the model's order; without any, the order is that of the names.

    Raises:
        DatasetError: it is not declared how pictures become inputs; the folder has no pictures, something else, or
            classes that the labels do not have; or a file is no picture.
    """
    where = f"{what} data {folder}"
    image = None if preparation is None else preparation.declared.image
    if preparation is None or image is None:
        raise DatasetError(
            f"{where}: a folder, and nothing says how a picture becomes an input",
            hint="declare it in edgepack.toml, [processing.image] (docs/processing.md), or save arrays as .npz",
        )
    try:
        files, classes = _listed(folder, where, labels)
        digest = _digest(folder, files)
    except OSError as error:
        raise DatasetError(f"{where}: {error.filename}: {error.strerror or error}") from None
    _check_size(len(files), preparation, where)
    asked = Pictures(files=tuple(files), image=image, size=preparation.size, dtype=preparation.dtype)
    try:
        place = Workplace(python=Path(sys.executable))
        samples = run_task("edgepack.folders:read_pictures", asked, PreparedPictures, place).samples
    except (InputError, FileError) as error:
        raise DatasetError(f"{where}: {error.message}", hint=error.hint) from None
    if samples.shape[:1] != (len(files),) or samples.dtype != np.dtype(preparation.dtype):
        raise DatasetError(
            f"{where}: the child process gave {samples.dtype}{list(samples.shape)} for {len(files)} files"
        )
    return Dataset(
        path=folder,
        feeds={image.input or UNNAMED: samples},
        labels=None if classes is None else np.array(classes, np.int64),
        digest=digest,
    )


def read_pictures(asked: Pictures) -> PreparedPictures:
    """Return the pictures as inputs; runs in the child.

    Raises:
        InputError: a file is no picture, or Pillow is missing.
        FileError: a file cannot be read.
    """
    return PreparedPictures(samples=_prepared((read_picture(path) for path in asked.files), len(asked.files), asked))


def prepare_arrays(data: Dataset, preparation: Preparation | None, what: str) -> Dataset:
    """Return the data with pictures in it, arrays of uint8 where the model takes floats, made into inputs.

    Raises:
        DatasetError: they are no pictures.
    """
    image = None if preparation is None else preparation.declared.image
    if preparation is None or image is None or preparation.dtype == "uint8":
        return data
    name = image.input if image.input in data.feeds else UNNAMED
    pixels = data.feeds.get(name)
    if pixels is None or pixels.dtype != np.uint8:
        return data
    _check_size(len(pixels), preparation, f"{what} data {data.path}")
    asked = Pictures(files=(), image=image, size=preparation.size, dtype=preparation.dtype)
    try:
        return replace(data, feeds={**data.feeds, name: _prepared(iter(pixels), len(pixels), asked)})
    except InputError as error:
        raise DatasetError(f"{what} data {data.path}, array {name!r}: {error.message}") from None


def _prepared(pictures: Iterator[Array], count: int, asked: Pictures) -> Array:
    channels = 1 if asked.image.colours == "gray" else 3
    shape = (*asked.size, channels) if asked.image.layout == "nhwc" else (channels, *asked.size)
    spec = TensorSpec(name=asked.image.input, dtype=asked.dtype, shape=shape)
    samples: Array = np.empty((count, *shape), asked.dtype)
    for sample, pixels in zip(samples, pictures, strict=True):
        sample[...] = as_stored(prepare_picture(pixels, asked.image, asked.size)[0], spec)
    return samples


def _listed(folder: Path, where: str, labels: Sequence[str]) -> tuple[list[Path], list[int] | None]:
    """Return the pictures, and the class of each where they lie in sub-folders."""
    here = _visible(folder)
    folders = [path for path in here if path.is_dir()]
    if not folders:
        return _pictures(here, where), None
    if len(folders) < len(here):
        raise DatasetError(
            f"{where}: both folders and files ({next(p for p in here if not p.is_dir()).name})",
            hint="put every picture into the folder of its class, or none",
        )
    names = list(labels) or [path.name for path in folders]
    files: list[Path] = []
    classes: list[int] = []
    for path in folders:
        if path.name not in names:
            raise DatasetError(
                f"{where}: the folder {path.name} is none of the labels ({', '.join(names[:10])})",
                hint="a folder is named as its class is in the file of `labels`",
            )
        found = _pictures(_visible(path), f"{where}/{path.name}")
        files += found
        classes += [names.index(path.name)] * len(found)
    return files, classes


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _pictures(paths: list[Path], where: str) -> list[Path]:
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise DatasetError(f"{where}: {path.name} is no picture", hint=f"pictures end in {', '.join(SUFFIXES)}")
    if not 1 <= len(paths) <= _MAX_FILES:
        raise DatasetError(f"{where}: {len(paths)} pictures, expected 1 to {_MAX_FILES}")
    return paths


def _digest(folder: Path, files: list[Path]) -> str:
    """Return what tells this data from any other: SHA-256 of each file's name in the folder and SHA-256."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        whole.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape") + b"\0" + content)
    return whole.hexdigest()


def _check_size(count: int, preparation: Preparation, where: str) -> None:
    size = count * math.prod(preparation.size) * 3 * np.dtype(preparation.dtype).itemsize
    if size > _MAX_BYTES:
        raise DatasetError(
            f"{where}: {count} pictures are {size >> 20} MiB as inputs, at most {_MAX_BYTES >> 20} MiB fit",
            hint="a few hundred calibrate as well; evaluate on a sample",
        )
