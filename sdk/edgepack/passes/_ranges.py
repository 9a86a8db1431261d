"""Which range of values every float tensor takes over the calibration samples.

ai-edge-quantizer has a calibrator of its own. This one differs where that matters: its result does not depend on the
order of the samples, where the other's moving average does; one strange sample cannot stretch a range a
hundredfold; and it runs the builtin kernels, because with a delegate some tensors have no content to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgepack.errors import PassError
from edgepack.flatbuffer import Signature, SubgraphView
from edgepack_runtime.tensors import Array

__all__ = ["Range", "observe"]

# Beyond this lies what stands for minus infinity where a MaxPool is padded (-3.4e38); it is no value of the data.
_LIMIT = 3e38
# More than half a bit of eight lost to a few samples: deep networks do not bear it (BlazeFace: AUC 1.0 to 0.6 at 4).
_STRETCH = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a tensor's int8 form must be able to express; `cut` if a few samples reach beyond."""

    low: float
    high: float
    cut: bool


def observe(
    data: bytes,
    graph: SubgraphView,
    signature: Signature,
    samples: Iterable[Mapping[str, Array]],
    outliers: float,
) -> dict[str, Range]:
    """Return the range of each float32 tensor the graph computes, by name; constants speak for themselves.

    `outliers` is the share of samples that may lie outside a tensor's range, where they alone would stretch it more
    than 1.5-fold; 0 takes the true extremes.

    Raises:
        PassError: a tensor became NaN.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    produced = {*graph.inputs, *(i for o in graph.operators for i in o.outputs)}
    tensors = {i: t.name for i, t in enumerate(graph.tensors) if t.dtype == "float32" and i in produced}
    seen: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for name, index in signature.inputs:
            interpreter.set_tensor(index, sample[name])
        interpreter.invoke()
        for index, name in tensors.items():
            try:
                value = interpreter.get_tensor(index)
            except ValueError:
                # What only the body of a loop computes has no content here; the quantizer says if it wanted a range.
                continue
            extremes = _extremes(value, name)
            if extremes is not None:
                seen.setdefault(name, []).append(extremes)
    return {name: _range(np.array(pairs), outliers) for name, pairs in seen.items()}


def _extremes(value: Array, name: str) -> tuple[float, float] | None:
    if np.isnan(value).any():
        raise PassError(f"tensor {name!r} becomes NaN on the calibration data; no range can be taken from it")
    inside = value[(value > -_LIMIT) & (value < _LIMIT)]
    return None if inside.size == 0 else (float(inside.min()), float(inside.max()))


def _range(extremes: Array, outliers: float) -> Range:
    """Return the true extremes, or without the few samples that alone stretch them beyond `_STRETCH`.

    Leaving out samples for less would be wrong: what only few of them reach may be just what the model looks for.
    """
    few = int(outliers * len(extremes))
    lows, highs = np.sort(extremes[:, 0]), np.sort(extremes[:, 1])[::-1]
    low, high = lows[0], highs[0]
    if highs[0] - low > _STRETCH * (highs[few] - low):
        high = highs[few]
    if high - lows[0] > _STRETCH * (high - lows[few]):
        low = lows[few]
    return Range(low=float(low), high=float(high), cut=bool(low != lows[0] or high != highs[0]))
