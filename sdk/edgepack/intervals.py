"""Intervals of a metric's drop: a score interval for right-or-wrong samples, a bootstrap for everything else.

Both are two-sided, and neither is [0, 0] where nothing differed: what was not seen in n samples may still happen in
some 4 of n. docs/accuracy.md has the sources, and what was simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = [
    "CONFIDENCE",
    "MIN_SAMPLES",
    "RESAMPLES",
    "Interval",
    "Measured",
    "Pair",
    "bootstrap",
    "count_discordant",
    "round_up",
]

CONFIDENCE = 0.95
RESAMPLES = 2000
# Fewer say nothing of how much samples differ from each other.
MIN_SAMPLES = 5
_NORMAL = NormalDist()
_GROUPS = 200
_CELLS = 1 << 21
_MOST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric before and after, and how much worse it got; `needed` tells the samples that a budget takes."""

    source: Interval
    candidate: Interval
    drop: Interval
    needed: Callable[[float], int | None]


class Pair(Protocol):
    """The same `count` samples under the source and the candidate.

    `stake` is how much one more sample like the one that hurts most would cost, were it to fail altogether.
    `sign` is 1 where more is better, -1 where less is.
    """

    @property
    def count(self) -> int:
        """How many samples there are."""

    @property
    def stake(self) -> float:
        """What one more failing sample would cost."""

    @property
    def sign(self) -> float:
        """1 where more is better."""

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the metric of source and candidate [b] with samples weighted by `weights` [b, count]."""


def _width(confidence: float) -> float:
    """Return half the width of a two-sided interval in standard deviations; 1.96 for 0.95."""
    return _NORMAL.inv_cdf((1 + confidence) / 2)


def _wilson(hits: float, count: int, z: float) -> Interval:
    """Return the score interval of a share (Wilson 1927)."""
    share, square = hits / count, z**2
    middle = (hits + square / 2) / (count + square)
    half = z * math.sqrt(hits * (1 - share) + square / 4) / (count + square)
    return Interval(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def _tango(lost: float, gained: float, count: float, delta: float) -> float:
    """Return the score statistic of "the drop is `delta`" (Tango, Statistics in Medicine 17, 1998)."""
    a = 2 * count
    b = -lost - gained + (2 * count - lost + gained) * delta
    c = -gained * delta * (1 - delta)
    # Under that drop, the likeliest share of samples that only the candidate has right.
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    spread = count * (2 * max(0.0, share) + delta * (1 - delta))
    excess = lost - gained - count * delta
    return excess / math.sqrt(spread) if spread > 0 else math.copysign(math.inf, excess)


def _tango_upper(lost: float, gained: float, count: float, z: float) -> float:
    low, high = (lost - gained) / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _tango(lost, gained, count, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def count_discordant(source: Array, candidate: Array, confidence: float = CONFIDENCE) -> Measured:
    """Return the drop of the share of right samples, from which are right [n] under the source and the candidate."""
    count, z = len(source), _width(confidence)
    lost, gained = float((source & ~candidate).sum()), float((candidate & ~source).sum())
    drop = Interval(
        value=(lost - gained) / count,
        low=-_tango_upper(gained, lost, count, z),
        high=_tango_upper(lost, gained, count, z),
    )

    def within(times: float, budget: float) -> bool:
        return _tango_upper(times * lost, times * gained, times * count, z) <= budget

    return Measured(
        source=_wilson(float(source.sum()), count, z),
        candidate=_wilson(float(candidate.sum()), count, z),
        drop=drop,
        needed=lambda budget: _needed(count, within, budget) if drop.value < budget else None,
    )


def _needed(count: int, within: Callable[[float, float], bool], budget: float) -> int | None:
    low, high = 1.0, 1.0
    while not within(high, budget):
        low, high = high, 2 * high
        if high * count > _MOST:
            return None
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle, budget) else (middle, high)
    return round_up(high * count)


def round_up(count: float) -> int:
    """Return `count` with two digits that count, and no fewer samples than it."""
    step = 10 ** max(0, len(str(math.ceil(count))) - 2)
    return int(math.ceil(count / step) * step)


def student(freedom: int, z: float) -> float:
    """Return the t to the normal quantile `z`, for 4 degrees of freedom and more (Fisher and Cornish 1960)."""
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def bootstrap(pair: Pair, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Measured:
    """Return the drop of any metric, by paired bootstrap over samples: each resample takes the same for both.

    The interval is the wider of BCa (Efron 1987) and Student's t on the bootstrap's deviation, the latter with two
    more samples that fail altogether, because a bootstrap knows nothing of what was not seen. The seed is fixed.
    """
    count, whole, z = pair.count, np.ones((1, pair.count)), _width(confidence)
    # The weight of failures that were not seen, as in "add two successes and two failures" (Agresti and Coull 1998).
    unseen = z**2 / 2 * pair.stake
    before, after = (float(side[0]) for side in pair.scores(whole))
    rng = np.random.default_rng(0)
    rows = max(1, _CELLS // count)
    parts = [pair.scores(_resample(rng, count, min(rows, resamples - i))) for i in range(0, resamples, rows)]
    befores, afters = (np.concatenate(side) for side in zip(*parts, strict=True))
    value, drops = pair.sign * (before - after), pair.sign * (befores - afters)
    deviation = float(drops.std()) * math.sqrt(count / (count - 1)) if count > 1 else math.inf

    def reach(times: float) -> float:
        if count * times < MIN_SAMPLES:
            return _MOST
        spread = math.sqrt(deviation**2 / times + unseen * pair.stake / times**2)
        return unseen / times + student(round(count * times) - 1, z) * spread

    low, high = _bca(drops, value, _jackknife(pair), z)
    return Measured(
        source=_percentiles(befores, before, confidence),
        candidate=_percentiles(afters, after, confidence),
        drop=Interval(
            value=value,
            low=min(low, value - reach(1.0)),
            high=max(high, value + reach(1.0)),
        ),
        needed=lambda budget: (
            _needed(count, lambda times, most: value + reach(times) <= most, budget) if value < budget else None
        ),
    )


def _resample(rng: np.random.Generator, count: int, rows: int) -> Array:
    picks = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
    return np.bincount(picks.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _percentiles(resampled: Array, value: float, confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def _jackknife(pair: Pair) -> Array:
    """Return the drop with each sample left out in turn; in groups where there are many."""
    groups = min(pair.count, _GROUPS)
    weights = np.ones((groups, pair.count))
    weights[np.arange(pair.count) % groups, np.arange(pair.count)] = 0.0
    rows = max(1, _CELLS // pair.count)
    parts = [pair.scores(weights[i : i + rows]) for i in range(0, groups, rows)]
    before, after = (np.concatenate(side) for side in zip(*parts, strict=True))
    return np.asarray(pair.sign * (before - after))


def _bca(drops: Array, value: float, left_out: Array, width: float) -> tuple[float, float]:
    below = float((drops < value).mean() + (drops == value).mean() / 2)
    shift = _NORMAL.inv_cdf(min(max(below, 1 / (2 * len(drops))), 1 - 1 / (2 * len(drops))))
    lean = left_out.mean() - left_out
    scale = 6 * float((lean**2).sum()) ** 1.5
    skew = float((lean**3).sum()) / scale if scale > 0 else 0.0
    ends = []
    for z in (-width, width):
        bent = 1 - skew * (shift + z)
        share = _NORMAL.cdf(shift + (shift + z) / bent) if bent > 0 else float(z > 0)
        ends.append(float(np.percentile(drops, 100 * share)))
    return ends[0], ends[1]
