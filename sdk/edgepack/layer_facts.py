"""What the files themselves say of a layer, beside what it computes: its weights, its constants, who reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepack.flatbuffer import TensorView
from edgepack.layer_sums import Numbers
from edgepack_runtime.tensors import Array

__all__ = ["LayerFacts", "WeightFacts", "weight_facts"]

# The dimension of the output channels; the first one where nothing else is said.
_CHANNELS = {"DEPTHWISE_CONV_2D": -1}
# A channel that only so many steps from zero reach has lost its numbers: 3 bits are left of 8.
_FEW_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFacts:
    """A layer's float weights, and how they are stored.

    `outlier` is how many times the median magnitude the largest is, within what shares a scale, in the worst of
    these; `scales` is how many there are for `channels`, of which `tiny` hardly reach beyond zero in their steps.
    """

    dtype: str
    outlier: float
    scales: int
    channels: int
    tiny: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """`constant` is the largest magnitude among the operator's constants that are no weights, 0 without any.

    `readers` are the kinds of the operators that read the layer's output, `inputs` how what it reads is stored, and
    `sources` the float tensors of that. `magnifier` is the kind of an operator not far behind it that tells apart
    values close to zero, empty without one; `island` are the float model's operators that have to stay float for
    what the layer computes never to be rounded.
    """

    weights: WeightFacts | None
    constant: float
    readers: tuple[str, ...]
    inputs: tuple[Numbers, ...]
    sources: tuple[int, ...]
    magnifier: str
    island: tuple[int, ...]


def weight_facts(weights: Array, kind: str, stored: TensorView) -> WeightFacts:
    """Return the facts of float weights that are `stored` so in the quantized model."""
    magnitudes = np.abs(np.nan_to_num(np.atleast_1d(weights).astype(np.float64), posinf=0.0, neginf=0.0))
    axis = _CHANNELS.get(kind, 0)
    rows = np.moveaxis(magnitudes, axis, 0).reshape(magnitudes.shape[axis], -1)
    shared = rows if len(stored.scales) == len(rows) else rows.reshape(1, -1)
    largest = rows.max(axis=1)
    step = np.array(stored.scales or (0.0,), np.float64)
    steps = step if len(step) == len(rows) else step[:1]
    return WeightFacts(
        dtype=stored.dtype,
        outlier=max((_outlier(row) for row in shared), default=0.0),
        scales=len(stored.scales),
        channels=len(rows),
        tiny=int(((largest > 0) & (largest < _FEW_STEPS * steps)).sum()),
    )


def _outlier(values: Array) -> float:
    """Return the largest of some magnitudes as a multiple of their median; zeros are left out (pruned weights)."""
    some = values[values > 0]
    return float(some.max() / np.median(some)) if some.size else 0.0
