"""What a metric loses from the float source to a candidate, with its interval and the gate's verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from edgepack.decisions import (
    decide,
    doubt,
    fitting_outputs,
    is_scores,
    right_classes,
    right_yes_or_no,
    single_threshold,
)
from edgepack.errors import DatasetError
from edgepack.gate import LABELS, SOURCE, Drop, Gate, Verdict, verdict_on
from edgepack.intervals import Measured, bootstrap, count_discordant
from edgepack.scoring import BLOCK, ClassPair, CountPair, MeanPair, RankPair, signal_values
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array

__all__ = ["drop_evidence", "measure_drop", "source_doubts"]

# More classes than this are counted, but not told one by one.
_MANY_CLASSES = 20


def measure_drop(
    gate: Gate,
    source: Mapping[str, Array],
    candidate: Mapping[str, Array],
    labels: Array | None,
) -> tuple[Drop, ...]:
    """Return what the gate's metrics lose from `source` to `candidate`, one `Drop` for each output each is judged on.

    A pure function of its arguments (the seed is fixed), for any candidate: nothing of a build is needed. All of the
    verdicts must be `Verdict.HOLDS` for the candidate to pass.

    Args:
        gate: the metrics, their budgets, outputs and thresholds.
        source: the float source's outputs on the evaluation samples, [n, *output shape] by output name, in float.
        candidate: the same of the candidate, on the same samples in the same order.
        labels: what is right, [n, ...]; None lets the source's outputs stand for it, and every `Drop` says so.

    Raises:
        DatasetError: there are no samples, an output holds NaN or infinity, or outputs and labels do not fit.
    """
    sides = ({n: _at_least_2d(v) for n, v in source.items()}, {n: _at_least_2d(v) for n, v in candidate.items()})
    return tuple(drop for one in (gate, *gate.also) for drop in _of_gate(one, sides, labels))


def drop_evidence(drop: Drop, environment: str, *, is_float: bool = False) -> Evidence:
    """Return what is signed of a drop; only `Verdict.HOLDS` holds.

    Args:
        drop: what was measured.
        environment: where.
        is_float: whether the candidate's outputs were found to be the float source's own to 0.1 % of their range. It
            is then no worse for want of samples, and only a drop that is above the budget refuses it.
    """
    spared = is_float and drop.verdict is Verdict.UNCLEAR
    return Evidence(
        check=drop.check,
        holds=drop.verdict is Verdict.HOLDS or spared,
        verdict="measured",
        found=f"{drop.found}; shipped, for it is the float model" if spared else drop.found,
        wanted=drop.wanted,
        environment=environment,
        value=drop.drop.value,
        low=drop.drop.low,
        high=drop.drop.high,
    )


def _at_least_2d(values: Array) -> Array:
    return values[:, None] if values.ndim == 1 else values


def _of_gate(
    gate: Gate, sides: tuple[Mapping[str, Array], Mapping[str, Array]], labels: Array | None
) -> Iterator[Drop]:
    source, candidate = sides
    if gate.metric is None and labels is None:
        gate = replace(gate, metric="agreement")
    if not len(next(iter(source.values()), ())):
        raise DatasetError(
            f"{gate.judged.name} needs evaluation samples, and there are none", hint="name them: --evaluation FILE"
        )
    for name in fitting_outputs(source, gate, labels):
        if not np.isfinite(source[name]).all() or not np.isfinite(candidate[name]).all():
            raise DatasetError(f"output {name!r} holds NaN or infinity, of which no metric can be made")
        yield _of_output(gate, name, (source[name], candidate[name]), labels)


def _drop(
    gate: Gate,
    output: str,
    measured: Measured,
    known: tuple[int, bool],
    classes: tuple[tuple[int, float, float], ...] = (),
) -> Drop:
    count, labelled = known
    verdict = verdict_on(measured.drop, gate.max_drop)
    name = gate.judged.name if gate.threshold is None else f"{gate.judged.name} at {gate.threshold:g}"
    return Drop(
        metric=name,
        output=output,
        samples=count,
        against=LABELS if labelled else SOURCE,
        source=measured.source,
        candidate=measured.candidate,
        drop=measured.drop,
        budget=gate.max_drop,
        confidence=gate.confidence,
        verdict=verdict,
        needed=measured.needed(gate.max_drop) if verdict is Verdict.UNCLEAR else None,
        classes=classes if len(classes) <= _MANY_CLASSES else (),
    )


def _of_output(gate: Gate, name: str, values: tuple[Array, Array], labels: Array | None) -> Drop:
    metric = gate.judged
    labels = None if metric.kind == "agreement" else labels
    known = (len(values[0]), labels is not None)
    if metric.kind == "signal":
        return _drop(gate, name, bootstrap(_signal(gate, values, labels), gate.confidence), known)
    if metric.kind == "ranking":
        return _drop(gate, name, bootstrap(_ranking(name, values, labels), gate.confidence), known)
    if metric.count > 1:
        return _drop(gate, name, _top(gate, values, labels), known)
    judged, source, candidate, truth = _decided(gate, name, values, labels)
    if metric.per_sample:
        right, still = source == truth, candidate == truth
        if truth.shape[1] == 1:
            return _drop(judged, name, count_discordant(right[:, 0], still[:, 0], gate.confidence), known)
        means = _mean(right.mean(1), still.mean(1), truth.shape[1])
        return _drop(judged, name, bootstrap(means, gate.confidence), known)
    if gate.threshold is not None:
        counts = CountPair.of(metric.name, source, candidate, truth)
        return _drop(judged, name, bootstrap(counts, gate.confidence), known)
    pair = ClassPair(metric.name, source, candidate, truth)
    return _drop(judged, name, bootstrap(pair, gate.confidence), known, pair.per_class())


def _decided(
    gate: Gate, name: str, values: tuple[Array, Array], labels: Array | None
) -> tuple[Gate, Array, Array, Array]:
    """Return the gate with the threshold, given or told from values, both sides' decisions, and what is right."""
    threshold, reference = gate.threshold, values[0]
    if threshold is None and is_scores(reference) and reference.shape[-1] == 1:
        threshold = single_threshold(reference, name)
    source, candidate = (decide(side, threshold) for side in values)
    if labels is None:
        truth = source
    elif gate.threshold is not None:
        truth = right_yes_or_no(labels, reference)
    else:
        truth = right_classes(labels, reference)
    return replace(gate, threshold=threshold), source, candidate, truth


def source_doubts(gate: Gate, source: Mapping[str, Array], labels: Array | None) -> tuple[str, ...]:
    """Return what makes one doubt that the float source, the labels and the data belong together.

    Raises:
        DatasetError: outputs and labels do not fit.
    """
    if labels is None:
        return ()
    source = {name: _at_least_2d(values) for name, values in source.items()}
    found = []
    for one in (gate, *gate.also):
        if one.judged.kind != "classes":
            continue
        for name in fitting_outputs(source, one, labels):
            _, said, _, truth = _decided(one, name, (source[name], source[name]), labels)
            # Of many positions a sample the commonest class is no measure: most of them are nothing.
            found += [doubt(said[:, 0], truth[:, 0])] if truth.shape[1] == 1 else []
    return tuple(dict.fromkeys(text for text in found if text))


def _mean(source: Array, candidate: Array, positions: int, worst: float | None = None, sign: float = 1.0) -> MeanPair:
    """Return the pair of means; `worst` is what a failing sample has lost, else the source's whole value."""
    stake = abs(float(source.mean())) if worst is None else worst
    return MeanPair(source, candidate, stake / max(len(source), len(source) * positions / BLOCK), sign)


def _signal(gate: Gate, values: tuple[Array, Array], labels: Array | None) -> MeanPair:
    metric = gate.judged
    target = values[0] if labels is None else labels
    source, candidate = (signal_values(metric.name, side, target) for side in values)
    positions = target.size // len(target)
    if metric.higher_is_better:
        return _mean(source, candidate, positions)
    # A failing sample's error is as large as what it should be is spread.
    return _mean(source, candidate, positions, float(np.var(target.astype(np.float64))), -1.0)


def _ranking(name: str, values: tuple[Array, Array], labels: Array | None) -> RankPair:
    source, candidate = (side.reshape(len(side), -1) for side in values)
    columns = source.shape[1]
    if labels is None:
        threshold = single_threshold(source, name) if columns == 1 else None
        truth = decide(source, threshold)
    elif labels.size == source.size and columns > 1:
        truth = right_yes_or_no(labels, source)
    else:
        truth = right_classes(labels, source)
    if columns == 2 and truth.shape[1] == 1:
        source, candidate, columns = source[:, 1:] - source[:, :1], candidate[:, 1:] - candidate[:, :1], 1
    if columns > 1 and truth.shape[1] == 1:
        truth = (truth == np.arange(columns)).astype(np.int64)
    try:
        return RankPair.of(source, candidate, truth)
    except ValueError as error:
        raise DatasetError(
            f"auc of output {name!r} cannot be told: {error}", hint="give samples of each class"
        ) from None


def _top(gate: Gate, values: tuple[Array, Array], labels: Array | None) -> Measured:
    count = gate.judged.count
    source, candidate = (side.reshape(len(side), -1) for side in values)
    if count >= source.shape[1]:
        raise DatasetError(f"top{count} of {source.shape[1]} classes is always right: it measures nothing")
    truth = decide(source, None) if labels is None else right_classes(labels, source)
    right, still = (_among(side, truth, count) for side in (source, candidate))
    return count_discordant(right, still, gate.confidence)


def _among(scores: Array, truth: Array, count: int) -> Array:
    """Return whether the right class is among the first; of equal scores, the lower class comes first."""
    own = np.take_along_axis(scores, truth, axis=1)
    before = (scores > own).sum(1) + ((scores == own) & (np.arange(scores.shape[1]) < truth)).sum(1)
    return np.asarray(before < count)
