"""How data files are read, where they do not say it themselves: the fields of ``[data]`` that are not paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import RecipeError
from edgepack.recordings import MAX_WINDOWS
from edgepack_runtime._fields import Fields
from edgepack_runtime.tensors import DTYPES

__all__ = ["DataFunction", "Reading", "take_reading"]

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
    numbers of `csv_dtype`.

    Raises:
        RecipeError: a figure or name is wrong.
    """

    windows: int = 0
    label_column: str = ""
    csv_dtype: str = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.windows <= MAX_WINDOWS:
            raise RecipeError(f"data.windows {self.windows} is not from 0 to {MAX_WINDOWS}")
        if self.csv_dtype not in _NUMBERS:
            raise RecipeError(f"data.csv_dtype {self.csv_dtype!r} is none of {', '.join(_NUMBERS)}")


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
    )
