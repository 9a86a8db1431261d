"""What a training step makes small: the loss on labels, being like another model's outputs, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.errors import DatasetError, TrainingError
from edgepack.training._opened import Opened
from edgepack.training._settings import AUTO
from edgepack_runtime.tensors import Array

__all__ = ["SOFTMAX", "Objective", "kind_of", "labelled", "likeness", "mixed"]

SOFTMAX, SIGMOID, RAW = "softmax", "sigmoid", "raw"
_SMALL = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A loss: `of` takes the model's outputs and one batch of each of `targets`, and gives a loss a sample.

    `text` names it; `hits` counts right decisions as `of` does, where it decides between classes.
    """

    text: str
    targets: tuple[Array, ...]
    of: Callable[[Sequence[Any], Sequence[Any]], Any]
    hits: Callable[[Sequence[Any], Sequence[Any]], Any] | None = None


def kind_of(tensor: Any) -> str:
    """Return what a model's output is: ``softmax``, ``sigmoid``, or ``raw`` numbers, by the layer that gives it."""
    layer = tensor._keras_history.operation
    name = getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__).lower()
    return name if name in (SOFTMAX, SIGMOID) else RAW


def labelled(opened: Opened, labels: Array | None, loss: str, *, instead: str = "loss=source") -> Objective:
    """Return the loss on labels.

    Args:
        opened: the model that is trained.
        labels: one or more a sample.
        loss: its name, or that the labels tell it.
        instead: what to say to train without labels.

    Raises:
        DatasetError: there are no labels, or they do not fit the output.
        TrainingError: the model has several outputs, or labels and output do not tell the loss.
    """
    if labels is None:
        raise DatasetError(
            "training data: no labels in it",
            hint=f"store them as 'y', or say {instead}: outputs are then the aim, its own as it came or a teacher's",
        )
    outputs = opened.model.outputs
    if len(outputs) > 1:
        raise TrainingError(
            f"the model has {len(outputs)} outputs ({', '.join(opened.names)}); labels are for a model with one",
            hint=f"say {instead}: each output is then held to what the model as it came gives, or its teacher",
        )
    kind, shape = kind_of(outputs[0]), list(outputs[0].shape[1:])
    name = _from_labels(labels, kind, shape) if loss == AUTO else loss
    if name == "sparse_crossentropy":
        return _sparse(_classes(labels, shape), kind)
    target = _like_output(labels, shape, name)
    if name == "crossentropy" and not (target.min() >= 0 and np.allclose(target.sum(-1), 1, atol=1e-3)):
        raise DatasetError("training data: labels for crossentropy are shares of classes, which add up to 1")
    if name == "binary_crossentropy" and not (target.min() >= 0 and target.max() <= 1):
        raise DatasetError("training data: labels for binary_crossentropy are from 0 to 1")
    return _dense(target, name, kind)


def _from_labels(labels: Array, kind: str, shape: list[int | None]) -> str:
    whole = labels.dtype.kind in "iub" or bool(np.all(labels == np.round(labels)))
    fits = _fits(labels, shape)
    if not fits and whole and len(shape) and shape[-1] != 1 and kind != SIGMOID:
        return "sparse_crossentropy"
    if kind == SOFTMAX:
        return "crossentropy"
    if kind == SIGMOID:
        return "binary_crossentropy"
    if set(np.unique(labels[:1000]).tolist()) <= {0, 1}:
        raise TrainingError(
            "labels of 0 and 1 beside an output without softmax or sigmoid: the loss is not told by them",
            hint="say loss=binary_crossentropy, loss=crossentropy or loss=mse",
        )
    return "mse"


def _fits(labels: Array, shape: list[int | None]) -> bool:
    found = list(labels.shape[1:])
    return shape in (found, [*found, 1])


def _like_output(labels: Array, shape: list[int | None], loss: str) -> Array:
    if not _fits(labels, shape):
        raise DatasetError(
            f"training data: labels of shape {list(labels.shape[1:])} a sample, {loss} takes them as the output, "
            f"{shape}"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DatasetError("training data: labels hold NaN or infinity")
    wanted = [size if size is not None else found for size, found in zip(shape, labels.shape[1:], strict=False)]
    return labels.astype(np.float32).reshape(len(labels), *(wanted or [1]))


def _classes(labels: Array, shape: list[int | None]) -> Array:
    found = labels[..., 0] if labels.ndim == len(shape) + 1 and labels.shape[-1] == 1 else labels
    classes = shape[-1] or 0
    if found.ndim != len(shape):
        raise DatasetError(
            f"training data: labels of shape {list(labels.shape[1:])} a sample do not fit the output {shape}"
        )
    if found.dtype.kind == "f" and not np.array_equal(found, np.round(found)):
        raise DatasetError("training data: labels are classes, which are whole numbers")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= classes:
        raise DatasetError(
            f"training data: labels from {low} to {high}, the model's output has the classes 0 to {classes - 1}"
        )
    return found.astype(np.int32)


def _scores(value: Any, kind: str) -> Any:
    """Return an output as logits."""
    import tensorflow as tf

    if kind == SOFTMAX:
        return tf.math.log(tf.clip_by_value(value, _SMALL, 1.0))
    if kind == SIGMOID:
        safe = tf.clip_by_value(value, _SMALL, 1.0 - _SMALL)
        return tf.math.log(safe) - tf.math.log1p(-safe)
    return value


def _by_sample(values: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def _sparse(classes: Array, kind: str) -> Objective:
    import tensorflow as tf

    def of(outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        scores = _scores(outputs[0], kind)
        return _by_sample(tf.nn.sparse_softmax_cross_entropy_with_logits(targets[0], scores)[:, None])

    def hits(outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        right = tf.argmax(outputs[0], -1, output_type=tf.int32) == targets[0]
        return _by_sample(tf.cast(right, tf.float32)[:, None])

    return Objective(text="sparse_crossentropy", targets=(classes,), of=of, hits=hits)


def _dense(target: Array, name: str, kind: str) -> Objective:
    import tensorflow as tf

    def of(outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        if name == "mse":
            return _by_sample((outputs[0] - targets[0]) ** 2)
        scores = _scores(outputs[0], kind)
        if name == "crossentropy":
            return _by_sample(tf.nn.softmax_cross_entropy_with_logits(targets[0], scores)[:, None])
        return _by_sample(tf.nn.sigmoid_cross_entropy_with_logits(targets[0], scores))

    return Objective(text=name, targets=(target,), of=of)


def likeness(
    opened: Opened, wanted: Sequence[Array], kinds: Sequence[str], *, temperature: float = 1.0, classes: bool = False
) -> Objective:
    """Return the loss of being unlike another model's outputs.

    Args:
        opened: the model that is trained.
        wanted: the other's outputs on the training set, in the order of the model's.
        kinds: what each of the other's outputs is.
        temperature: how far the shares of classes are evened out, so that small ones count (Hinton et al., 2015).
        classes: whether outputs without softmax are scores of classes all the same, not numbers.

    Raises:
        DatasetError: an output of the other has another shape.
    """
    import tensorflow as tf

    ours = [kind_of(tensor) for tensor in opened.model.outputs]
    for name, tensor, other in zip(opened.names, opened.model.outputs, wanted, strict=True):
        if any(size not in (None, found) for size, found in zip(tensor.shape, other.shape, strict=False)) or len(
            tensor.shape
        ) != len(other.shape):
            raise DatasetError(
                f"output {name!r} has the shape {list(tensor.shape[1:])}, its teacher's {list(other.shape[1:])}"
            )
    # Numbers of any size count alike: as shares of how much the wanted ones vary.
    spread = [float(np.var(array)) or 1.0 for array in wanted]

    def one(index: int, value: Any, target: Any) -> Any:
        mine, theirs = ours[index], kinds[index]
        if SIGMOID in (mine, theirs):
            soft = tf.sigmoid(_scores(target, theirs) / temperature)
            scores = _scores(value, mine) / temperature
            return temperature**2 * _by_sample(tf.nn.sigmoid_cross_entropy_with_logits(soft, scores))
        if SOFTMAX in (mine, theirs) or (classes and value.shape[-1] != 1):
            soft = tf.nn.softmax(_scores(target, theirs) / temperature)
            scores = _scores(value, mine) / temperature
            loss = tf.nn.softmax_cross_entropy_with_logits(soft, scores)
            least = -tf.reduce_sum(soft * tf.math.log(tf.clip_by_value(soft, _SMALL, 1.0)), -1)
            return temperature**2 * _by_sample((loss - least)[:, None])
        return _by_sample((value - target) ** 2) / spread[index]

    def of(outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        return tf.add_n(
            [one(i, value, target) for i, (value, target) in enumerate(zip(outputs, targets, strict=True))]
        )

    return Objective(text="likeness", targets=tuple(wanted), of=of)


def mixed(hard: Objective, soft: Objective, alpha: float) -> Objective:
    """Return the loss that is `soft` by the share `alpha`, and `hard` by the rest."""
    count = len(hard.targets)

    def of(outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        return (1 - alpha) * hard.of(outputs, targets[:count]) + alpha * soft.of(outputs, targets[count:])

    def hits(outputs: Sequence[Any], targets: Sequence[Any]) -> Any:
        assert hard.hits is not None  # noqa: S101 - only then is it given on
        return hard.hits(outputs, targets[:count])

    return Objective(
        text=f"{1 - alpha:g} {hard.text}, {alpha:g} {soft.text}",
        targets=(*hard.targets, *soft.targets),
        of=of,
        hits=None if hard.hits is None else hits,
    )
