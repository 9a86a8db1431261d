"""How data files are read, where they do not say it themselves: the fields of ``[data]`` that are not paths."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.errors import RecipeError
from edgepack.recordings import MAX_WINDOWS
from edgepack_runtime._fields import Fields

__all__ = ["Reading", "take_reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How data files are read.

    A recording longer than the model's input is cut into at most `windows`, and refused if that is 0.

    Raises:
        RecipeError: a figure or name is wrong.
    """

    windows: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.windows <= MAX_WINDOWS:
            raise RecipeError(f"data.windows {self.windows} is not from 0 to {MAX_WINDOWS}")


def take_reading(data: Fields) -> Reading:
    """Return what ``[data]`` says beside its paths.

    Raises:
        SchemaError: a field is of another type.
        RecipeError: a figure or name is wrong.
    """
    return Reading(windows=data.take("windows", int, 0))
