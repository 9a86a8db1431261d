"""Folders of pictures or recordings as calibration and evaluation data, prepared as a device will prepare them.

A folder has files, or a sub-folder of files for each class. They are decoded in a child process: a picture may come
from anywhere.
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
from edgepack.recordings import PreparedRecordings, Recordings, prepare_waves
from edgepack.worker import Workplace, run_task
from edgepack_runtime.decoding import read_picture
from edgepack_runtime.errors import FileError, InputError
from edgepack_runtime.pictures import prepare_picture
from edgepack_runtime.prediction import as_stored
from edgepack_runtime.processing import Audio, Image
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["Pictures", "PreparedPictures", "load_folder", "prepare_arrays", "read_pictures"]

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
RECORDINGS = (".wav",)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The files in a folder, and the class of each where they lie in sub-folders."""

    files: list[Path]
    classes: list[int] | None


def load_folder(
    folder: Path, what: str, preparation: Preparation | None, labels: Sequence[str], windows: int = 0
) -> Dataset:
    """Return the pictures or recordings in a folder as samples; sub-folders are their classes.

    Args:
        folder: files, or a sub-folder of them for each class.
        what: ``calibration`` or ``evaluation``, for messages.
        preparation: how a file becomes an input.
        labels: the names of the classes, in the model's order; without any, the order is that of the names.
        windows: how many windows at most a recording longer than the model's is cut into; 0 refuses such a one.

    Raises:
        DatasetError: it is not declared how files become inputs; the folder has none, something else, or classes that
            the labels do not have; or a file is no picture or recording, or too long.
    """
    where = f"{what} data {folder}"
    declared = None if preparation is None else preparation.declared
    if preparation is None or declared is None or (declared.image is None and declared.audio is None):
        raise DatasetError(
            f"{where}: a folder, and nothing says how a picture or a sound becomes an input",
            hint="declare it in edgepack.toml, [processing.image] or [processing.audio] (docs/processing.md), or "
            "save arrays as .npz",
        )
    try:
        listing = _listed(folder, where, labels, PICTURES if declared.audio is None else RECORDINGS)
        digest = _digest(folder, listing.files, windows if declared.audio is not None else 0)
        most = _most_inputs(listing.files, declared.audio, windows)
    except OSError as error:
        raise DatasetError(f"{where}: {error.filename}: {error.strerror or error}") from None
    _check_size(most, preparation, where)
    place = Workplace(python=Path(sys.executable))
    try:
        samples, counts = _made(listing.files, preparation, windows, place)
    except (InputError, FileError) as error:
        raise DatasetError(f"{where}: {error.message}", hint=error.hint) from None
    if (
        samples.shape[:1] != (sum(counts),)
        or len(counts) != len(listing.files)
        or samples.dtype != np.dtype(preparation.dtype)
    ):
        raise DatasetError(
            f"{where}: the child process gave {samples.dtype}{list(samples.shape)} for {len(listing.files)} files"
        )
    name = declared.image.input if declared.audio is None and declared.image is not None else ""
    name = declared.audio.input if declared.audio is not None else name
    return Dataset(
        path=folder,
        feeds={name or UNNAMED: samples},
        labels=None if listing.classes is None else np.repeat(np.array(listing.classes, np.int64), counts),
        digest=digest,
        notes=_notes(where, counts) if what == "evaluation" else (),
    )


def _most_inputs(files: Sequence[Path], audio: Audio | None, windows: int) -> int:
    """Return how many inputs the files become at most, by their sizes."""
    if audio is None or windows <= 1:
        return len(files)
    return sum(min(windows, math.ceil(path.stat().st_size / 2 / audio.samples)) for path in files)


def _made(
    files: Sequence[Path], preparation: Preparation, windows: int, place: Workplace
) -> tuple[Array, tuple[int, ...]]:
    """Return the inputs, and how many of them each file became."""
    image, audio = preparation.declared.image, preparation.declared.audio
    # The child works in a folder of its own.
    files = [path.absolute() for path in files]
    if audio is not None:
        asked = _recordings(tuple(files), preparation, windows)
        found = run_task("edgepack.recordings:read_recordings", asked, PreparedRecordings, place)
        return found.samples, found.counts
    assert image is not None  # noqa: S101 - one of the two is declared
    wanted = Pictures(files=tuple(files), image=image, size=preparation.size, dtype=preparation.dtype)
    samples = run_task("edgepack.folders:read_pictures", wanted, PreparedPictures, place).samples
    return samples, (1,) * len(samples)


def _recordings(files: tuple[Path, ...], preparation: Preparation, windows: int) -> Recordings:
    audio = preparation.declared.audio
    assert audio is not None  # noqa: S101 - asked for where it is declared
    return Recordings(
        files=files, audio=audio, mel=preparation.declared.mel, shape=preparation.shape, windows=windows
    )


def _notes(where: str, counts: tuple[int, ...]) -> tuple[str, ...]:
    if max(counts) == 1:
        return ()
    return (
        f"{where}: {sum(counts)} windows of {len(counts)} recordings; windows of one are alike, so that the "
        "interval of a metric is narrower than it should be",
    )


def read_pictures(asked: Pictures) -> PreparedPictures:
    """Return the pictures as inputs; runs in the child.

    Raises:
        InputError: a file is no picture, or Pillow is missing.
        FileError: a file cannot be read.
    """
    return PreparedPictures(samples=_prepared((read_picture(path) for path in asked.files), len(asked.files), asked))


def prepare_arrays(data: Dataset, preparation: Preparation | None, what: str) -> Dataset:
    """Return the data with what is not an input yet made into one: pixels of uint8, or sound of int16.

    Pixels are inputs already where the model takes uint8.

    Raises:
        DatasetError: they are no pictures, or no sound, or too long.
    """
    if preparation is None:
        return data
    image, audio = preparation.declared.image, preparation.declared.audio
    raw, name = ("uint8", image.input) if image is not None else ("int16", "" if audio is None else audio.input)
    name = name if name in data.feeds else UNNAMED
    given = data.feeds.get(name)
    if (image is None and audio is None) or given is None or str(given.dtype) != raw or preparation.dtype == raw:
        return data
    try:
        return replace(data, feeds={**data.feeds, name: _inputs(given, preparation, f"{what} data {data.path}")})
    except InputError as error:
        raise DatasetError(f"{what} data {data.path}, array {name!r}: {error.message}", hint=error.hint) from None


def _inputs(given: Array, preparation: Preparation, where: str) -> Array:
    _check_size(len(given), preparation, where)
    if preparation.declared.image is None:
        return np.stack(list(prepare_waves(iter(given), _recordings((), preparation, 0))))
    asked = Pictures(files=(), image=preparation.declared.image, size=preparation.size, dtype=preparation.dtype)
    return _prepared(iter(given), len(given), asked)


def _prepared(pictures: Iterator[Array], count: int, asked: Pictures) -> Array:
    channels = 1 if asked.image.colours == "gray" else 3
    shape = (*asked.size, channels) if asked.image.layout == "nhwc" else (channels, *asked.size)
    spec = TensorSpec(name=asked.image.input, dtype=asked.dtype, shape=shape)
    samples: Array = np.empty((count, *shape), asked.dtype)
    for sample, pixels in zip(samples, pictures, strict=True):
        sample[...] = as_stored(prepare_picture(pixels, asked.image, asked.size)[0], spec)
    return samples


def _listed(folder: Path, where: str, labels: Sequence[str], suffixes: tuple[str, ...]) -> _Listing:
    here = _visible(folder)
    folders = [path for path in here if path.is_dir()]
    if not folders:
        return _Listing(files=_files(here, where, suffixes), classes=None)
    if len(folders) < len(here):
        raise DatasetError(
            f"{where}: both folders and files ({next(p for p in here if not p.is_dir()).name})",
            hint="put every file into the folder of its class, or none",
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
        found = _files(_visible(path), f"{where}/{path.name}", suffixes)
        files += found
        classes += [names.index(path.name)] * len(found)
    return _Listing(files=files, classes=classes)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files(paths: list[Path], where: str, suffixes: tuple[str, ...]) -> list[Path]:
    kind = "recording" if suffixes == RECORDINGS else "picture"
    for path in paths:
        if path.suffix.lower() not in suffixes or not path.is_file():
            raise DatasetError(f"{where}: {path.name} is no {kind}", hint=f"{kind}s end in {', '.join(suffixes)}")
    if not 1 <= len(paths) <= _MAX_FILES:
        raise DatasetError(f"{where}: {len(paths)} {kind}s, expected 1 to {_MAX_FILES}")
    return paths


def _digest(folder: Path, files: list[Path], windows: int) -> str:
    """Return what tells this data from any other: SHA-256 of each file's name in the folder and SHA-256."""
    whole = hashlib.sha256(f"{windows} windows".encode() if windows else b"")
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        whole.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape") + b"\0" + content)
    return whole.hexdigest()


def _check_size(count: int, preparation: Preparation, where: str) -> None:
    audio = preparation.declared.audio
    numbers = math.prod(preparation.size) * 3 if audio is None else math.prod(preparation.shape)
    size = count * numbers * np.dtype(preparation.dtype).itemsize
    if size > _MAX_BYTES:
        kind = "pictures" if audio is None else "windows of sound"
        raise DatasetError(
            f"{where}: {count} {kind} are {size >> 20} MiB as inputs, at most {_MAX_BYTES >> 20} MiB fit",
            hint="a few hundred calibrate as well; evaluate on a sample",
        )
