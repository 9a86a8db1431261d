"""From outputs, labels and a metric to the pair of samples that an interval is asked of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgepack.boxmetric import OVERLAPS, BoxPair
from edgepack.decisions import decide, fitting_outputs, is_scores, right_classes, right_yes_or_no, single_threshold
from edgepack.detector import boxes_found, boxes_there, main_output
from edgepack.errors import DatasetError, RecipeError
from edgepack.gate import LABELS, Gate
from edgepack.intervals import Pair
from edgepack.scoring import BLOCK, ClassPair, CountPair, HitPair, MeanPair, RankPair, signal_values
from edgepack.truth import Labels, labels_for
from edgepack_runtime.tensors import Array

__all__ = ["Paired", "at_least_2d", "decided", "paired_outputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One output under source and candidate, as the metric of `gate` sees it; `labelled` is whether labels were."""

    gate: Gate
    output: str
    pair: Pair
    labelled: bool


def paired_outputs(
    gate: Gate, source: Mapping[str, Array], candidate: Mapping[str, Array], labels: Labels | None
) -> Iterator[Paired]:
    """Yield a pair for each output that each of the gate's metrics is judged on.

    Raises:
        DatasetError: there are no samples, an output holds NaN or infinity, or outputs and labels do not fit.
        RecipeError: a metric is a function of the user's own.
    """
    source, candidate = at_least_2d(source), at_least_2d(candidate)
    if gate.metric is None and (labels is None or gate.against != LABELS):
        gate = replace(gate, metric="agreement")
    for one in (gate, *gate.also):
        if one.function is not None:
            raise RecipeError(f"{one.function} is code, and must not run in this process: see `edgepack.ownmetric`")
        if not len(next(iter(source.values()), ())):
            raise DatasetError(
                f"{one.judged.name} needs evaluation samples, and there are none", hint="name them: --evaluation FILE"
            )
        right = labels if one.against == LABELS else None
        if one.judged.kind == "boxes":
            yield _boxes(one, (source, candidate), right)
            continue
        for name in fitting_outputs(source, one, right):
            if not np.isfinite(source[name]).all() or not np.isfinite(candidate[name]).all():
                raise DatasetError(f"output {name!r} holds NaN or infinity, of which no metric can be made")
            yield _paired(one, name, (source[name], candidate[name]), labels_for(right, name))


def at_least_2d(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs, those of one number a sample as [n, 1]."""
    return {name: values[:, None] if values.ndim == 1 else values for name, values in outputs.items()}


def _paired(gate: Gate, name: str, values: tuple[Array, Array], labels: Array | None) -> Paired:
    metric = gate.judged
    labels = None if metric.kind == "agreement" else labels
    pair: Pair
    if metric.kind == "signal":
        pair = _signal(gate, values, labels)
    elif metric.kind == "ranking":
        pair = _ranking(name, values, labels)
    elif metric.count > 1:
        pair = _top(gate, values, labels)
    else:
        several = gate.threshold is not None
        gate, source, candidate, truth = decided(gate, name, values, labels)
        if metric.per_sample and truth.shape[1] == 1:
            pair = HitPair((source == truth)[:, 0], (candidate == truth)[:, 0])
        elif metric.per_sample:
            pair = _mean((source == truth).mean(1), (candidate == truth).mean(1), truth.shape[1])
        elif several:
            pair = CountPair.of(metric.name, source, candidate, truth)
        else:
            pair = ClassPair(metric.name, source, candidate, truth)
    return Paired(gate=gate, output=name, pair=pair, labelled=labels is not None)


def _boxes(gate: Gate, sides: tuple[Mapping[str, Array], Mapping[str, Array]], labels: Labels | None) -> Paired:
    """Return the pair of what source and candidate find; without labels the source finds what is there."""
    if gate.detector is None:
        raise DatasetError(f"metric {gate.judged.name}: nothing says how outputs become boxes")
    name = main_output(gate.detector, sides[0])
    right = labels_for(labels, name)
    found, other = (boxes_found(gate.detector, side) for side in sides)
    truth = found if right is None else boxes_there(gate.detector, right)
    try:
        pair = BoxPair.of((found, other), truth, OVERLAPS if gate.judged.name == "map" else OVERLAPS[:1])
    except ValueError as error:
        raise DatasetError(f"{gate.judged.name} cannot be told: {error}", hint="give pictures with boxes") from None
    boxes = gate.detector.boxes
    used = dict.fromkeys(each for each in (name, boxes.scores, boxes.classes, boxes.count) if each)
    return Paired(gate=gate, output=", ".join(used), pair=pair, labelled=right is not None)


def decided(
    gate: Gate, name: str, values: tuple[Array, Array], labels: Array | None
) -> tuple[Gate, Array, Array, Array]:
    """Return the gate with the threshold, given or told from values, both sides' decisions, and what is right.

    Raises:
        DatasetError: labels do not fit, or nobody can tell from which value on an output says yes.
    """
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


def _top(gate: Gate, values: tuple[Array, Array], labels: Array | None) -> HitPair:
    count = gate.judged.count
    source, candidate = (side.reshape(len(side), -1) for side in values)
    if count >= source.shape[1]:
        raise DatasetError(f"top{count} of {source.shape[1]} classes is always right: it measures nothing")
    truth = decide(source, None) if labels is None else right_classes(labels, source)
    right, still = (_among(side, truth, count) for side in (source, candidate))
    return HitPair(right, still)


def _among(scores: Array, truth: Array, count: int) -> Array:
    """Return whether the right class is among the first; of equal scores, the lower class comes first."""
    own = np.take_along_axis(scores, truth, axis=1)
    before = (scores > own).sum(1) + ((scores == own) & (np.arange(scores.shape[1]) < truth)).sum(1)
    return np.asarray(before < count)
