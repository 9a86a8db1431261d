"""How long runs take, each timed by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgepack_runtime._data import dataclass

__all__ = ["Latency", "measure"]

_NANOSECONDS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of single runs, one after the other, on this machine as it is."""

    runs: int
    median_ms: float
    p95_ms: float
    min_ms: float
    max_ms: float


def measure(run: Callable[[], object], runs: int) -> Latency:
    """Return how long `runs` calls took, at least one; the caller has warmed up."""
    times = []
    for _ in range(max(runs, 1)):
        start = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - start) / _NANOSECONDS)
    times.sort()
    middle, last = len(times) // 2, len(times) - 1
    median = times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2
    # The nearest rank: of twenty runs the nineteenth.
    p95 = times[-(-95 * len(times) // 100) - 1]
    return Latency(runs=len(times), median_ms=median, p95_ms=p95, min_ms=times[0], max_ms=times[last])
