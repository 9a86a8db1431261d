"""What is added up of one layer over the samples, and how tensors store real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["LIMIT", "LayerSums", "Numbers", "Seen", "Sums", "fixed_to", "own_value", "real", "rounded"]

# Beyond this lies what stands for minus infinity where a MaxPool is padded; it is no value of the data.
LIMIT = 3e38
MOST_CHANNELS = 4096
_BULK = (0.1, 99.9)
_MOST_LOOKED_AT = 20_000
_BITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int32": (-(2**31), 2**31 - 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How a tensor stores its values; a float one has scale 0."""

    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    @property
    def low(self) -> float:
        """The smallest value it can hold."""
        return (_BITS[self.dtype][0] - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The largest value it can hold."""
        return (_BITS[self.dtype][1] - self.zero_point) * self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One sample's values of one layer: the float model's, then as stored in the quantized model and by it alone.

    The last two are what the float operator gives for the rounded inputs, and what with the rounded weights too. None
    is what could not be run.
    """

    reference: Array
    found: Array | None
    own: Array | None
    exact: Array | None
    weighed: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSums:
    """Sums over all samples of one layer; squares of errors are -1 where they were not measured.

    `found` is the error as the model ran, `own` that of the layer fed with the float model's values; the next four
    are what it consists of. Spreads are of what the layer gave, largest minus smallest, `levels` counts the stored
    values of eight bits that occurred. Of the float tensor: `count`, `total`, `squares`, each sample's extremes, the
    bounds of all but 0.2 % of its values, and the last dimension's (channels') extremes, sums and errors. `outside`
    counts values that the layer's range does not hold.
    """

    count: int
    total: float
    squares: float
    found: float
    found_max: float
    own: float
    own_max: float
    found_spread: float
    own_spread: float
    from_inputs: float
    from_weights: float
    from_rounding: float
    from_engine: float
    outside: int
    outside_squares: float
    levels: int
    not_finite: int
    lows: Array
    highs: Array
    bulk: Array
    channel_low: Array
    channel_high: Array
    channel_squares: Array
    channel_found: Array
    channel_own: Array
    channel_count: int


def fixed_to(values: Array, numbers: Numbers) -> Array:
    """Return real values as a tensor stores them."""
    if not numbers.scale:
        return values.astype(numbers.dtype)
    low, high = _BITS[numbers.dtype]
    with np.errstate(over="ignore"):
        codes = np.rint(values.astype(np.float64) / numbers.scale) + numbers.zero_point
    stored: Array = np.clip(codes, low, high).astype(numbers.dtype)
    return stored


def real(stored: Array, numbers: Numbers) -> Array:
    """Return the real values that stored ones stand for, as float64."""
    if not numbers.scale:
        return stored.astype(np.float64)
    return (stored.astype(np.float64) - numbers.zero_point) * numbers.scale


def rounded(values: Array, numbers: Numbers) -> Array:
    """Return real values as the tensor can express them."""
    return real(fixed_to(values, numbers), numbers) if numbers.scale else values.astype(np.float64)


def own_value(seen: Seen, numbers: Numbers) -> Array | None:
    """Return what the layer by itself gives; where no engine runs it, arithmetic says what it should give."""
    if seen.own is not None:
        return real(seen.own, numbers)
    return None if seen.weighed is None else rounded(seen.weighed, numbers)


class _Error:
    """The squares of an error, its largest, and the extremes of what had it; -1 as long as there is none."""

    def __init__(self) -> None:
        self.squares = self.largest = -1.0
        self.low, self.high = np.inf, -np.inf

    def add(self, difference: Array, value: Array) -> None:
        self.squares = max(self.squares, 0.0) + float((difference**2).sum())
        self.largest = max(self.largest, float(np.abs(difference).max()))
        if value.size:
            self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))

    @property
    def spread(self) -> float:
        return self.high - self.low if self.squares >= 0 and self.high >= self.low else -1.0


class Sums:
    """What `LayerSums` holds, as it comes in."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.count = self.outside = self.not_finite = 0
        self.total = self.squares = self.outside_squares = 0.0
        self.found, self.own = _Error(), _Error()
        self.parts = [-1.0] * 4
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.bulk: list[Array] = []
        self.codes: set[int] = set()
        self.channels: dict[str, Array] = {}

    def add(self, seen: Seen) -> None:
        """Add one sample."""
        r = seen.reference.astype(np.float64)
        held = np.isfinite(r) & (np.abs(r) < LIMIT)
        if not held.any():
            return
        self._add_reference(r, held)
        if seen.found is not None:
            if self.numbers.scale and seen.found.dtype.itemsize == 1:
                self.codes |= set(np.unique(seen.found).tolist())
            self._add_error("found", self.found, real(seen.found, self.numbers), r, held)
        own = own_value(seen, self.numbers)
        if own is None:
            return
        self._add_error("own", self.own, own, r, held)
        if seen.exact is None or seen.weighed is None:
            return
        chain = (r, seen.exact, seen.weighed, rounded(seen.weighed, self.numbers), own)
        for place, (before, after) in enumerate(pairwise(chain)):
            squares = float((self._difference(after, before, held) ** 2).sum())
            self.parts[place] = max(self.parts[place], 0.0) + squares

    def _add_error(self, name: str, sums: _Error, value: Array, r: Array, held: Array) -> None:
        difference = self._difference(value, r, held)
        self.not_finite += int((held & ~np.isfinite(value)).sum()) if name == "found" else 0
        sums.add(difference, value[held & np.isfinite(value)])
        if "low" in self.channels:
            self._update(name, (difference.reshape(-1, difference.shape[-1]) ** 2).sum(axis=0), np.add)

    @staticmethod
    def _difference(value: Array, wanted: Array, held: Array) -> Array:
        """Return the difference where it can be told; what is not finite counts as zero given."""
        both = held & np.isfinite(wanted)
        return np.where(
            both, np.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0) - np.where(both, wanted, 0.0), 0.0
        )

    def _add_reference(self, r: Array, held: Array) -> None:
        inside = r[held]
        self.count += inside.size
        self.total += float(inside.sum())
        self.squares += float((inside**2).sum())
        self.lows.append(float(inside.min()))
        self.highs.append(float(inside.max()))
        self.bulk.append(np.percentile(inside[:: max(1, inside.size // _MOST_LOOKED_AT)], _BULK))
        if self.numbers.scale:
            half = self.numbers.scale / 2
            beyond = np.maximum(inside - self.numbers.high, self.numbers.low - inside)
            out = beyond > half
            self.outside += int(out.sum())
            self.outside_squares += float((beyond[out] ** 2).sum())
        if r.ndim > 1 and 1 < r.shape[-1] <= MOST_CHANNELS:
            rows = np.where(held, r, np.nan).reshape(-1, r.shape[-1])
            rows = np.where(np.isnan(rows), np.nanmean(np.where(held, r, np.nan)), rows)
            self._update("low", rows.min(axis=0), np.minimum)
            self._update("high", rows.max(axis=0), np.maximum)
            self._update("total", rows.sum(axis=0), np.add)
            self._update("squares", (rows**2).sum(axis=0), np.add)
            self._update("count", np.array([len(rows)]), np.add)

    def _update(self, name: str, new: Array, how: Any) -> None:
        self.channels[name] = how(self.channels[name], new) if name in self.channels else new

    def result(self) -> LayerSums:
        """Return what came in so far."""
        none = np.zeros(0)
        channels = self.channels
        count = int(channels["count"][0]) if channels else 0
        spread = channels["squares"] - channels["total"] ** 2 / count if channels else none
        return LayerSums(
            count=self.count,
            total=self.total,
            squares=self.squares,
            found=_bounded(self.found.squares),
            found_max=_bounded(self.found.largest),
            own=_bounded(self.own.squares),
            own_max=_bounded(self.own.largest),
            found_spread=_bounded(self.found.spread),
            own_spread=_bounded(self.own.spread),
            from_inputs=_bounded(self.parts[0]),
            from_weights=_bounded(self.parts[1]),
            from_rounding=_bounded(self.parts[2]),
            from_engine=_bounded(self.parts[3]),
            outside=self.outside,
            outside_squares=_bounded(self.outside_squares),
            levels=len(self.codes),
            not_finite=self.not_finite,
            lows=np.array(self.lows),
            highs=np.array(self.highs),
            bulk=np.array(self.bulk).reshape(-1, 2),
            channel_low=channels.get("low", none),
            channel_high=channels.get("high", none),
            channel_squares=np.maximum(spread, 0.0),
            channel_found=channels.get("found", none),
            channel_own=channels.get("own", none),
            channel_count=count,
        )


def _bounded(value: float) -> float:
    """Return a number that JSON can say."""
    return float(np.nan_to_num(value, nan=1e300, posinf=1e300, neginf=-1e300))
