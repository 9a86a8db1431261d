"""A detector's outputs as boxes, found by the very code that a device calls, and labels that say what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepack.boxmetric import Boxed
from edgepack.errors import DatasetError
from edgepack_runtime.boxes import Box, BoxReader
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.pictures import Frame
from edgepack_runtime.processing import Boxes
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["NO_BOX", "Detector", "boxes_found", "boxes_there", "main_output"]

NO_BOX = -1
# A box that reaches farther beyond the picture, in shares of it, is one in another unit.
_BEYOND = 1.0
# Shares stay shares: the whole picture, from 0 to 1.
_WHOLE = Frame(top=0.0, left=0.0, height=1.0, width=1.0, picture=(1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """What is declared of a model's boxes, and the height and width of its picture."""

    boxes: Boxes
    size: tuple[int, int]


def main_output(detector: Detector, outputs: Mapping[str, Array]) -> str:
    """Return the name of the output with the boxes.

    Raises:
        DatasetError: none is declared, and there are several.
    """
    name = detector.boxes.boxes
    if name or len(outputs) == 1:
        return name or next(iter(outputs))
    raise DatasetError(f"processing.boxes.boxes is missing: there are {sorted(outputs)}", hint="name one of them")


def boxes_found(detector: Detector, outputs: Mapping[str, Array]) -> list[Boxed]:
    """Return what the model found in each picture, best first, as shares of it.

    Args:
        detector: what is declared.
        outputs: [n, ...] by name.

    Raises:
        DatasetError: the declaration is not true of the outputs.
    """
    name = main_output(detector, outputs)
    boxes = replace(detector.boxes, boxes=name, scores=detector.boxes.scores or name)
    used = [one for one in (name, boxes.scores, boxes.classes, boxes.count) if one in outputs]
    specs = [TensorSpec(name=one, dtype="float32", shape=outputs[one].shape[1:]) for one in outputs]
    try:
        reader = BoxReader(boxes, specs, (), detector.size)
    except SchemaError as error:
        raise DatasetError(f"metric of boxes: {error.message}") from None
    return [_boxed(reader.find({one: outputs[one][i] for one in used}, _WHOLE)) for i in range(len(outputs[name]))]


def _boxed(found: Sequence[tuple[int, float, Box]]) -> Boxed:
    corners = [(box.left, box.top, box.left + box.width, box.top + box.height) for _, _, box in found]
    return Boxed(
        corners=np.array(corners, np.float64).reshape(-1, 4),
        kinds=np.array([kind for kind, _, _ in found], np.int64),
        scores=np.array([score for _, score, _ in found], np.float64),
    )


def boxes_there(detector: Detector, labels: Array) -> list[Boxed]:
    """Return what is in each picture, as shares of it.

    Args:
        detector: says in which unit the labels are, which is that of the model.
        labels: [n, boxes, 5]: class, left, top, right, bottom; a row of class `NO_BOX` is none.

    Raises:
        DatasetError: they are no such numbers.
    """
    wanted = "[n, boxes, 5]: class, left, top, right, bottom"
    if labels.ndim != 3 or labels.shape[2] != 5:
        raise DatasetError(f"labels of shape {list(labels.shape)} are no boxes, expected {wanted}")
    rows = labels.astype(np.float64)
    kinds, there = rows[..., 0], rows[..., 0] != NO_BOX
    if (kinds < NO_BOX).any() or (kinds != np.floor(kinds)).any():
        raise DatasetError("labels of boxes: a class is no whole number from 0 on", hint=f"the columns are {wanted}")
    height, width = detector.size if detector.boxes.unit == "pixels" else (1, 1)
    corners = rows[..., 1:] / [width, height, width, height]
    if ((corners[..., 2:] < corners[..., :2]).any(-1) & there).any():
        raise DatasetError("labels of boxes: one ends before it begins", hint=f"the columns are {wanted}")
    reach = corners[there]
    if reach.size and (reach.min() < -_BEYOND or reach.max() > 1 + _BEYOND):
        raise DatasetError(
            f"labels of boxes reach from {reach.min():g} to {reach.max():g} times the picture",
            hint=f"they are in the unit that processing.boxes declares: {detector.boxes.unit} of the model's picture",
        )
    return [
        Boxed(corners=corners[i][there[i]], kinds=kinds[i][there[i]].astype(np.int64), scores=np.ones(there[i].sum()))
        for i in range(len(rows))
    ]
