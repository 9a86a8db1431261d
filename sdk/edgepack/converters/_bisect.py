"""Which layer is the first that differs: a network is cut shorter and shorter, and each piece converted and run.

Only done once a conversion was refused, and for a bounded time: it explains a refusal and decides nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgepack.errors import ConversionError
from edgepack.model import Divergence

__all__ = ["EQUAL", "Layer", "first_differing", "said_by"]

# What is said where no layer can be named.
EQUAL = Divergence(text="no layer can be named: every piece of the network that was tried is equal")
_PIECES = 20
_SECONDS = 300.0
_DISTANCE = re.compile(r"differs from \w+ by (\S+ of its range)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One node of the source, as its author may know it."""

    name: str
    operator: str

    def __str__(self) -> str:
        return f"{self.name!r} ({self.operator})"


def said_by(error: ConversionError) -> str:
    """Return how far a piece is off, in the words of the error it was refused with."""
    found = _DISTANCE.search(error.message)
    return found[1] if found else f"it cannot be converted alone: {error.message[:200]}"


def first_differing(layers: Sequence[Layer], said_at: Callable[[int], str]) -> Divergence | None:
    """Return the first of `layers`, in the order they are computed, whose output differs; None if the last does not.

    A cut changes what a converter fuses, so a difference may be gone in every piece.

    Args:
        layers: the nodes on the way to the output that differs, that of the output last.
        said_at: converts the network up to a layer and says how far it is off; '' where it is equal.
    """
    start, equal, wrong, tried = time.monotonic(), -1, len(layers) - 1, 1
    said = said_at(wrong) if layers else ""
    if not said:
        return None
    while wrong - equal > 1 and tried < _PIECES and time.monotonic() - start < _SECONDS:
        middle = (equal + wrong) // 2
        found = said_at(middle)
        tried += 1
        if found:
            wrong, said = middle, found
        else:
            equal = middle
    if wrong - equal == 1:
        return Divergence(text=f"first differs at node {layers[wrong]}: {said}")
    behind = f"behind {layers[equal]} and " if equal >= 0 else ""
    return Divergence(text=f"first differs {behind}not later than at node {layers[wrong]}: {said}")
