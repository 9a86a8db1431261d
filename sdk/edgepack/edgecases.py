"""Inputs made up beside the real samples, where conversions differ that agree on ordinary data.

Everything stays inside what the samples show: an index beyond the largest one seen may be none that the model knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["EdgeCases", "edge_cases", "no_edge_cases"]

_LEVELS = ("zeros", "minimum", "maximum")
_RANDOM = 4
# How far a shaken input is from its case, in units of the last place of the largest value seen.
_SHAKEN_BY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeCases:
    """Rows to be put behind the samples: one for each of `names`, then each of them again, shaken.

    The source's outputs on a shaken case say how much of a difference rounding alone makes there.
    """

    names: tuple[str, ...]
    feeds: Mapping[str, Array]

    def behind(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        """Return `samples` with these rows behind them."""
        return {name: np.concatenate([array, self.feeds[name]]) for name, array in samples.items()}


def no_edge_cases(samples: Mapping[str, Array]) -> EdgeCases:
    """Return none, for a model to which a made-up sample would be part of its stream."""
    return EdgeCases(names=(), feeds={name: array[:0] for name, array in samples.items()})


def edge_cases(samples: Mapping[str, Array]) -> EdgeCases:
    """Return zeros, the smallest and the largest value of each input everywhere, and random values between them.

    Zeros are left out of an input whose samples are all above or below, if its values are whole numbers. The seed is
    fixed.
    """
    rng = np.random.default_rng(4)
    feeds = {}
    for name, array in samples.items():
        low, high = array.min(), array.max()
        zero = array.dtype.type(0)
        if array.dtype.kind != "f" and not low <= zero <= high:
            zero = low
        level = [np.full(array.shape[1:], value, array.dtype) for value in (zero, low, high)]
        rows = np.stack([*level, *(_between(rng, low, high, array.shape[1:]) for _ in range(_RANDOM))])
        feeds[name] = np.concatenate([rows, _shaken(rng, rows, max(abs(float(low)), abs(float(high))))])
    return EdgeCases(names=(*_LEVELS, *(f"random {i + 1}" for i in range(_RANDOM))), feeds=feeds)


def _between(rng: np.random.Generator, low: Any, high: Any, shape: tuple[int, ...]) -> Array:
    dtype = low.dtype
    if dtype.kind == "f":
        # In halves, because the whole range of a float may be no float.
        wide = rng.random(shape) * (float(high) / 2 - float(low) / 2) * 2 + float(low)
        return np.asarray(np.clip(wide, float(low), float(high)), dtype)
    return np.asarray(rng.integers(int(low), int(high), shape, endpoint=True), dtype)


def _shaken(rng: np.random.Generator, rows: Array, size: float) -> Array:
    if rows.dtype.kind != "f":
        return rows
    limits = np.finfo(rows.dtype)
    step = _SHAKEN_BY * float(limits.eps) * size
    shaken = rows.astype(np.float64) + rng.uniform(-step, step, rows.shape)
    return np.asarray(np.clip(shaken, float(limits.min), float(limits.max)), rows.dtype)
