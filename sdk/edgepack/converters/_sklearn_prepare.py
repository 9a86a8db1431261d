"""An estimator made ready for skl2onnx: what it cannot write and does not change the result is replaced in a copy."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["prepared_for_export"]


def prepared_for_export(estimator: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a copy that skl2onnx can write, and what is to be said of it.

    Steps that do nothing are left out, classes that are texts are replaced by their numbers.
    """
    ready = _without_empty_steps(copy.deepcopy(estimator))
    notes: tuple[str, ...] = ()
    last = ready
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    if type(last).__name__ in ("SVC", "NuSVC") and last.probability:
        last.probability, last._probA, last._probB = False, np.empty(0), np.empty(0)
        notes = (
            f"predict_proba() of {type(last).__name__} is left out: libsvm finds it step by step; scores are "
            "decision_function()",
        )
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, np.ndarray) and classes.dtype.kind in "OUS":
        _number_classes(ready, classes, set())
    return ready, notes


def _without_empty_steps(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):
        estimator.steps = [
            (name, _without_empty_steps(step)) for name, step in steps if step is not None and step != "passthrough"
        ]
    if hasattr(estimator, "flatten_transform"):
        # It concerns transform() only, which is not exported.
        estimator.flatten_transform = False
    return estimator


def _number_classes(value: Any, classes: Array, seen: set[int]) -> Any:
    """Return `value` with every array that is `classes` replaced by 0, 1, 2 ..., wherever it lies inside."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OUS" and np.array_equal(value, classes):
            return np.arange(len(classes))
        if value.dtype == object and id(value) not in seen:
            seen.add(id(value))
            value[...] = np.array([*(_number_classes(v, classes, seen) for v in value.ravel()), None], object)[
                :-1
            ].reshape(value.shape)
        return value
    if id(value) in seen:
        return value
    seen.add(id(value))
    if isinstance(value, list):
        value[:] = [_number_classes(v, classes, seen) for v in value]
    elif isinstance(value, tuple) and type(value) is tuple:
        return tuple(_number_classes(v, classes, seen) for v in value)
    elif isinstance(value, dict):
        for key in value:
            value[key] = _number_classes(value[key], classes, seen)
    elif type(value).__module__.split(".")[0] == "sklearn" and hasattr(value, "__dict__"):
        for name, inner in vars(value).items():
            setattr(value, name, _number_classes(inner, classes, seen))
    return value
