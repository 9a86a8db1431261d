"""What a running model shows of itself: counters and a histogram of latencies, and events for the log.

Both carry names, versions, counts and times; nothing of a model, of its inputs and outputs, or of a key.
"""

from __future__ import annotations

import json
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter_ns
from typing import Any, TypeVar

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import EdgepackError, InputError

__all__ = ["LOGGER", "Meter", "Metrics", "event", "metrics_json", "prometheus_text", "refusal_told"]

LOGGER = "edgepack_runtime"
# Nanoseconds, each the upper end of a bucket; what takes longer is in one more.
_BOUNDS = tuple(digit * 10**power for power in (4, 5, 6, 7, 8, 9) for digit in (1, 2, 5))
_SECOND = 1e9
Got = TypeVar("Got")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What one opened model did up to now.

    Args:
        model: the product.
        version: the publisher's name for it.
        profile: the board it was built for.
        engine: name and version of what runs it.
        samples: how many samples the runs were given: the first dimension of the first input if the model leaves that
            open, else one a run.
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
    samples: int
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

    __slots__ = ("_acquire", "_batch", "_counts", "_failed", "_lock", "_refused", "_release", "_samples", "_total")

    def __init__(self, batch: str | None = None) -> None:
        """Count runs; `batch` names the input whose first dimension is the number of samples."""
        self._batch = batch
        self._lock = threading.Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._total = self._samples = self._refused = self._failed = 0

    def timed(self, run: Callable[[Any], Got], given: Any) -> Got:
        """Return what `run` gives, and count how long it took; whatever it raises is counted too, and goes on."""
        start = perf_counter_ns()
        try:
            got = run(given)
        except BaseException as error:
            with self._lock:
                if isinstance(error, InputError):
                    self._refused += 1
                else:
                    self._failed += 1
            raise
        took = perf_counter_ns() - start
        samples = 1
        # Another signature may take other inputs.
        if self._batch is not None and self._batch in given:
            samples = max(given[self._batch].shape[:1], default=1)
        # What `with` does, in half the time.
        self._acquire()
        try:
            self._counts[bisect_left(_BOUNDS, took)] += 1
            self._total += took
            self._samples += samples
        finally:
            self._release()
        return got

    def metrics(self, *, model: str, version: str, profile: str, engine: str) -> Metrics:
        """Return what was counted up to now, under the names it is to be known by."""
        with self._lock:
            return Metrics(
                model=model,
                version=version,
                profile=profile,
                engine=engine,
                samples=self._samples,
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
            "samples": one.samples,
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
    """Return the metrics of some models as Prometheus reads them: its text format, version 0.0.4.

    Sessions of one model under one engine are added up: a text that says the same thing twice is refused whole.
    """
    totals: dict[str, Metrics] = {}
    for one in metrics:
        labels = _labels(one)
        totals[labels] = _sum(totals[labels], one) if labels in totals else one
    lines = [
        "# HELP edgepack_run_seconds How long runs took that gave outputs.",
        "# TYPE edgepack_run_seconds histogram",
    ]
    for labels, one in totals.items():
        lines += [f'edgepack_run_seconds_bucket{{{labels},le="{end}"}} {runs}' for end, runs in one.buckets()]
        lines += [
            f"edgepack_run_seconds_sum{{{labels}}} {one.seconds!r}",
            f"edgepack_run_seconds_count{{{labels}}} {one.runs}",
        ]
    lines += ["# HELP edgepack_samples_total Samples in those runs.", "# TYPE edgepack_samples_total counter"]
    lines += [f"edgepack_samples_total{{{labels}}} {one.samples}" for labels, one in totals.items()]
    for name, says, kinds in (
        ("lost_runs", "Runs that gave no outputs.", ("refused", "failed")),
        ("reloads", "Newer models that took over, or could not be opened.", ("reloads", "failed_reloads")),
    ):
        lines += [f"# HELP edgepack_{name}_total {says}", f"# TYPE edgepack_{name}_total counter"]
        lines += [
            f'edgepack_{name}_total{{{labels},kind="{kind}"}} {getattr(one, kind)}'
            for labels, one in totals.items()
            for kind in kinds
        ]
    return "\n".join(lines) + "\n"


def _labels(one: Metrics) -> str:
    pairs = (("model", one.model), ("version", one.version), ("profile", one.profile), ("engine", one.engine))
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _sum(one: Metrics, other: Metrics) -> Metrics:
    return replace(
        one,
        samples=one.samples + other.samples,
        seconds=one.seconds + other.seconds,
        counts=tuple(a + b for a, b in zip(one.counts, other.counts, strict=True)),
        refused=one.refused + other.refused,
        failed=one.failed + other.failed,
        reloads=one.reloads + other.reloads,
        failed_reloads=one.failed_reloads + other.failed_reloads,
    )


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


@contextmanager
def refusal_told(what: str) -> Iterator[None]:
    """Log an error that is raised within, and let it go on.

    For information: who called hears of it anyway, and knows how bad that is.
    """
    try:
        yield
    except EdgepackError as error:
        event("refused", f"{what}: {error.message}", error=type(error).__name__)
        raise
