"""How data files are read, where they do not say it themselves: the fields of ``[data]`` that are not paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import RecipeError
from edgepack.recordings import MAX_WINDOWS
from edgepack_runtime._fields import Fields
from edgepack_runtime.tensors import DTYPES

__all__ = ["DataFunction", "Reading", "take_reading"]

_SHAPE = re.compile(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5}){0,5}", re.ASCII)
_NUMBERS = tuple(name for name in DTYPES if name != "bool")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFunction:
    """A function of the user's own that makes data: its file, its name in it, and the path it is `given`, if any."""

    path: Path
    entry: str
    given: Path | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.entry}" + ("" if self.given is None else f":{self.given}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How data files are read.

    A recording longer than the model's input is cut into at most `windows`, and refused if that is 0. Of a CSV file
    `label_column` names the column of the labels, else it is one of `edgepack.truth.LABEL_NAMES`; the others are
    numbers of `csv_dtype`, and of one input that has `csv_shape`, such as ``28,28``, in row-major order.

    Raises:
        RecipeError: a figure or name is wrong.
    """

    windows: int = 0
    label_column: str = ""
    csv_dtype: str = "float32"
    csv_shape: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.windows <= MAX_WINDOWS:
            raise RecipeError(f"data.windows {self.windows} is not from 0 to {MAX_WINDOWS}")
        if self.csv_dtype not in _NUMBERS:
            raise RecipeError(f"data.csv_dtype {self.csv_dtype!r} is none of {', '.join(_NUMBERS)}")
        if self.csv_shape and not _SHAPE.fullmatch(self.csv_shape):
            raise RecipeError(f"data.csv_shape {self.csv_shape!r} is no shape of a sample, such as 28,28")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a CSV file's sample, () where its columns are."""
        return tuple(map(int, self.csv_shape.split(","))) if self.csv_shape else ()


def take_reading(data: Fields) -> Reading:
    """Return what ``[data]`` says beside its paths.

    Raises:
        SchemaError: a field is of another type.
        RecipeError: a figure or name is wrong.
    """
    return Reading(
        windows=data.take("windows", int, 0),
        label_column=data.take("label_column", str, ""),
        csv_dtype=data.take("csv_dtype", str, "float32"),
        csv_shape=data.take("csv_shape", str, ""),
    )
