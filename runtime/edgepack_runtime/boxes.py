"""From a detector's outputs to boxes in the picture that was given: decoded, the weak and the doubled left out.

``docs/processing.md`` says which convention each word means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.pictures import Frame
from edgepack_runtime.processing import Boxes
from edgepack_runtime.tensors import Array, TensorSpec, named_spec

__all__ = ["Box", "BoxReader", "activated", "suppressed"]

_LARGEST_CLASS = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where something lies, in pixels of the picture that was given; it does not reach beyond it."""

    top: float
    left: float
    height: float
    width: float


class BoxReader:
    """Declared boxes, held against the outputs of the model they belong to."""

    def __init__(
        self, boxes: Boxes, outputs: Sequence[TensorSpec], labels: Sequence[str], side: tuple[int, int]
    ) -> None:
        """Refuse what does not belong to outputs of these shapes, or to these labels.

        Args:
            boxes: what is declared.
            outputs: the model's.
            labels: as many as there are classes, or none.
            side: the height and width of the model's picture.

        Raises:
            SchemaError: a name or shape is another one, or the labels are not as many as the classes.
        """
        self._boxes, self._side = boxes, side
        count, columns = self._plane(boxes.boxes, outputs, "boxes")
        if boxes.scores != boxes.boxes and columns != 4:
            raise SchemaError(f"processing.boxes.boxes: {columns} numbers a box, expected 4")
        for name, wanted in (("count", 1), ("classes", count), ("scores", count if boxes.classes else 0)):
            told = getattr(boxes, name)
            if told and wanted and math.prod(named_spec(told, outputs, f"boxes.{name}").shape) != wanted:
                raise SchemaError(f"processing.boxes.{name}: {told!r} holds other than {wanted} numbers")
        if not boxes.classes:
            found, width = self._plane(boxes.scores, outputs, "scores")
            classes = width - 4 * (boxes.scores == boxes.boxes) - (boxes.objectness == "column") - boxes.background
            if found != count or classes < 1 or (labels and len(labels) != classes):
                raise SchemaError(
                    f"processing.boxes.scores: {found} times {classes} scores, {count} boxes and {len(labels)} labels"
                )

    def _plane(self, name: str, outputs: Sequence[TensorSpec], member: str) -> tuple[int, int]:
        """Return how many boxes an output has, and how many numbers for each."""
        spec = named_spec(name, outputs, f"boxes.{member}")
        if len(spec.shape) < 2 or math.prod(spec.shape[:-2]) != 1 or min(spec.shape) < 1:
            raise SchemaError(f"processing.boxes.{member}: {spec} is no table of boxes")
        last, first = spec.shape[-1], spec.shape[-2]
        return (last, first) if self._boxes.layout == "columns" else (first, last)

    def find(self, real: Mapping[str, Array], frame: Frame) -> list[tuple[int, float, Box]]:
        """Return class, score and box of what was found, best first.

        Args:
            real: the outputs, as the numbers they mean.
            frame: where the model's picture lies in the one that was given.
        """
        boxes = self._boxes
        table = self._table(real[boxes.boxes])
        corners, scores, kinds = self._corners(table[:, :4]), *self._judged(real, table)
        good = (scores >= boxes.threshold) & np.isfinite(corners).all(1) & (abs(kinds) < _LARGEST_CLASS)
        if boxes.count:
            good &= np.arange(len(good)) < float(real[boxes.count].ravel()[0])
        corners, scores, kinds = corners[good], scores[good], np.rint(kinds[good]).astype(np.int64)
        picked = suppressed(corners, scores, None if boxes.suppress == "all" else kinds, boxes)
        # Corners are top, left, bottom, right; of a share of the model's picture they become pixels of the given one.
        sides = np.array([frame.height, frame.width] * 2)
        placed = corners[picked] * sides + [frame.top, frame.left] * 2
        placed = placed.clip(0, [*frame.picture] * 2)
        return [
            (int(kinds[i]), float(scores[i]), Box(top=top, left=left, height=bottom - top, width=right - left))
            for i, (top, left, bottom, right) in zip(picked, placed.tolist(), strict=True)
            if bottom > top and right > left
        ]

    def _table(self, values: Array) -> Array:
        table = values.reshape(values.shape[-2:]).astype(np.float64)
        return table.T if self._boxes.layout == "columns" else table

    def _corners(self, four: Array) -> Array:
        """Return top, left, bottom and right as shares of the model's picture."""
        order, (a, b, c, d) = self._boxes.order, four.T
        if order == "yxyx":
            a, b, c, d = b, a, d, c
        elif order == "xywh":
            c, d = a + c, b + d
        elif order == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        corners: Array = np.stack([b, a, d, c], 1)
        return corners if self._boxes.unit == "share" else corners / [*self._side, *self._side]

    def _judged(self, real: Mapping[str, Array], table: Array) -> tuple[Array, Array]:
        """Return the score and the class of each box: the best of its scores, or what the model says."""
        boxes = self._boxes
        if boxes.classes:
            scores = activated(real[boxes.scores].astype(np.float64).ravel(), boxes.activation)
            return scores, real[boxes.classes].astype(np.float64).ravel()
        scores = table[:, 4:] if boxes.scores == boxes.boxes else self._table(real[boxes.scores])
        weight: Array | float = 1.0
        if boxes.objectness == "column":
            weight, scores = scores[:, 0], scores[:, 1:]
            weight = activated(weight, "sigmoid") if boxes.activation == "sigmoid" else weight
        scores = activated(scores, boxes.activation)[:, boxes.background :]
        return scores.max(1) * weight, scores.argmax(1).astype(np.float64)


def suppressed(corners: Array, scores: Array, kinds: Array | None, boxes: Boxes) -> list[int]:
    """Return which boxes stay, best first: of those that overlap by more than declared, the best.

    Args:
        corners: [n, 4], two opposite corners each, the one with the smaller numbers first.
        scores: [n].
        kinds: [n], the class of each; boxes of different ones do not count as overlapping. None: they do.
        boxes: what is declared: `suppress`, `overlap` and `top`.
    """
    sizes = np.maximum(0, corners[:, 2:] - corners[:, :2])
    areas = sizes.prod(1)
    picked: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(left) and len(picked) < boxes.top:
        best, left = left[0], left[1:]
        picked.append(int(best))
        if boxes.suppress != "none":
            ends = np.minimum(corners[best, 2:], corners[left, 2:])
            common = np.maximum(0, ends - np.maximum(corners[best, :2], corners[left, :2])).prod(1)
            # Not a quotient: two boxes without an area have none.
            doubled = common > boxes.overlap * (areas[best] + areas[left] - common)
            if kinds is not None:
                doubled &= kinds[left] == kinds[best]
            left = left[~doubled]
    return picked


def activated(scores: Array, how: str) -> Array:
    """Return the scores after ``softmax`` over the last dimension, ``sigmoid``, or ``none``."""
    if how == "softmax":
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))
    # Half of 1 + tanh: no power of it overflows.
    return 0.5 + 0.5 * np.tanh(scores / 2) if how == "sigmoid" else scores
