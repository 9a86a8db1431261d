"""What is right: one array of labels for whatever it fits, or an array for each output by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from edgepack.errors import DatasetError
from edgepack_runtime.tensors import DTYPES, Array

__all__ = ["LABEL_NAMES", "Labels", "is_label", "labels_for", "labels_in", "take_labels"]

LABEL_NAMES = ("y", "label", "labels", "target", "targets")
Labels: TypeAlias = "Array | Mapping[str, Array]"


def is_label(name: str) -> bool:
    """Return whether an array of that name holds labels: ``y``, or ``y.OUTPUT`` for one output of several."""
    return name.partition(".")[0] in LABEL_NAMES


def labels_in(arrays: Mapping[str, Array], where: str) -> Labels | None:
    """Return the labels among arrays by name, in a dtype that other processes are told; None without any.

    Raises:
        DatasetError: they stand under two names, are no numbers, or hold NaN or infinity.
    """
    names = [name for name in arrays if is_label(name)]
    outputs = [name.partition(".")[2] for name in names]
    if len(set(outputs)) < len(outputs) or ("" in outputs and len(outputs) > 1):
        raise DatasetError(
            f"{where}: labels stand under {' and '.join(names)}; keep one of them",
            hint="one array for all outputs, or y.OUTPUT for each",
        )
    for name in names:
        array, said = arrays[name], "the labels" if "." not in name else f"the labels {name!r}"
        if array.ndim == 0 or array.dtype.kind not in "iufb":
            raise DatasetError(f"{where}: {said} must be numbers, one or more a sample, got {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DatasetError(f"{where}: {said} hold NaN or infinity")
    if outputs == [""]:
        return _plain(arrays[names[0]])
    return {output: _plain(arrays[name]) for output, name in zip(outputs, names, strict=True)} or None


def _plain(array: Array) -> Array:
    if str(array.dtype) in DTYPES:
        return array
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def labels_for(labels: Labels | None, output: str) -> Array | None:
    """Return what is right for an output, None where nothing says so."""
    return labels.get(output) if isinstance(labels, Mapping) else labels


def take_labels(labels: Labels | None, index: slice | Array) -> Labels | None:
    """Return the labels of the samples at `index`."""
    if isinstance(labels, Mapping):
        return {output: array[index] for output, array in labels.items()}
    return None if labels is None else labels[index]
