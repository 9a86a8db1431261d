"""From outputs and labels to what a metric reads: decisions, scores, and what is held to be right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepack.errors import DatasetError
from edgepack.gate import Gate
from edgepack.truth import Labels
from edgepack_runtime.tensors import Array

__all__ = ["decide", "doubt", "fitting_outputs", "is_scores", "right_classes", "right_yes_or_no", "single_threshold"]


def is_scores(values: Array) -> bool:
    """Return whether an output [n, ...] is one row of class scores a sample."""
    return bool(values.size and values.ndim >= 2 and values.size // len(values) == values.shape[-1])


def fitting_outputs(outputs: Mapping[str, Array], gate: Gate, labels: Labels | None) -> tuple[str, ...]:
    """Return the outputs that the gate's metric is judged on.

    Raises:
        DatasetError: a named one is not there or does not fit; or none fits; or labels could belong to several.
    """
    metric = gate.judged
    if metric.kind == "agreement":
        labels = None
    if isinstance(labels, Mapping):
        return _labelled(outputs, gate, labels)
    fits = [name for name, values in outputs.items() if values.size and _fits(values, gate, labels)]
    if metric.kind in ("classes", "agreement") and gate.threshold is None and labels is None:
        # A mask beside a classifier is compared too, but only where it is all there is.
        fits = [name for name in fits if is_scores(outputs[name])] or fits
    needs = _needs(gate, labels)
    for name in gate.outputs:
        if name not in fits:
            raise DatasetError(
                f"output {name!r} gives no {needs}; those that do are {sorted(fits)}",
                hint="the model's outputs are " + ", ".join(f"{n} {list(v.shape[1:])}" for n, v in outputs.items()),
            )
    if gate.outputs:
        return gate.outputs
    if not fits or (labels is not None and len(fits) > 1):
        raise DatasetError(
            f"{metric.name} needs one output of {needs}, the model has {len(fits)}: {sorted(fits)}",
            hint="name it with --metric-output, or as gate.output in edgepack.toml"
            if fits
            else "with a threshold every value is a yes or a no",
        )
    return tuple(fits)


def _labelled(outputs: Mapping[str, Array], gate: Gate, labels: Mapping[str, Array]) -> tuple[str, ...]:
    """Return the outputs that have labels of their own and are judged by them.

    Raises:
        DatasetError: labels name an output that is not there, a named one has none, or they do not fit it.
    """
    for name in (*labels, *gate.outputs):
        if name not in outputs:
            raise DatasetError(f"labels or a metric are for the output {name!r}; there are {sorted(outputs)}")
        if name not in labels:
            raise DatasetError(
                f"there are no labels for the output {name!r}, only for {sorted(labels)}",
                hint=f"store them as 'y.{name}', or judge it against the float source: against = \"float\"",
            )
    fits = [name for name in gate.outputs or labels if _fits(outputs[name], gate, labels[name])]
    for name in gate.outputs or (() if fits else labels):
        if name not in fits:
            found = f"{list(outputs[name].shape[1:])} with labels {list(labels[name].shape[1:])}"
            raise DatasetError(f"output {name!r} {found} gives no {_needs(gate, labels[name])}")
    return tuple(fits)


def _needs(gate: Gate, labels: Array | None) -> str:
    if gate.judged.kind == "signal" or gate.threshold is not None:
        return "values" if labels is None else f"values like the labels {list(labels.shape[1:])}"
    return "class scores"


def _fits(values: Array, gate: Gate, labels: Array | None) -> bool:
    kind = gate.judged.kind
    if kind == "signal" or gate.threshold is not None:
        return labels is None or values.size // len(values) == labels.size // len(labels)
    if is_scores(values):
        return True
    if kind == "ranking" or gate.judged.count > 1 or values.ndim < 3 or values.shape[-1] == 1:
        return False
    # A class at each position: of a mask, a sequence.
    return labels is None or labels.size in (values.size, values.size // values.shape[-1])


def single_threshold(reference: Array, output: str) -> float:
    """Return from which value on an output of one value a sample is class 1.

    A probability's is 0.5. A source that leaves the range from 0 to 1 gives logits, whose threshold is 0.

    Raises:
        DatasetError: it is of whole numbers, so that nobody can tell.
    """
    if reference.dtype.kind in "iu":
        raise DatasetError(
            f"output {output!r} is one {reference.dtype} a sample: it is not known from which on it means yes",
            hint="say the threshold, in the output's own numbers",
        )
    return 0.5 if float(reference.min()) >= 0.0 and float(reference.max()) <= 1.0 else 0.0


def decide(values: Array, threshold: float | None) -> Array:
    """Return the decisions [n, positions]: yes (1) from `threshold` on, or the class with the highest score."""
    if threshold is not None:
        return (values.reshape(len(values), -1) >= threshold).astype(np.int64)
    chosen = values.argmax(-1)
    return np.asarray(chosen.reshape(len(values), -1), np.int64)


def right_yes_or_no(labels: Array, values: Array) -> Array:
    """Return the labels [n, positions] of yes-or-no decisions on each of `values`.

    Raises:
        DatasetError: there are more or fewer, or they are not 0 and 1.
    """
    truth = labels.reshape(len(labels), -1)
    if truth.shape[1] != values.size // len(values):
        raise DatasetError(
            f"labels of shape {list(labels.shape)} do not fit yes or no for each of {list(values.shape)} values",
            hint="there must be one 0 or 1 for every value of the output",
        )
    if not np.isin(truth, (0, 1)).all():
        raise DatasetError("with a threshold, labels are 0 and 1; there are others")
    return truth.astype(np.int64)


def right_classes(labels: Array, values: Array) -> Array:
    """Return the labels [n, positions] as classes of the scores `values` [n, ..., classes]; one-hot is accepted.

    Raises:
        DatasetError: they do not fit, are no whole numbers, or name a class that the output does not have.
    """
    count, classes = len(labels), values.shape[-1]
    positions = values.size // len(values) // classes
    truth = labels.reshape(count, -1)
    if truth.shape[1] == positions * classes and classes > 1:
        hot = truth.reshape(count, positions, classes)
        if not np.isin(hot, (0, 1)).all() or not (hot.sum(-1) == 1).all():
            raise DatasetError(
                f"labels of shape {list(labels.shape)} are not one-hot: not one 1 and else 0 in each row",
                hint="several yes in a row need a threshold",
            )
        truth = hot.argmax(-1)
    elif truth.shape[1] != positions:
        each = "[n]" if positions == 1 else f"[n, {positions}]"
        hot_shape = f"[n, {classes}]" if positions == 1 else f"[n, {positions}, {classes}]"
        raise DatasetError(f"labels of shape {list(labels.shape)} fit neither classes {each} nor one-hot {hot_shape}")
    if truth.dtype.kind == "f" and not (np.isfinite(truth) & (truth == np.floor(truth))).all():
        raise DatasetError("labels are no whole numbers, but this metric counts classes")
    top, known = int(truth.max()), max(classes, 2)
    if top >= known or int(truth.min()) < 0:
        raise DatasetError(f"labels reach from {int(truth.min())} to {top}, the output has {known} classes")
    return truth.astype(np.int64)


def doubt(predicted: Array, truth: Array) -> str:
    """Return what to say of a source that is no better than its commonest class, [n] each; '' of any other.

    A model that is wrong before and after loses nothing: with other preprocessing or labels than it was trained with,
    every candidate passes.
    """
    right, commonest = float((predicted == truth).mean()), float(np.bincount(truth).max()) / len(truth)
    if right == 1.0 or right > commonest:
        return ""
    return (
        f"the float source is right on {right:.2%} of the evaluation samples, always answering the commonest class "
        f"would be on {commonest:.2%}: check the labels and the preprocessing"
    )
