"""What the model of a build may weigh, how long one run of it may last, and whether one is to be searched for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.errors import RecipeError
from edgepack_runtime._fields import Fields

__all__ = ["AUTO_SEARCH", "OBJECTIVES", "Optimize", "parse_latency", "parse_size", "take_optimize"]

AUTO_SEARCH = "auto"
OBJECTIVES = ("size", "latency")
_MOST_CANDIDATES = 10_000
_LEAST_PART = 0.1
_LATENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|x)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|MB|KiB|MiB)?")
_UNITS = {"B": 1, "kB": 1000, "MB": 1000_000, "KiB": 1 << 10, "MiB": 1 << 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimize:
    """A budget beside the gate's, empty texts are no limit; and how a model within it is looked for.

    `max_latency` is the longest a run may last, as ``"40ms"`` or, against the float model's in the same process, as
    ``"1.2x"``; `max_size` the most bytes the model may have, as ``"120kB"``. `search` is ``"auto"``, or empty for
    none; then the smallest or the fastest candidate is chosen, by `objective`, of at most so many `candidates`;
    `holdout` is the share of the evaluation samples that are kept for judging it, and `seed` says which.

    Raises:
        RecipeError: one is written in another way.
    """

    max_latency: str = ""
    max_size: str = ""
    search: str = ""
    objective: str = "size"
    candidates: int = 40
    holdout: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        parse_latency(self.max_latency)
        parse_size(self.max_size)
        if self.search not in ("", AUTO_SEARCH):
            raise RecipeError(f"optimize {self.search!r} is not known", hint=f"known is {AUTO_SEARCH}")
        if self.objective not in OBJECTIVES:
            raise RecipeError(
                f"objective {self.objective!r} is not known", hint=f"known are {' and '.join(OBJECTIVES)}"
            )
        if not 1 <= self.candidates <= _MOST_CANDIDATES:
            raise RecipeError(f"candidates {self.candidates} is not from 1 to {_MOST_CANDIDATES}")
        if not _LEAST_PART <= self.holdout <= 1 - _LEAST_PART:
            raise RecipeError(f"holdout {self.holdout:g} is no share from {_LEAST_PART} to {1 - _LEAST_PART}")
        if not 0 <= self.seed < 2**32:
            raise RecipeError(f"seed {self.seed} is not from 0 to 2^32 - 1")

    @property
    def max_ms(self) -> float | None:
        """How many milliseconds a run may last; None without such a limit."""
        return parse_latency(self.max_latency)[0]

    @property
    def max_ratio(self) -> float | None:
        """How many times the float model's time a run may last; None without such a limit."""
        return parse_latency(self.max_latency)[1]

    @property
    def max_bytes(self) -> int | None:
        """How many bytes the model may have; None without a limit."""
        return parse_size(self.max_size)


def parse_latency(text: str) -> tuple[float | None, float | None]:
    """Return milliseconds, or a share of the float model's time; neither of nothing.

    Raises:
        RecipeError: it is written in another way, or not above 0.
    """
    if not text:
        return None, None
    found = _LATENCY.fullmatch(text)
    if found is None or float(found[1]) <= 0:
        raise RecipeError(
            f"max latency {text!r} is neither milliseconds (40ms) nor a multiple of the float model's time (1.2x)"
        )
    return (float(found[1]), None) if found[2] == "ms" else (None, float(found[1]))


def parse_size(text: str) -> int | None:
    """Return a number of bytes; None of nothing.

    Raises:
        RecipeError: it is written in another way, or less than one byte.
    """
    if not text:
        return None
    found = _SIZE.fullmatch(text)
    count = int(float(found[1]) * _UNITS[found[2] or "B"]) if found else 0
    if count < 1:
        raise RecipeError(f"max size {text!r} is no number of bytes (120000, 120kB, 1.5MB, 64KiB)")
    return count


def take_optimize(fields: Fields) -> Optimize:
    """Return the table ``[optimize]`` of a recipe; what is left over is for the caller to refuse.

    Raises:
        SchemaError: a field is of the wrong type.
        RecipeError: one is wrong in itself.
    """
    size = fields.take("max_size", object, "")
    if isinstance(size, bool) or not isinstance(size, int | str):
        fields.refuse("max_size", 'expected a number of bytes, or a text like "120kB"')
    return Optimize(
        max_latency=fields.take("max_latency", str, ""),
        max_size=str(size),
        search=fields.take("search", str, ""),
        objective=fields.take("objective", str, "size"),
        candidates=fields.take("candidates", int, 40),
        holdout=fields.take("holdout", float, 0.6),
        seed=fields.take("seed", int, 0),
    )
