"""Comma-separated values as data: a header that names the columns, a sample a line, and nothing guessed."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.dataset import UNNAMED, Dataset, dataset_of
from edgepack.errors import DatasetError
from edgepack.reading import Reading
from edgepack.truth import LABEL_NAMES, is_label
from edgepack_runtime._files import read_capped
from edgepack_runtime.errors import FileError
from edgepack_runtime.tensors import Array

__all__ = ["SUFFIX", "load_csv"]

SUFFIX = ".csv"
_MAX_BYTES = 1 << 30
_MAX_COLUMNS = 1 << 16
_PART = re.compile(r"(.+)\[(0|[1-9][0-9]{0,5})\]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_SHOWN = 40
_LABELS = LABEL_NAMES[0]
# Of a label: beyond it, float32 has no number.
_MOST = float(np.finfo(np.float32).max)
_FILL = "a model takes a number: fill it as in training, or leave the line out"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column: its title, which array it is part of and at which place in a sample, and the numbers in it."""

    title: str
    name: str
    place: int
    label: bool
    values: array[float] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a feature may be, and a label: `names` are the classes by name, `numbered` is whether one is a number."""

    dtype: str
    low: float
    high: float
    names: dict[str, int]
    numbered: bool

    @classmethod
    def of(cls, dtype: str, labels: Sequence[str]) -> _Wanted:
        limits: Any = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
        return cls(
            dtype=dtype,
            low=limits.min if dtype.startswith("int") else float(limits.min),
            high=limits.max if dtype.startswith("int") else float(limits.max),
            names={name: number for number, name in enumerate(labels)},
            numbered=any(_NUMBER.fullmatch(name) for name in labels),
        )


def load_csv(path: Path, what: str, reading: Reading, labels: Sequence[str]) -> Dataset:
    """Return the samples in a CSV file.

    Args:
        path: the file: UTF-8, commas, a header.
        what: ``calibration`` or ``evaluation``, for messages.
        reading: which column has the labels, and the dtype and shape of the others.
        labels: the names of the classes, in the model's order; a label may be one of them.

    Raises:
        DatasetError: it cannot be read, or something in it is wrong; the message names line and column.
    """
    where = f"{what} data {path}"
    try:
        data = read_capped(path, _MAX_BYTES)
        text = data.decode("utf-8-sig")
    except FileError as error:
        raise DatasetError(f"{where}: {error.message}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DatasetError(f"{where}, line {line}: not UTF-8", hint="save it as UTF-8") from None
    rows = _rows(text, where)
    columns = _columns(next(rows, (1, [])), reading, where)
    if reading.label_column and what != "calibration" and not any(column.label for column in columns):
        raise DatasetError(f"{where}: no column {_shown(reading.label_column)} for the labels")
    wanted = _Wanted.of(reading.csv_dtype, labels)
    for line, cells in rows:
        _take(cells, columns, wanted, f"{where}, line {line}")
    arrays = {
        name: _array(parts, reading.csv_dtype)
        for name, parts in _grouped(columns, reading.label_column, where).items()
    }
    if reading.shape:
        arrays[UNNAMED] = _shaped(arrays.get(UNNAMED), reading, where)
    return dataset_of(path, arrays, hashlib.sha256(data).hexdigest(), where)


def _shaped(samples: Array | None, reading: Reading, where: str) -> Array:
    if samples is None or math.prod(reading.shape) != samples.shape[1]:
        found = "columns of several inputs" if samples is None else f"{samples.shape[1]} columns of features"
        raise DatasetError(f"{where}: csv_shape {reading.csv_shape} for {found}, wanted {math.prod(reading.shape)}")
    return samples.reshape(-1, *reading.shape)


def _rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells; empty lines at the end are none."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    empty = 0
    try:
        for cells in reader:
            if not cells:
                empty = empty or reader.line_num
                continue
            if empty:
                raise DatasetError(f"{where}, line {empty}: an empty line between others")
            yield reader.line_num, [cell.strip(" \t") for cell in cells]
    except csv.Error as error:
        raise DatasetError(f"{where}, line {reader.line_num}: no CSV ({error})") from None


def _columns(header: tuple[int, list[str]], reading: Reading, where: str) -> list[_Column]:
    line, titles = header
    if not 1 <= len(titles) <= _MAX_COLUMNS:
        raise DatasetError(f"{where}: {len(titles)} columns, expected 1 to {_MAX_COLUMNS}")
    for number, title in enumerate(titles, 1):
        if not title or not title.isprintable() or _NUMBER.fullmatch(title):
            raise DatasetError(
                f"{where}, line {line}, column {number}: {_shown(title)} is no name of a column",
                hint="the first line is a header: the features' names, and 'y' for labels",
            )
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise DatasetError(f"{where}, line {line}: two columns are called {_shown(twice)}")
    if len(titles) == 1 and re.search("[;\t|]", titles[0]):
        raise DatasetError(f"{where}, line {line}: one column {_shown(titles[0])}", hint="separate cells by commas")
    return [_column(title, reading) for title in titles]


def _column(title: str, reading: Reading) -> _Column:
    part = _PART.fullmatch(title)
    name, place = (title, -1) if part is None else (part[1], int(part[2]))
    own = reading.label_column
    label = name == own or name.startswith(f"{own}.") if own else is_label(name)
    values: array[float] = array("d" if label or reading.csv_dtype.startswith("float") else "q")
    return _Column(title=title, name=name, place=place, label=label, values=values)


def _take(cells: list[str], columns: list[_Column], wanted: _Wanted, where: str) -> None:
    if len(cells) != len(columns):
        raise DatasetError(f"{where}: {len(cells)} cells, the header has {len(columns)}")
    for cell, column in zip(cells, columns, strict=True):
        try:
            column.values.append(_label(cell, wanted) if column.label else _value(cell, wanted))
        except DatasetError as error:
            place = f"{where}, column {_shown(column.title)}"
            raise DatasetError(f"{place}: {error.message}", hint=error.hint) from None


def _value(cell: str, wanted: _Wanted) -> float:
    """Return a feature; a whole number where the dtype is one.

    Raises:
        DatasetError: it is no number, or none that the dtype has.
    """
    if not cell:
        raise DatasetError("an empty cell", hint=_FILL)
    if column_of_floats := wanted.dtype.startswith("float"):
        if not _NUMBER.fullmatch(cell):
            raise DatasetError(f"{_shown(cell)} is no number", hint=_advice(cell))
    elif not _WHOLE.fullmatch(cell):
        raise DatasetError(f"{_shown(cell)} is no whole number, and csv_dtype is {wanted.dtype}")
    value = float(cell) if column_of_floats else int(cell)
    if not wanted.low <= value <= wanted.high:
        raise DatasetError(f"{_shown(cell)} is too large for {wanted.dtype}, {wanted.low:g} to {wanted.high:g}")
    return value


def _label(cell: str, wanted: _Wanted) -> float:
    """Return the number of a class, or the value that should be.

    Raises:
        DatasetError: it is neither.
    """
    names = wanted.names
    if cell in names:
        return names[cell]
    if not cell:
        raise DatasetError("no label")
    if _NUMBER.fullmatch(cell) and not wanted.numbered:
        value = float(cell)
        if not abs(value) <= _MOST or (names and value not in range(len(names))):
            raise DatasetError(f"{_shown(cell)} is no class" + (f", there are {len(names)}" if names else ""))
        return value
    if names:
        near = difflib.get_close_matches(cell, names, n=1)
        raise DatasetError(
            f"{_shown(cell)} is none of the labels" + (f" (did you mean {near[0]!r}?)" if near else ""),
            hint=f"they are {', '.join(list(names)[:10])}",
        )
    raise DatasetError(
        f"{_shown(cell)} is no class number", hint="names of classes need the file of `labels`, one a line"
    )


def _advice(cell: str) -> str:
    if cell.lower().lstrip("+-") in ("nan", "na", "n/a", "null", "none", "inf", "infinity"):
        return _FILL
    return "decimal points, and no thousands; a column of text has to be made numbers as in training"


def _grouped(columns: list[_Column], own: str, where: str) -> dict[str, list[_Column]]:
    """Return the columns of each array, in the order of their places."""
    groups: dict[str, list[_Column]] = {}
    loose = [column for column in columns if not column.label and column.place < 0]
    for column in columns:
        if column in loose:
            groups.setdefault(UNNAMED, []).append(column)
        else:
            groups.setdefault(_array_name(column, own), []).append(column)
    parted = [column for column in columns if not column.label and column.place >= 0]
    if loose and parted:
        raise DatasetError(
            f"{where}: the column {_shown(parted[0].title)} names an input and a place in it, and "
            f"{_shown(loose[0].title)} does not",
            hint="either all columns are NAME[0], NAME[1] and so on, or the features of the one input",
        )
    for name, group in groups.items():
        if is_label(name) and not all(column.label for column in group):
            raise DatasetError(f"{where}: an input cannot be called {name!r}", hint="save the data as .npz")
        places = sorted(column.place for column in group)
        if group[0].place >= 0 and places != list(range(len(group))):
            raise DatasetError(
                f"{where}: of {group[0].name!r} there are the columns {places}, not 0 to {len(group) - 1}"
            )
        if len(group) > 1 and group[0].label and places[0] < 0:
            raise DatasetError(f"{where}: labels stand in {' and '.join(c.title for c in group)}; keep one of them")
        if group[0].place >= 0:
            group.sort(key=lambda column: column.place)
    return groups


def _array_name(column: _Column, own: str) -> str:
    """Return what an .npz would call it; `own` is the user's name of the column of labels."""
    if not column.label:
        return column.name
    output = column.name.removeprefix(own) if own else "".join(column.name.partition(".")[1:])
    return _LABELS + output


def _array(columns: list[_Column], dtype: str) -> Array:
    """Return [n, columns]; labels of one column are [n], and whole numbers where all are."""
    values = [np.frombuffer(column.values, column.values.typecode) for column in columns]
    if not columns[0].label:
        return np.stack(values, axis=1).astype(dtype)
    found = np.stack(values, axis=1) if columns[0].place >= 0 else values[0]
    whole = bool((found == np.floor(found)).all())
    return found.astype(np.int64) if whole else np.asarray(found, np.float64)


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _SHOWN else cell[: _SHOWN - 3] + "...")
