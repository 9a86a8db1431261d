"""How long one run takes beside another model's, on a machine that others use too.

Of two models that are timed one after the other, the second may meet a busier machine. So they take turns, a few runs
each, and what is kept of each turn is the ratio of the two; half of the ratios lie on either side of their median,
whatever the machine did meanwhile.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgepack_runtime.errors import EngineError

__all__ = ["Timing", "median_interval", "take_turns"]

_MOST_ROUNDS, _FEWEST_ROUNDS = 60, 9
_SECONDS = 0.6
# A run shorter than this is repeated in its turn, after one that warms the caches the other model has filled.
_SHORT_SECONDS = 0.02
_RUNS_A_TURN = 3
_TAIL = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One run of a model, and of the float model it was made from, by turns in one process.

    All are medians over `rounds` turns with their 95 % intervals; `ratio` is the model's time divided by the float
    model's in the same turn. Milliseconds say something of the machine they were taken on, the ratio of the models.
    """

    rounds: int
    milliseconds: float
    low_ms: float
    high_ms: float
    float_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of at least one value, and its 95 % interval by order statistics; all of them below six.

    The median of whatever they were drawn from lies below the k-th smallest with the chance that fewer than k of n
    coins fall on heads: no distribution is assumed (Conover, Practical Nonparametric Statistics, 1999, section 3.2).
    """
    ordered, count = sorted(values), len(values)
    below, chance = 0, 0.5**count
    while chance <= _TAIL:
        below += 1
        chance += math.comb(count, below) * 0.5**count
    first = max(below - 1, 0)
    return statistics.median(ordered), ordered[first], ordered[count - 1 - first]


def take_turns(model: Callable[[], object], reference: Callable[[], object]) -> Timing:
    """Return how long `model` takes beside `reference`; both have run before.

    Short runs are timed for about half a second, and long ones a few times each.

    Raises:
        EngineError: a run takes no time that can be measured.
    """
    start = time.perf_counter()
    model(), reference()
    short = time.perf_counter() - start < 2 * _SHORT_SECONDS
    times: list[tuple[float, float]] = []
    while len(times) < _FEWEST_ROUNDS or (len(times) < _MOST_ROUNDS and time.perf_counter() - start < _SECONDS):
        # Whoever is always second would gain or lose by it.
        if len(times) % 2:
            second = _turn(reference, short)
            times.append((_turn(model, short), second))
        else:
            times.append((_turn(model, short), _turn(reference, short)))
    if not all(a > 0 and b > 0 for a, b in times):
        raise EngineError("a run takes no time that this machine's clock could measure")
    ratio, ratio_low, ratio_high = median_interval([a / b for a, b in times])
    middle, low, high = median_interval([a * 1000 for a, _ in times])
    return Timing(
        rounds=len(times),
        milliseconds=middle,
        low_ms=low,
        high_ms=high,
        float_ms=statistics.median(b * 1000 for _, b in times),
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
    )


def _turn(run: Callable[[], object], short: bool) -> float:
    """Return the seconds of one run: the median of a few after one that does not count, where they are short."""
    if not short:
        return _timed(run)
    run()
    return statistics.median(_timed(run) for _ in range(_RUNS_A_TURN))


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
