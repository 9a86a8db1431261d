"""Which of several candidates no other one beats, and which of them is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["dominates", "front"]

T = TypeVar("T")


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether `first` is at no figure worse than `second`, and better at one; smaller is better."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and any(
        a < b for a, b in zip(first, second, strict=True)
    )


def front(items: Iterable[T], costs: Callable[[T], Sequence[float]]) -> tuple[T, ...]:
    """Return the items that no other one dominates, by the first cost; of equal ones the first.

    A cost that is no number is worse than any.
    """
    priced = [(tuple(math.inf if math.isnan(c) else c for c in costs(item)), item) for item in items]
    kept: list[tuple[tuple[float, ...], T]] = []
    for cost, item in priced:
        if any(dominates(other, cost) for other, _ in priced) or any(other == cost for other, _ in kept):
            continue
        kept.append((cost, item))
    return tuple(item for _, item in sorted(kept, key=lambda pair: pair[0]))
