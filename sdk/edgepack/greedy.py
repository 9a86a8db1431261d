"""Which layer gets which precision: greedy by harm per byte saved, with back-off, on a bounded number of candidates.

The harm of one layer's precision is measured alone, beside all others at their safest. Rounding errors of different
layers hardly know of each other, so that their harms add up well enough to say in which order layers should give way;
whether a whole assignment is good enough is never computed, but measured.

1. Each layer's choices that cost more and harm more than a mix of two others are left out (the lower convex hull).
2. What is left is a chain from the safest assignment to the cheapest, each step that with the least harm per byte.
3. Bisection finds how far down that chain the assignments are good.
4. From there every step that was not taken is tried by itself: one bad layer must not end the way for all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Assignment", "Choice", "Outcome", "Step", "chain", "descend"]

# The precision of each layer, by its place.
Assignment = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One precision of one layer: what it costs and harms, against the layer's safest precision (0, 0)."""

    precision: int
    saves: float
    harm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured of an assignment: whether it is within the budget, and what it costs."""

    good: bool
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer's next precision on the way down."""

    layer: int
    precision: int
    before: int
    saves: float
    harm: float


Measure = Callable[[Assignment], Outcome | None]


def _hull(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices on the lower convex hull of harm over saving, from the safest one on."""
    kept = [Choice(precision=0, saves=0.0, harm=0.0)]
    for choice in sorted(choices, key=lambda c: (c.saves, c.harm)):
        if choice.saves <= kept[-1].saves:
            continue
        # What harms no more and saves more makes the one before it needless.
        while len(kept) > 1 and choice.harm <= kept[-1].harm:
            kept.pop()
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-1], choice):
            kept.pop()
        kept.append(choice)
    return kept


def _slope(first: Choice, second: Choice) -> float:
    return max(0.0, second.harm - first.harm) / (second.saves - first.saves)


def chain(layers: Sequence[Sequence[Choice]]) -> tuple[Step, ...]:
    """Return the steps from the safest assignment to the cheapest, those with the least harm per byte first.

    A layer's own steps keep their order.

    Args:
        layers: for each layer what its further precisions save and harm.
    """
    steps = [
        (
            _slope(before, after),
            Step(
                layer=layer,
                precision=after.precision,
                before=before.precision,
                saves=after.saves - before.saves,
                harm=after.harm - before.harm,
            ),
        )
        for layer, choices in enumerate(layers)
        for before, after in pairwise(_hull(choices))
    ]
    # Stable, and along a hull the slopes rise: no step of a layer comes before the one it stands on.
    return tuple(step for _, step in sorted(steps, key=lambda item: (item[0], -item[1].saves)))


def descend(
    layers: Sequence[Sequence[Choice]], measure: Measure, alone: Callable[[int], bool] = lambda layer: True
) -> Assignment | None:
    """Return the cheapest assignment that was measured and is good, or None if not even the safest is.

    Args:
        layers: as for `chain`.
        measure: tells of an assignment; None when no more may be measured, which ends the search.
        alone: whether one layer's step is worth a candidate of its own.
    """
    steps = chain(layers)
    ladder = [(0,) * len(layers)]
    for step in steps:
        ladder.append(_taken(ladder[-1], step))
    best = _bisect(ladder, measure)
    if best is None:
        return None
    reached, cheapest = ladder[best], (0.0, ladder[best])
    found = measure(reached)
    if found is not None:
        cheapest = (found.cost, reached)
    for step in steps[best:]:
        # A step that stands on one that was not taken has lost its ground.
        if reached[step.layer] != step.before or not alone(step.layer):
            continue
        tried = _taken(reached, step)
        found = measure(tried)
        if found is None:
            break
        if found.good:
            reached = tried
            cheapest = min(cheapest, (found.cost, tried))
    return cheapest[1]


def _taken(assignment: Assignment, step: Step) -> Assignment:
    return (*assignment[: step.layer], step.precision, *assignment[step.layer + 1 :])


def _bisect(ladder: Sequence[Assignment], measure: Measure) -> int | None:
    """Return the place of the last good assignment; where they are good by turns, of one before a bad one."""
    first, last = 0, len(ladder) - 1
    end = measure(ladder[last])
    if end is None or end.good:
        return last if end is not None else None
    start = measure(ladder[first])
    if start is None or not start.good:
        return None
    while last - first > 1:
        middle = (first + last) // 2
        found = measure(ladder[middle])
        if found is None:
            break
        first, last = (middle, last) if found.good else (first, middle)
    return first
