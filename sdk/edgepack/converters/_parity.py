"""Run a TFLite file and tell how far its outputs are from the source's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgepack.errors import ConversionError
from edgepack.evaluate import largest_difference
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = [
    "allowed_error",
    "batch_notes",
    "check_interface",
    "difference",
    "judged_samples",
    "run_graph",
    "without_batch",
]

_JUDGED = 32
_TOGETHER = 4
# From which share of its range on an output of several samples at once is another one than of each alone.
_MIXED = 1e-3


def judged_samples(count: int) -> Array:
    """Return the indices of up to 32 samples, spread over all `count`; the build compares all of them later."""
    return np.unique(np.linspace(0, count - 1, min(count, _JUDGED)).astype(int))


def difference(reference: Array, found: Array) -> float:
    """Return the largest absolute difference as a share of the reference's range; infinity where NaN differ."""
    first, second = reference.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(first)
    if not np.array_equal(first[~finite], second[~finite], equal_nan=True) or not finite.any():
        return 0.0 if not finite.any() and np.array_equal(first, second, equal_nan=True) else float("inf")
    if not np.isfinite(second[finite]).all():
        return float("inf")
    scale = float(np.ptp(first[finite])) or float(np.abs(first[finite]).max()) or 1.0
    return largest_difference(reference[finite], found[finite]) / scale


def allowed_error(spec: TensorSpec, scale: float, limit: float) -> float:
    """Return how far an output may be from the source's, in its own unit.

    Args:
        spec: the output; whole numbers and truth values must be the same.
        scale: the range of the source's output.
        limit: a share of that range for float32; float16 cannot do better than its own last place.
    """
    if np.dtype(spec.dtype).kind != "f":
        return 0.0
    return max(limit, float(np.finfo(np.float16).eps)) * scale if spec.dtype == "float16" else limit * scale


def without_batch(value: Array) -> Array:
    """Return one run's output without its batch dimension of 1, if it has one."""
    return value[0] if value.ndim and value.shape[0] == 1 else value


def batch_notes(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    feeds: Mapping[str, Array],
    reference: Mapping[str, Array],
) -> tuple[str, ...]:
    """Return what to say of a source whose batch is open: are several samples at once the same as one by one?

    A bundle computes one at a time. A source that mixes the samples of a batch was judged otherwise by its author.

    Args:
        run: gives the source's outputs [n, ...] for a batch [n, ...], by name; its framework's own errors are told.
        feeds: samples one at a time, [n, 1, ...] by name.
        reference: the source's outputs on them, [n, 1, ...] by name.
    """
    count = min(_TOGETHER, len(next(iter(feeds.values()))))
    if count < 2:
        return ()
    try:
        results = run({name: np.concatenate(list(array[:count])) for name, array in feeds.items()})
    except Exception as error:  # noqa: BLE001 - a framework's own; the device gives one sample at a time anyway
        return (f"the source leaves its batch open, and takes none of {count} samples: {type(error).__name__}",)
    for name, found in results.items():
        rows = reference[name][:count]
        alone = np.concatenate(list(rows)) if rows.ndim > 1 else rows
        if found.shape != alone.shape:
            return (f"output {name!r} of {count} samples at once is {list(found.shape)}: it does not count them",)
        distance = difference(alone, found)
        if distance > _MIXED:
            return (
                f"the source mixes the samples of a batch: output {name!r} of {count} at once differs from one by "
                f"one by {distance:.2g} of its range; a bundle computes one by one",
            )
    return (f"the source gives for {count} samples at once what it gives one by one",)


def run_graph(interpreter: Any, feeds: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> list[list[Array]]:
    """Return, for each output of the graph in order, its values on every sample of `feeds` [n, *shape].

    `interpreter` is allocated and takes `inputs` in this order.
    """
    details = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    rows: list[list[Array]] = [[] for _ in outputs]
    for i in range(len(feeds[inputs[0].name])):
        for spec, detail in zip(inputs, details, strict=True):
            interpreter.set_tensor(detail["index"], np.asarray(feeds[spec.name][i], order="C"))
        interpreter.invoke()
        for row, detail in zip(rows, outputs, strict=True):
            row.append(interpreter.get_tensor(detail["index"]))
    return rows


def check_interface(interpreter: Any, inputs: Sequence[TensorSpec]) -> None:
    """Refuse a conversion whose inputs are not the source's.

    Raises:
        ConversionError: a dtype or shape is another one.
    """
    for spec, detail in zip(inputs, interpreter.get_input_details(), strict=True):
        found = f"{np.dtype(detail['dtype'])}{[int(d) for d in detail['shape']]}"
        if found != f"{spec.dtype}{list(spec.shape)}":
            raise ConversionError(
                f"input {spec.name!r} became {found}, the source has {spec.dtype}{list(spec.shape)}"
            )
