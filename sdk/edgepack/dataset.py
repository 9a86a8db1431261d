"""Calibration and evaluation data: .npz and .npy files, checked against the model before anything slow starts.

An ``.npz`` holds one array an input, by the input's name (or one array named ``x`` for a model with one input), and
for evaluation the labels, as `edgepack.truth` names them. The first dimension counts the samples. An ``.npy`` holds
the one input. Nothing is cast, scaled or reshaped but a batch dimension of 1.
"""

from __future__ import annotations

import hashlib
import io
import math
import tokenize
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from edgepack._zips import DAMAGED, is_bounded
from edgepack.errors import DatasetError
from edgepack.truth import LABEL_NAMES, Labels, is_label, labels_in
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

__all__ = [
    "UNNAMED",
    "Dataset",
    "bind_feeds",
    "dataset_of",
    "join_feeds",
    "load_dataset",
    "take_samples",
]

UNNAMED = "x"
_MAX_BYTES = 16 << 30
# Beside zipfile's errors, what numpy's header parser was seen to raise on damaged files.
_FOREIGN = (*DAMAGED, ArithmeticError, AttributeError, MemoryError, SyntaxError, TypeError, tokenize.TokenError)
# What numpy itself reads of one it does not trust.
_MAX_HEADER = 10_000
_HEADER_VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples by array name, [n, ...]; `labels` [n, ...] or None; `digest` is the file's SHA-256 (hex).

    `notes` are what has to be known of a judgement by them.
    """

    path: Path
    feeds: Mapping[str, Array]
    labels: Labels | None
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.feeds.values())))


def load_dataset(path: Path, what: str) -> Dataset:
    """Return the arrays of an .npz or .npy file.

    Args:
        path: the file.
        what: ``calibration`` or ``evaluation``, for messages.

    Raises:
        DatasetError: it cannot be read, is of another kind, holds objects, NaN, no sample, or arrays of
            different lengths.
    """
    where = f"{what} data {path}"
    try:
        # A pipe without a writer and /dev/zero never end.
        if path.exists() and not path.is_file():
            raise DatasetError(f"{where}: not a file")
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if magic == b"\x93NUMPY":
            arrays = {UNNAMED: _read_npy(path, where)}
        elif magic[:4] == b"PK\x03\x04":
            arrays = dict(_read_npz(path, where))
        else:
            raise DatasetError(
                f"{where}: neither .npz nor .npy (it starts with {magic!r})",
                hint="save it with numpy.savez(FILE, NAME_OF_INPUT=array); a CSV file is called .csv",
            )
    except OSError as error:
        raise DatasetError(f"{where}: {error.strerror or error}") from None
    return dataset_of(path, arrays, digest, where)


def dataset_of(path: Path, arrays: Mapping[str, Array], digest: str, where: str) -> Dataset:
    """Return arrays by name, inputs and labels, as a data set.

    Raises:
        DatasetError: they hold NaN, no sample, another dtype, or different numbers of samples.
    """
    labels = labels_in(arrays, where)
    feeds = {name: array for name, array in arrays.items() if not is_label(name)}
    _check(feeds, labels, where)
    return Dataset(path=path, feeds=feeds, labels=labels, digest=digest)


def _check(arrays: Mapping[str, Array], labels: Labels | None, where: str) -> None:
    if not arrays:
        raise DatasetError(f"{where}: no input array in it")
    for name, array in arrays.items():
        if str(array.dtype) not in DTYPES:
            raise DatasetError(f"{where}: array {name!r} has dtype {array.dtype}, known are {', '.join(DTYPES)}")
        if array.ndim == 0 or len(array) == 0:
            raise DatasetError(f"{where}: array {name!r} holds no sample (shape {list(array.shape)})")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DatasetError(f"{where}: array {name!r} holds NaN or infinity")
    lengths = {name: len(array) for name, array in arrays.items()}
    if isinstance(labels, Mapping):
        lengths |= {f"labels of {output}": len(array) for output, array in labels.items()}
    elif labels is not None:
        lengths["labels"] = len(labels)
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise DatasetError(f"{where}: the arrays count different numbers of samples: {counts}")


def _read_npz(path: Path, where: str) -> Iterator[tuple[str, Array]]:
    with _as_dataset_error(where), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        # "x" and "x.npy" are one array name: the second would quietly replace the first.
        if len({i.filename.removesuffix(".npy") for i in infos}) != len(infos):
            raise DatasetError(f"{where}: two arrays have the same name")
        if sum(i.file_size for i in infos) > _MAX_BYTES:
            raise DatasetError(f"{where}: unpacks to more than {_MAX_BYTES >> 30} GiB")
        for info in infos:
            name = info.filename.removesuffix(".npy")
            if not is_bounded(archive, info):
                raise DatasetError(f"{where}: array {name!r} is packed in a way numpy never writes")
            with archive.open(info) as member:
                yield name, _read_array(cast("BinaryIO", member), info.file_size, f"{where}, array {name!r}")


def _read_npy(path: Path, where: str) -> Array:
    with _as_dataset_error(where), path.open("rb") as file:
        return _read_array(file, path.stat().st_size, where)


@contextmanager
def _as_dataset_error(where: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # numpy parses a header as Python, and warns of what it finds there in words that help nobody.
            warnings.simplefilter("ignore")
            yield
    except _FOREIGN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "".join(c if c.isprintable() else "?" for c in reason)
        raise DatasetError(f"{where}: damaged or no numpy file ({reason})") from None


def _read_array(file: BinaryIO, size: int, where: str) -> Array:
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_VERSIONS:
        raise DatasetError(f"{where}: .npy format {version} is not known")
    shape, fortran, dtype = _HEADER_VERSIONS[version](_header(file, version, where))
    if dtype.hasobject:
        raise DatasetError(f"{where}: holds Python objects; loading them would execute code")
    count = 1
    for length in shape:
        count *= length
    # numpy allocates what the header claims before it reads a byte: the claim is checked first.
    if count * dtype.itemsize > size:
        raise DatasetError(f"{where}: the header claims {list(shape)} {dtype}, the file is too short for that")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise DatasetError(f"{where}: truncated")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: BinaryIO, version: tuple[int, int], where: str) -> BinaryIO:
    """Return the length and the text of an array's header; a file makes room for all that is asked of it."""
    length = file.read({(1, 0): 2, (2, 0): 4}[version])
    if (claimed := int.from_bytes(length, "little")) > _MAX_HEADER:
        raise DatasetError(f"{where}: the header claims to be {claimed} bytes long, at most {_MAX_HEADER}")
    return io.BytesIO(length + file.read(claimed))


def bind_feeds(feeds: Mapping[str, Array], specs: tuple[TensorSpec, ...], what: str) -> dict[str, Array]:
    """Return `feeds` by input name, each [n, *spec.shape] (batch dimension of 1 kept), in the specs' order.

    Args:
        feeds: arrays [n, ...] by input name; one array named ``x`` stands for the only input.
        specs: the model's inputs with the batch fixed to 1.
        what: named in messages, e.g. ``calibration data digits.npz``.

    Raises:
        DatasetError: a name is missing or unknown, or a shape or dtype does not fit; nothing is cast.
    """
    takes = "; ".join(str(spec) for spec in specs)
    if len(specs) == 1 and tuple(feeds) == (UNNAMED,):
        feeds = {specs[0].name: feeds[UNNAMED]}
    wanted = {spec.name for spec in specs}
    if feeds.keys() != wanted:
        raise DatasetError(
            f"{what}: has the arrays {sorted(feeds)}, the model's inputs are {sorted(wanted)}",
            hint=f"the model takes {takes}; labels may stand under {', '.join(LABEL_NAMES)}",
        )
    return {spec.name: _bind(feeds[spec.name], spec, what) for spec in specs}


def _bind(array: Array, spec: TensorSpec, what: str) -> Array:
    if array.dtype != np.dtype(spec.dtype):
        raise DatasetError(
            f"{what}: array {spec.name!r} has dtype {array.dtype}, the model takes {spec.dtype}",
            hint=f"apply the model's preprocessing when you save it, e.g. array.astype({spec.dtype!r}) / 255",
        )
    fits = tuple(array.shape[1:]) == spec.shape
    without_batch = spec.shape[:1] == (1,) and tuple(array.shape[1:]) == spec.shape[1:]
    if not fits and not without_batch:
        sample = list(spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape)
        raise DatasetError(
            f"{what}: array {spec.name!r} has samples of shape {list(array.shape[1:])}, "
            f"expected [{', '.join(map(str, sample))}]",
            hint="data.csv_shape gives the samples of a CSV file a shape, processing.audio.shape sounds in a folder"
            if array[0].size == math.prod(sample)
            else "",
        )
    return array.reshape(len(array), *spec.shape)


def join_feeds(first: Mapping[str, Array], second: Mapping[str, Array] | None) -> dict[str, Array]:
    """Return the samples of both, first those of `first`.

    Raises:
        DatasetError: they name different arrays or their samples differ in shape or dtype.
    """
    if second is None:
        return dict(first)
    if first.keys() != second.keys():
        raise DatasetError(
            f"calibration and evaluation data name different arrays: {sorted(first)} and {sorted(second)}"
        )
    for name, array in first.items():
        other = second[name]
        if array.shape[1:] != other.shape[1:] or array.dtype != other.dtype:
            raise DatasetError(
                f"array {name!r} differs between calibration ({array.dtype}{list(array.shape[1:])} a sample) "
                f"and evaluation data ({other.dtype}{list(other.shape[1:])})"
            )
    return {name: np.concatenate([array, second[name]]) for name, array in first.items()}


def take_samples(feeds: Mapping[str, Array], index: slice | Array) -> dict[str, Array]:
    """Return the samples at `index` of every array."""
    return {name: array[index] for name, array in feeds.items()}
