"""How good a candidate is: against the float source's outputs, and by a metric on labelled data, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import DatasetError, RecipeError
from edgepack_runtime.tensors import Array

__all__ = [
    "METRICS",
    "Drop",
    "Interval",
    "Parity",
    "compare",
    "deciding_output",
    "largest_difference",
    "measure_drop",
    "parity",
    "predictions",
]

_RESAMPLES = 2000
_LEVEL = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """One output of a candidate against the float source's, over all samples.

    `max_error` is the largest absolute difference, `range` max - min of the source's output (its magnitude where it
    is constant), `correlation` Lin's concordance over all values (1.0 where the source's output is constant and met),
    `cosine` that of the angle between all values of the two (1.0 where both are zero), `agreement` the share of
    samples with the same decision (arg max over the last dimension; None where there is nothing to decide).
    """

    output: str
    max_error: float
    range: float
    correlation: float
    cosine: float
    agreement: float | None

    @property
    def relative_error(self) -> float:
        """`max_error` as a share of the source's range."""
        return self.max_error / self.range if self.range > 0 else self.max_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A metric before and after; `drop` is source minus candidate, by paired bootstrap over the samples."""

    metric: str
    samples: int
    source: Interval
    candidate: Interval
    drop: Interval


def largest_difference(reference: Array, found: Array) -> float:
    """Return the largest absolute difference of two arrays without NaN or infinity; 0 where there is nothing in them.

    As float64, whole numbers beyond 2**53 that differ would be the same: they are subtracted as what they are.
    """
    if reference.dtype.kind in "iu" and found.dtype.kind in "iu":
        high, low = np.maximum(reference, found), np.minimum(reference, found)
        return float((high.astype(np.uint64) - low.astype(np.uint64)).max(initial=0))
    return float(np.abs(reference.astype(np.float64) - found.astype(np.float64)).max(initial=0.0))


def parity(name: str, reference: Array, candidate: Array) -> Parity:
    """Return how far `candidate` [n, ...] is from `reference` of the same shape.

    Raises:
        DatasetError: the shapes differ, so that nothing can be compared.
    """
    if reference.shape != candidate.shape:
        raise DatasetError(
            f"output {name!r}: the source gives shape {list(reference.shape)}, the candidate {list(candidate.shape)}"
        )
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    # Where either side holds NaN or infinity nothing can be said in numbers, and the worst is assumed.
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    error = largest_difference(reference, candidate) if finite else float("inf")
    spread = (float(a.max() - a.min()) or float(np.abs(a).max())) if finite and a.size else 0.0
    decides = reference.ndim >= 2 and reference.shape[-1] > 1 and a.size > 0
    agreement = float((a.argmax(-1) == b.argmax(-1)).mean()) if decides and finite else None
    return Parity(
        output=name,
        max_error=error,
        range=spread,
        correlation=_correlation(a, b, finite),
        cosine=_cosine(a, b) if finite else 0.0,
        agreement=agreement,
    )


def _correlation(a: Array, b: Array, finite: bool) -> float:
    """Return Lin's concordance correlation (Biometrics 45, 1989).

    Pearson's r would be 1 for outputs of the wrong scale or with a constant added, and a scale applied twice or not
    at all is just what an engine does that knows too little of quantization.
    """
    if not finite:
        return 0.0
    if not a.size:
        return 1.0
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    total = float(np.dot(x, x) + np.dot(y, y) + x.size * (a.mean() - b.mean()) ** 2)
    if total == 0.0 or (not x.any() and np.allclose(a, b)):
        return 1.0
    return 2 * float(np.dot(x, y)) / total


def _cosine(a: Array, b: Array) -> float:
    lengths = float(np.linalg.norm(a.ravel()) * np.linalg.norm(b.ravel()))
    if lengths == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(np.dot(a.ravel(), b.ravel())) / lengths


def compare(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> tuple[Parity, ...]:
    """Return `parity` for every output, in the source's order.

    Raises:
        DatasetError: the two have outputs of other names or shapes.
    """
    if reference.keys() != candidate.keys():
        raise DatasetError(f"the source's outputs are {sorted(reference)}, the candidate's {sorted(candidate)}")
    return tuple(parity(name, value, candidate[name]) for name, value in reference.items())


def deciding_output(outputs: Mapping[str, Array], output: str | None) -> str:
    """Return the output a metric reads: `output`, or the only one of shape [n, 1, classes] or [n, classes].

    Raises:
        DatasetError: no output or several can be meant.
    """
    scores = [n for n, v in outputs.items() if v.size and v.size // len(v) == v.shape[-1]]
    if output is not None:
        if output not in scores:
            raise DatasetError(f"output {output!r} gives no class scores; those that do are {sorted(scores)}")
        return output
    if len(scores) != 1:
        raise DatasetError(
            f"accuracy needs one output of class scores, the model has {len(scores)}: {sorted(scores)}",
            hint="name it with --metric-output, or as gate.output in edgepack.toml",
        )
    return scores[0]


def predictions(outputs: Mapping[str, Array], labels: Array, output: str | None) -> tuple[Array, Array]:
    """Return predicted and true classes, [n] each, by the `deciding_output`.

    One value a sample is a probability: class 1 from 0.5 on. One-hot labels are accepted.

    Raises:
        DatasetError: no output or several can be meant, or the labels do not fit.
    """
    count = len(labels)
    scores = outputs[deciding_output(outputs, output)].reshape(count, -1)
    classes = scores.shape[1]
    predicted = (scores[:, 0] >= 0.5).astype(np.int64) if classes == 1 else scores.argmax(1)
    truth = labels.reshape(count, -1)
    truth = truth.argmax(1) if truth.shape[1] == classes and classes > 1 else truth[:, 0]
    if truth.shape != (count,) or labels.reshape(count, -1).shape[1] not in (1, classes):
        raise DatasetError(f"labels of shape {list(labels.shape)} fit neither classes [n] nor one-hot [n, {classes}]")
    if truth.dtype.kind == "f" and not (np.isfinite(truth) & (truth == np.floor(truth))).all():
        raise DatasetError("labels are no whole numbers, but accuracy counts classes")
    top = int(truth.max())
    if top >= max(classes, 2) or int(truth.min()) < 0:
        raise DatasetError(f"labels reach from {int(truth.min())} to {top}, the output has {max(classes, 2)} classes")
    return predicted, truth.astype(np.int64)


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


def _accuracy(predicted: Array, truth: Array) -> float:
    return float((predicted == truth).mean())


def _per_class(predicted: Array, truth: Array) -> tuple[Array, Array]:
    classes = int(max(predicted.max(), truth.max())) + 1
    hits = np.bincount(truth[predicted == truth], minlength=classes).astype(np.float64)
    said, are = np.bincount(predicted, minlength=classes), np.bincount(truth, minlength=classes)
    seen = are > 0
    precision = np.divide(hits, said, out=np.zeros(classes), where=said > 0)[seen]
    recall = np.divide(hits, are, out=np.zeros(classes), where=seen)[seen]
    return precision, recall


def _recall(predicted: Array, truth: Array) -> float:
    return float(_per_class(predicted, truth)[1].mean())


def _precision(predicted: Array, truth: Array) -> float:
    return float(_per_class(predicted, truth)[0].mean())


def _f1(predicted: Array, truth: Array) -> float:
    precision, recall = _per_class(predicted, truth)
    total = precision + recall
    return float(np.divide(2 * precision * recall, total, out=np.zeros(len(total)), where=total > 0).mean())


# Macro averages over the classes that occur in the labels.
METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "precision": _precision,
    "recall": _recall,
}


def measure_drop(metric: str, source: Array, candidate: Array, truth: Array) -> Drop:
    """Return what `metric` loses from `source` to `candidate`, all of them classes [n].

    The interval is a percentile bootstrap over samples, paired: each resample takes the same samples for both
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). The seed is fixed.

    Raises:
        RecipeError: the metric is not known.
    """
    if metric not in METRICS:
        raise RecipeError(f"metric {metric!r} is not known", hint=f"known are {', '.join(METRICS)}")
    score = METRICS[metric]
    rng = np.random.default_rng(0)
    count = len(truth)
    pairs = np.empty((_RESAMPLES, 2))
    for i in range(_RESAMPLES):
        pick = rng.integers(0, count, count)
        pairs[i] = score(source[pick], truth[pick]), score(candidate[pick], truth[pick])
    before, after = score(source, truth), score(candidate, truth)
    return Drop(
        metric=metric,
        samples=count,
        source=_interval(before, pairs[:, 0]),
        candidate=_interval(after, pairs[:, 1]),
        drop=_interval(before - after, pairs[:, 0] - pairs[:, 1]),
    )


def _interval(value: float, resampled: Array) -> Interval:
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value=value, low=float(low), high=float(high))
