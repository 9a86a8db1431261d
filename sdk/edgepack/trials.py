"""What a search measured of its candidates, which of them it brings before the judge, and what became of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.model import Refusal
from edgepack.pareto import front

__all__ = ["Harm", "Loss", "Search", "Trial", "Tried", "confidences", "cost_of", "finalists", "margin", "unpromising"]

# So many candidates are judged on the held-out samples, one after the other until one passes.
MOST_FINALISTS = 4
# The first finalist may use most of the risk the gate allows; the others share what is left.
_FIRST_SHARE = 0.8
_MOST_CONFIDENCE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What one metric lost on the samples that candidates are chosen on: the drop, its interval, and the budget."""

    check: str
    value: float
    low: float
    high: float
    budget: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What a layer's own error does to the worst output, as a share of its variance; `layer` is its place."""

    layer: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate: how it is made, and what was measured of it. This is what a journal keeps.

    `options` is the pass's JSON, `digest` the model's SHA-256, empty where none came of it; `losses` are empty for a
    candidate that is the float model itself. `ratio` is the time against the float model's, 0 where that is not
    known. `refusals` are what speaks against it whatever it loses. `harms` is not of the candidate but of its layers.
    """

    title: str
    scheme: str
    options: str
    digest: str = ""
    size: int = 0
    losses: tuple[Loss, ...] = ()
    likeness: float = 0.0
    milliseconds: float = 0.0
    ratio: float = 0.0
    ratio_low: float = 0.0
    ratio_high: float = 0.0
    ram_bytes: int = 0
    refusals: tuple[Refusal, ...] = ()
    harms: tuple[Harm, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A candidate, whether no other one beats it at size, time and loss at once, and what became of it."""

    trial: Trial
    on_front: bool
    fate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """All of a search: its candidates in the order they were measured, and the samples it chose and judged on."""

    tried: tuple[Tried, ...]
    objective: str
    chosen_on: int
    judged_on: int
    confidence: float
    note: str


def margin(trial: Trial, scale: float) -> float:
    """Return how far the worst drop's interval is expected to stay within its budget on the held-out samples.

    Below 0 is outside. Infinite for a candidate that has nothing to lose.

    Args:
        trial: the candidate.
        scale: how wide an interval on the held-out samples is, against one on those it was measured on.
    """
    return min((x.budget - x.value - (x.high - x.value) * scale for x in trial.losses), default=math.inf)


def cost_of(trial: Trial, objective: str) -> tuple[float, float]:
    """Return what is to be small, by the objective: bytes and then time, or time and then bytes."""
    time = trial.ratio or trial.milliseconds or math.inf
    return (float(trial.size), time) if objective == "size" else (time, float(trial.size))


def finalists(trials: Sequence[Trial], objective: str, scale: float) -> tuple[Trial, ...]:
    """Return the candidates to judge, in this order: the best one first, then ever safer ones, at most a few.

    Those that no other one beats at both, the objective and the room left in the budget, are a way from the best to
    the safest; of a long one a few steps are taken.
    """
    good = [t for t in trials if t.digest and not t.refusals and margin(t, scale) >= 0]
    way = front(good, lambda t: (*cost_of(t, objective), -margin(t, scale)))
    if len(way) <= MOST_FINALISTS:
        return way
    places = {round(i * (len(way) - 1) / (MOST_FINALISTS - 1)) for i in range(MOST_FINALISTS)}
    return tuple(way[i] for i in sorted(places))


def confidences(count: int, confidence: float) -> tuple[float, ...]:
    """Return the confidence each of `count` finalists is judged at, so that all together keep to the gate's.

    A bad one is shipped if it passes by luck, and each further one that is judged has that luck once more. The
    chances of all add up to the one the gate allows (Bonferroni's inequality).
    """
    if count <= 1:
        return (confidence,) * count
    risk = 1 - confidence
    found = (1 - risk * _FIRST_SHARE, *[1 - risk * (1 - _FIRST_SHARE) / (count - 1)] * (count - 1))
    # Where the gate can say no more than it is asked already, there is one try.
    return (confidence,) if max(found) > _MOST_CONFIDENCE else found


def unpromising(trial: Trial, scale: float) -> str:
    """Return why a candidate is not brought before the judge; '' for one that may be."""
    if trial.refusals:
        return "refused: " + ", ".join(dict.fromkeys(r.check for r in trial.refusals))
    worst = [x for x in trial.losses if x.budget - x.value - (x.high - x.value) * scale < 0]
    if not worst:
        return ""
    lost = max(worst, key=lambda x: x.value - x.budget)
    end = lost.value + (lost.high - lost.value) * scale
    return (
        f"{lost.check} {lost.value:.4f}, up to {end:.4f} to be expected of the held-out samples: over {lost.budget:g}"
    )
