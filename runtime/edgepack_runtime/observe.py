"""What a running model shows of itself: counters and a histogram of latencies, and events for the log.

Both carry names, versions, counts and times; nothing of a model, of its inputs and outputs, or of a key.
"""

from __future__ import annotations

import json
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TypeVar

from edgepack_runtime.errors import EdgepackError, InputError

__all__ = ["LOGGER", "Meter", "Metrics", "event", "metrics_json", "prometheus_text"]

LOGGER = "edgepack_runtime"
# Nanoseconds, each the upper end of a bucket; what takes longer is in one more.
_BOUNDS = tuple(digit * 10**power for power in (4, 5, 6, 7, 8, 9) for digit in (1, 2, 5))
_SECOND = 1e9
Given = TypeVar("Given")
Got = TypeVar("Got")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What one opened model did up to now.

    Args:
        model: the product.
        version: the publisher's name for it.
        profile: the board it was built for.
        engine: name and version of what runs it.
        seconds: how long all runs took together.
        counts: runs in each bucket of latency, from the shortest; the last is without an upper end.
        refused: runs whose inputs did not fit.
        failed: runs that the engine failed in.
        reloads: how often a newer model took over.
        failed_reloads: how often one was to, and could not be opened.
    """

    model: str
    version: str
    profile: str
    engine: str
    seconds: float
    counts: tuple[int, ...]
    refused: int
    failed: int
    reloads: int = 0
    failed_reloads: int = 0

    @property
    def runs(self) -> int:
        """How many runs gave outputs."""
        return sum(self.counts)

    def buckets(self) -> tuple[tuple[str, int], ...]:
        """Return pairs of an upper end in seconds and the runs that took no longer, as Prometheus writes them."""
        ends = (*(f"{bound / _SECOND:g}" for bound in _BOUNDS), "+Inf")
        return tuple((end, sum(self.counts[: i + 1])) for i, end in enumerate(ends))


class Meter:
    """Counts the runs of one opened model, in any number of threads."""

    __slots__ = ("_counts", "_failed", "_lock", "_refused", "_total")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._total = self._refused = self._failed = 0

    def timed(self, run: Callable[[Given], Got], given: Given) -> Got:
        """Return what `run` gives, and count how long it took, or that it gave nothing.

        Raises:
            EdgepackError: what `run` raised.
        """
        start = perf_counter_ns()
        try:
            got = run(given)
        except EdgepackError as error:
            with self._lock:
                if isinstance(error, InputError):
                    self._refused += 1
                else:
                    self._failed += 1
            raise
        took = perf_counter_ns() - start
        with self._lock:
            self._counts[bisect_left(_BOUNDS, took)] += 1
            self._total += took
        return got

    def metrics(self, *, model: str, version: str, profile: str, engine: str) -> Metrics:
        """Return what was counted up to now, under the names it is to be known by."""
        with self._lock:
            return Metrics(
                model=model,
                version=version,
                profile=profile,
                engine=engine,
                seconds=self._total / _SECOND,
                counts=tuple(self._counts),
                refused=self._refused,
                failed=self._failed,
            )


def metrics_json(*metrics: Metrics) -> str:
    """Return the metrics of some models as a line of JSON; buckets count those below too, as in Prometheus."""
    models = [
        {
            "model": one.model,
            "version": one.version,
            "profile": one.profile,
            "engine": one.engine,
            "runs": one.runs,
            "seconds": one.seconds,
            "latency": [{"le": end, "runs": runs} for end, runs in one.buckets()],
            "refused": one.refused,
            "failed": one.failed,
            "reloads": one.reloads,
            "failed_reloads": one.failed_reloads,
        }
        for one in metrics
    ]
    return json.dumps({"schema": 1, "models": models}) + "\n"


def prometheus_text(*metrics: Metrics) -> str:
    """Return the metrics of some models as Prometheus reads them: its text format, version 0.0.4."""
    lines = [
        "# HELP edgepack_run_seconds How long runs took that gave outputs.",
        "# TYPE edgepack_run_seconds histogram",
    ]
    for one in metrics:
        labels = _labels(one)
        lines += [f'edgepack_run_seconds_bucket{{{labels},le="{end}"}} {runs}' for end, runs in one.buckets()]
        lines += [
            f"edgepack_run_seconds_sum{{{labels}}} {one.seconds!r}",
            f"edgepack_run_seconds_count{{{labels}}} {one.runs}",
        ]
    for name, says, kinds in (
        ("lost_runs", "Runs that gave no outputs.", ("refused", "failed")),
        ("reloads", "Newer models that took over, or could not be opened.", ("reloads", "failed_reloads")),
    ):
        lines += [f"# HELP edgepack_{name}_total {says}", f"# TYPE edgepack_{name}_total counter"]
        lines += [
            f'edgepack_{name}_total{{{_labels(one)},kind="{kind}"}} {getattr(one, kind)}'
            for one in metrics
            for kind in kinds
        ]
    return "\n".join(lines) + "\n"


def _labels(one: Metrics) -> str:
    pairs = (("model", one.model), ("version", one.version), ("profile", one.profile), ("engine", one.engine))
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def event(name: str, message: str, *, warning: bool = False, **fields: str | int) -> None:
    """Log a sentence; the record carries the event's `name` and `fields` too, for handlers that write JSON.

    An application that never imported `logging` does not listen, and does not wait for its import.
    """
    if warning or "logging" in sys.modules:
        import logging

        level = logging.WARNING if warning else logging.INFO
        logging.getLogger(LOGGER).log(level, "%s", message, extra={"event": name, "fields": fields})
