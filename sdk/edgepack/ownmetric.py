"""A metric that is the user's own function: it runs in a child process, and its drop is judged like any other.

The function takes outputs [n, ...] by name and the labels, by output where the data have them so (without any, the
float source's outputs by name), and gives one number for all samples or one a sample, whose mean then counts. More
is better, unless the function has the attribute ``lower_is_better``, set to True.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgepack.drop import drop_of, measure_drop
from edgepack.errors import RecipeError, WorkerError
from edgepack.gate import LABELS, Drop, Gate, MetricFunction, verdict_on
from edgepack.intervals import RESAMPLES, Interval, Measured, Pair, bootstrap
from edgepack.pairing import paired_outputs
from edgepack.scoring import MeanPair
from edgepack.truth import Labels
from edgepack.usercode import load_function, reason
from edgepack.worker import Workplace, run_task
from edgepack_runtime._files import read_capped
from edgepack_runtime.tensors import Array

__all__ = [
    "OwnRequest",
    "OwnResult",
    "answer",
    "check_function",
    "check_metrics",
    "function_notes",
    "load",
    "measure_drops",
    "run",
]

T = TypeVar("T")
# A function of all samples at once is called on as many drawings as the time allows, down to the last of these.
_RESAMPLES = (RESAMPLES, 1000, 500, 200)
_LEFT_OUT = 200
_MAX_SOURCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRequest:
    """Outputs [n, ...] by name; without `labels` and `labels_of`, those by output, the source's stand for them.

    `seconds` are for resampling.
    """

    path: Path
    entry: str
    source: Mapping[str, Array]
    candidate: Mapping[str, Array]
    labels: Array | None
    labels_of: Mapping[str, Array] | None
    budget: float
    confidence: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnResult:
    """What was measured; `needed` as in `Drop`."""

    source: Interval
    candidate: Interval
    drop: Interval
    needed: int | None


def measure_drops(
    gate: Gate,
    sides: tuple[Mapping[str, Array], Mapping[str, Array]],
    labels: Labels | None,
    place: Workplace,
) -> tuple[Drop, ...]:
    """Return what the gate's metrics lose, the user's own one among them; as `edgepack.drop.measure_drop`.

    Args:
        gate: the metrics and budgets.
        sides: the float source's outputs on the evaluation samples and the candidate's, [n, ...] by name.
        labels: what is right, or None.
        place: where a function of the user's own runs, under which limits.

    Raises:
        DatasetError: outputs, labels and a metric do not fit each other.
        RecipeError: the function cannot be used; the message says why.
    """
    if gate.function is None:
        return measure_drop(gate, *sides, labels)
    others = (measure_drop(other, *sides, labels) for other in gate.also)
    return (_measure_own(gate, gate.function, sides, labels, place), *(drop for found in others for drop in found))


def function_notes(gate: Gate) -> tuple[str, ...]:
    """Return what is signed of a metric that is code: its file's digest.

    Raises:
        FileError: it cannot be read.
    """
    if gate.function is None:
        return ()
    digest = hashlib.sha256(read_capped(gate.function.path, _MAX_SOURCE)).hexdigest()
    return (f"the metric is the user's own code: {gate.function}, SHA-256 {digest}",)


def check_function(function: MetricFunction, place: Workplace) -> None:
    """Refuse a function that cannot be loaded, before anything slow is done for it.

    Raises:
        RecipeError: its file cannot be imported, or there is no such function in it.
    """
    _asked("load", replace(function, path=function.path.resolve()), MetricFunction, place)


def check_metrics(gate: Gate, source: Mapping[str, Array], labels: Labels | None, place: Workplace) -> None:
    """Refuse metrics that do not fit the source's own outputs, before there is a candidate.

    Args:
        gate: the metrics.
        source: the float source's outputs on the evaluation samples, [n, ...] by name.
        labels: what is right, or None.
        place: where a function of the user's own is tried.

    Raises:
        DatasetError: outputs, labels and a metric do not fit each other.
        RecipeError: the function cannot be used; the message says why.
    """
    others: tuple[Gate, ...] = (gate,)
    if gate.function is not None:
        request = _own_request(gate, gate.function, (source, source), labels, place)
        _asked("answer", request, MetricFunction, place)
        others = gate.also
    for other in others:
        for _ in paired_outputs(other, source, source, labels):
            pass


def _own_request(
    gate: Gate,
    function: MetricFunction,
    sides: tuple[Mapping[str, Array], Mapping[str, Array]],
    labels: Labels | None,
    place: Workplace,
) -> OwnRequest:
    labels = labels if gate.against == LABELS else None
    names = gate.outputs or tuple(sides[0])
    for name in names:
        if name not in sides[0]:
            raise RecipeError(f"there is no output {name!r} for the metric; there are {sorted(sides[0])}")
    return OwnRequest(
        path=function.path.resolve(),
        entry=function.entry,
        source={name: sides[0][name] for name in names},
        candidate={name: sides[1][name] for name in names},
        labels=None if isinstance(labels, Mapping) else labels,
        labels_of=labels if isinstance(labels, Mapping) else None,
        budget=gate.max_drop,
        confidence=gate.confidence,
        seconds=place.limits.seconds / 2,
    )


def _asked(task: str, request: OwnRequest | MetricFunction, reply: type[T], place: Workplace) -> T:
    try:
        return run_task(f"edgepack.ownmetric:{task}", request, reply, place)
    except WorkerError as error:
        raise RecipeError(
            f"--metric {request.path.name}:{request.entry}: {error.message}",
            hint="try the function by itself; it has no network and no files",
        ) from error


def _measure_own(
    gate: Gate,
    function: MetricFunction,
    sides: tuple[Mapping[str, Array], Mapping[str, Array]],
    labels: Labels | None,
    place: Workplace,
) -> Drop:
    request = _own_request(gate, function, sides, labels, place)
    found = _asked("run", request, OwnResult, place)
    measured = Measured(
        source=found.source, candidate=found.candidate, drop=found.drop, needed=lambda budget: found.needed
    )
    count = len(next(iter(request.source.values())))
    labelled = request.labels is not None or request.labels_of is not None
    return drop_of(gate, ", ".join(request.source), measured, (count, labelled))


def load(function: MetricFunction) -> MetricFunction:
    """Return `function` once it was loaded; runs in a child process.

    Raises:
        RecipeError: it cannot be.
    """
    load_function(function.path, function.entry, f"--metric {function}")
    return function


def answer(request: OwnRequest) -> MetricFunction:
    """Return the function once it gave numbers for the source's outputs; runs in a child process.

    Raises:
        RecipeError: it cannot be imported, fails, or gives something else.
    """
    own = _Own(request)
    own.value(request.source, np.arange(own.count))
    return MetricFunction(path=request.path, entry=request.entry)


def run(request: OwnRequest) -> OwnResult:
    """Return what the user's function says of both sides, with the interval of its drop; runs in a child process.

    Raises:
        RecipeError: it cannot be imported, fails, gives something else than numbers, or takes too long.
    """
    own = _Own(request)
    measured = bootstrap(own.pair(), request.confidence, own.resamples)
    unclear = verdict_on(measured.drop, request.budget).unclear
    return OwnResult(
        source=measured.source,
        candidate=measured.candidate,
        drop=measured.drop,
        needed=measured.needed(request.budget) if unclear else None,
    )


class _Own:
    """The user's function, and what it said of all samples."""

    def __init__(self, request: OwnRequest) -> None:
        self.name = f"{request.path.name}:{request.entry}"
        self.function = load_function(request.path, request.entry, f"--metric {self.name}")
        self.sign = -1.0 if getattr(self.function, "lower_is_better", False) else 1.0
        self.request = request
        named = request.source if request.labels_of is None else request.labels_of
        self.truth: Labels = named if request.labels is None else request.labels
        self.count = len(next(iter(request.source.values())))
        self.resamples = RESAMPLES

    def pair(self) -> Pair:
        everything = np.arange(self.count)
        start = time.monotonic()
        source = self.value(self.request.source, everything)
        seconds = time.monotonic() - start
        if not np.array_equal(source, self.value(self.request.source, everything)):
            raise RecipeError(f"--metric {self.name} gives another value for the same samples when asked again")
        candidate = self.value(self.request.candidate, everything)
        if source.shape != candidate.shape:
            raise RecipeError(f"--metric {self.name} gives now one number, and now one a sample")
        # What one more failing sample costs is not known of a stranger's function: all of the largest value.
        stake = float(max(np.abs(source).max(), np.abs(candidate).max())) / self.count
        if source.ndim:
            return MeanPair(source, candidate, stake, self.sign)
        self._afford(seconds)
        return _WholePair(self, stake)

    def _afford(self, seconds: float) -> None:
        left_out = min(self.count, _LEFT_OUT) + 1
        for resamples in _RESAMPLES:
            if 2 * (resamples + left_out) * seconds <= self.request.seconds:
                self.resamples = resamples
                return
        raise RecipeError(
            f"--metric {self.name} takes {seconds:.1f} s a call: too long for the {2 * (_RESAMPLES[-1] + left_out)} "
            "calls that an interval needs",
            hint="let it return one number a sample, an array [n]: it is then called three times",
        )

    def value(self, outputs: Mapping[str, Array], picks: Array) -> Array:
        # Indexing copies: a function that writes into what it is given harms nobody.
        given = {name: values[picks] for name, values in outputs.items()}
        if isinstance(self.truth, Mapping):
            truth: Any = {name: values[picks] for name, values in self.truth.items()}
        else:
            truth = self.truth[picks]
        try:
            found = self.function(given, truth)
        except (Exception, SystemExit) as error:
            raise RecipeError(f"--metric {self.name} fails: {reason(error, self.request.path)}") from error
        return self._checked(found, len(picks))

    def _checked(self, found: Any, count: int) -> Array:
        wanted = "a number, or an array with one number a sample"
        try:
            value = np.asarray(found)
        except Exception as error:
            raise RecipeError(f"--metric {self.name} gives {type(found).__name__}, wanted {wanted}") from error
        if value.dtype.kind not in ("fiub" if value.ndim else "fiu"):
            raise RecipeError(f"--metric {self.name} gives {type(found).__name__}, wanted {wanted}")
        if value.shape not in ((), (count,)):
            raise RecipeError(
                f"--metric {self.name} gives shape {list(value.shape)} of {count} samples, wanted {wanted}"
            )
        if not np.isfinite(value).all():
            raise RecipeError(
                f"--metric {self.name} gives NaN or infinity on {count} samples",
                hint="it is asked of many drawings of the samples: a number is needed for any of them",
            )
        return np.asarray(value, np.float64)


class _WholePair:
    """A number of all samples at once: the function is called again for every drawing."""

    def __init__(self, own: _Own, stake: float) -> None:
        self.own, self.count, self.stake, self.sign = own, own.count, stake, own.sign

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the function's value of source and candidate for each row of weights, which are whole numbers."""
        picks = [np.repeat(np.arange(self.count), row.astype(np.int64)) for row in weights]
        request = self.own.request
        before, after = (
            np.array([float(self.own.value(side, pick)) for pick in picks])
            for side in (request.source, request.candidate)
        )
        return before, after
