"""Why a layer went wrong, where that can be recognised from its figures, and what to do about it.

A recogniser is a small function of a layer and those around it. The first one of `RECOGNISERS` that knows the fault
gives the reason; they stand from the most telling to the most general.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.layer_error import LayerError

__all__ = ["RECOGNISERS", "Reason", "Surroundings", "reason_of"]

# Constants beyond so many times what they are put beside take the whole range for themselves.
_HUGE = 32.0
_BESIDE = frozenset({"ADD", "CONCATENATION", "MAXIMUM", "MINIMUM", "PAD", "PADV2", "SELECT", "SELECT_V2", "SUB"})
# A range so many times as wide as what it holds wastes three of eight bits.
_WIDE = 8.0
# Values so many times the rest of the tensor's are outliers.
_OUTLYING = 8.0
# A channel that stays within so few steps has three bits left; such channels must not be many.
_FEW_STEPS, _MANY_CHANNELS = 8.0, 0.25
# Gaussian weights reach 5 to 7 times their median magnitude.
_WEIGHT_OUTLIER = 40.0
# One part of an error is the cause if it has so much of it.
_CAUSE = 0.5
_WEIGHT_BITS = {"int4": 4, "int2": 2}
# An error that is small by itself, and what it does to the outputs, in decibels.
_SMALL, _GROWS, _HURTS = 20.0, 12.0, 8.0
_FLAT = "int16 activations (int16x8) where the engine is fast enough with them, or keep this layer float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A fault that is known: its short name, what was seen of it, and the way out."""

    name: str
    seen: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The layers of a model, in graph order."""

    layers: Sequence[LayerError]

    def before(self, layer: LayerError) -> list[LayerError]:
        """Return the layers that compute what `layer` reads; the last ones that give that value."""
        found = []
        for source in dict.fromkeys(layer.facts.sources):
            earlier = [o for o in self.layers if o.pair.reference == source and o.operator < layer.operator]
            found += earlier[-1:]
        return found

    def behind(self, layer: LayerError) -> list[LayerError]:
        """Return the layers that read what `layer` computes."""
        return [o for o in self.layers if layer.pair.reference in o.facts.sources and o.operator > layer.operator]


Recogniser = Callable[[LayerError, Surroundings], Reason | None]


def _share(layer: LayerError, part: float) -> float:
    """Return how much of the layer's own error a part of it is."""
    sums = layer.sums
    parts = [max(0.0, p) for p in (sums.from_inputs, sums.from_weights, sums.from_rounding, sums.from_engine)]
    total = sum(parts)
    return max(0.0, part) / total if total > 0 else 0.0


def _number(value: float) -> str:
    return f"{value:.3g}"


def _values(layer: LayerError) -> tuple[float, float]:
    sums = layer.sums
    return (float(sums.lows.min()), float(sums.highs.max())) if len(sums.lows) else (0.0, 0.0)


def _bulk(layer: LayerError) -> tuple[float, float]:
    """Return between what all but 0.2 % of the values of a common sample lie."""
    bulk = layer.sums.bulk
    return (float(np.median(bulk[:, 0])), float(np.median(bulk[:, 1]))) if len(bulk) else (0.0, 0.0)


def _range(layer: LayerError) -> str:
    return f"{_number(layer.numbers.low)} to {_number(layer.numbers.high)}"


def huge_constant(layer: LayerError, around: Surroundings) -> Reason | None:
    """A constant such as -3.4e38 or -1e9, put beside data, takes the whole range for itself."""
    for one in (layer, *around.behind(layer)):
        reach = _huge_beside(one, around)
        # An engine may want one range for what a layer reads and gives; then it lies on the layer before too.
        if reach is None or one.numbers.scale != layer.numbers.scale:
            continue
        where = "" if one is layer else f" in {one.kind} {one.name!r}, which shares this layer's scale,"
        return Reason(
            name="huge constant",
            seen=f"the constant {_number(one.facts.constant)}{where} lies in one range with data of at most "
            f"{_number(reach)}: a step is {_number(layer.numbers.scale)}",
            advice="put a constant close to the data in the source (pad behind the ReLU with 0, mask with -30, "
            f"not -1e9), or keep {one.kind} float",
        )
    return None


def _huge_beside(layer: LayerError, around: Surroundings) -> float | None:
    """Return how far the data reach that a huge constant is put beside, None where it is not so."""
    if layer.kind not in _BESIDE or not layer.numbers.scale:
        return None
    reach = max((abs(value) for one in around.before(layer) for value in _values(one)), default=0.0)
    takes = layer.numbers.high - layer.numbers.low > layer.facts.constant / 4
    return reach if takes and layer.facts.constant > _HUGE * reach else None


def not_finite(layer: LayerError, around: Surroundings) -> Reason | None:
    """NaN or infinity where the float model has numbers."""
    if not layer.sums.not_finite:
        return None
    return Reason(
        name="not a number",
        seen=f"{layer.sums.not_finite:,} values are NaN or infinite where the float model's are finite",
        advice="keep this layer float; float16 cannot hold beyond 65504",
    )


def saturated_concat(layer: LayerError, around: Surroundings) -> Reason | None:
    """The one scale of a CONCATENATION does not hold what one of its inputs brings."""
    clipped = _clipped(layer)
    if clipped is None or not _concatenated(layer):
        return None
    return Reason(
        name="saturated concat",
        seen=f"the inputs of a CONCATENATION share its range {_range(layer)}; {clipped}",
        advice="calibrate on samples like these; else keep CONCATENATION float, or bring its inputs to one range in "
        "the source",
    )


def _concatenated(layer: LayerError) -> bool:
    return layer.kind == "CONCATENATION" or "CONCATENATION" in layer.facts.readers


def _clipped(layer: LayerError) -> str | None:
    sums = layer.sums
    error = sums.own if sums.own > 0 else sums.found
    if not layer.numbers.scale or not sums.outside or sums.outside_squares < _CAUSE * error:
        return None
    low, high = _values(layer)
    return f"{layer.saturated:.1%} of the values, which reach from {_number(low)} to {_number(high)}, lie outside"


def clipped(layer: LayerError, around: Surroundings) -> Reason | None:
    """A range that a bad calibration made too narrow cuts the values off."""
    found = _clipped(layer)
    if found is None:
        return None
    return Reason(
        name="clipped",
        seen=f"its range is {_range(layer)}: {found}",
        advice="calibrate on more samples, as varied as these and with the same preprocessing",
    )


def narrow_branch(layer: LayerError, around: Surroundings) -> Reason | None:
    """An input of a CONCATENATION that is far narrower than the range all of them share."""
    low, high = _values(layer)
    wide = _times_as_wide(layer)
    if layer.kind == "CONCATENATION" or not _concatenated(layer) or wide < _WIDE:
        return None
    return Reason(
        name="narrow concat input",
        seen=f"the inputs of a CONCATENATION share the range {_range(layer)}; this one stays within "
        f"{_number(low)} to {_number(high)}: {_steps(layer, high - low)}",
        advice="keep CONCATENATION and what reads it float, or bring its inputs to one range in the source",
    )


def _times_as_wide(layer: LayerError) -> float:
    low, high = _values(layer)
    if not layer.numbers.scale or high <= low:
        return 0.0
    # Integers of eight bits; wider ones have steps enough.
    return (layer.numbers.high - layer.numbers.low) / (high - low) if layer.dtype in ("int8", "uint8") else 0.0


def _steps(layer: LayerError, spread: float) -> str:
    return f"{spread / layer.numbers.scale:.1f} of 255 steps"


def wide_range(layer: LayerError, around: Surroundings) -> Reason | None:
    """A range far wider than the data, as calibration on other data makes it."""
    if _times_as_wide(layer) < _WIDE:
        return None
    low, high = _values(layer)
    return Reason(
        name="range too wide",
        seen=f"its range is {_range(layer)}, the values stay within {_number(low)} to {_number(high)}: "
        f"{_steps(layer, high - low)}",
        advice="calibrate on samples like these, with the same preprocessing; look for a strange one among the old",
    )


def range_outliers(layer: LayerError, around: Surroundings) -> Reason | None:
    """A few values far out stretch the range for all others."""
    (low, high), (inner_low, inner_high) = _values(layer), _bulk(layer)
    if not _times_as_wide(layer) or (inner_high - inner_low) * _OUTLYING > high - low:
        return None
    lows, highs = layer.sums.lows, layer.sums.highs
    middle = (inner_low - (inner_high - inner_low), inner_high + (inner_high - inner_low))
    strange = int(((lows < middle[0]) | (highs > middle[1])).sum())
    return Reason(
        name="range outliers",
        seen=f"all but 0.2 % of the values lie within {_number(inner_low)} to {_number(inner_high)}, the others "
        f"reach from {_number(low)} to {_number(high)}, in {strange} of {len(lows)} samples",
        advice="leave strange samples out of the calibration; if all have such values, clip them in the source "
        f"(ReLU6) or use {_FLAT}",
    )


def tiny_channels(layer: LayerError, around: Surroundings) -> Reason | None:
    """Channels far smaller than others, which share one scale with them."""
    sums = layer.sums
    if layer.dtype not in ("int8", "uint8") or not layer.numbers.scale or len(sums.channel_low) < 2:
        return None
    spreads = sums.channel_high - sums.channel_low
    alive = spreads > 0
    tiny = alive & (spreads < _FEW_STEPS * layer.numbers.scale)
    if tiny.sum() < max(1.0, _MANY_CHANNELS * alive.sum()):
        return None
    return Reason(
        name="tiny channels",
        seen=f"{int(tiny.sum())} of {len(spreads)} channels use less than {_FEW_STEPS:g} of 255 steps: the widest is "
        f"{_number(spreads.max() / np.median(spreads[alive]))} times the median one",
        advice=f"rescale the channels in the source, a normalization layer does it; or {_FLAT}, and what reads it",
    )


def weight_outliers(layer: LayerError, around: Surroundings) -> Reason | None:
    """Weights far larger than the others that share their scale."""
    weights = layer.facts.weights
    if weights is None or _share(layer, layer.sums.from_weights) < _CAUSE or weights.outlier < _WEIGHT_OUTLIER:
        return None
    more = "" if weights.scales > 1 else "scales a channel (the weights have one for all); or "
    return Reason(
        name="weight outliers",
        seen=f"the largest weight is {_number(weights.outlier)} times the median one, and shares its scale",
        advice=f"{more}clip the weights and train on; or keep this layer float",
    )


def tiny_weights(layer: LayerError, around: Surroundings) -> Reason | None:
    """Channels of weights that are lost in one scale for all."""
    weights = layer.facts.weights
    if weights is None or weights.scales >= weights.channels or _share(layer, layer.sums.from_weights) < _CAUSE:
        return None
    if not weights.tiny:
        return None
    return Reason(
        name="tiny weight channels",
        seen=f"{weights.tiny} of {weights.channels} output channels have weights within 4 steps of zero: "
        f"{weights.scales} scale for all",
        advice="quantize the weights by channel (edgepack's passes do), or keep this layer float",
    )


def lost_weights(layer: LayerError, around: Surroundings) -> Reason | None:
    """Stored weights that are no rounding of the float model's."""
    weights = layer.facts.weights
    if weights is None or _share(layer, layer.sums.from_weights) < _CAUSE:
        return None
    bits = _WEIGHT_BITS.get(weights.dtype)
    if bits is not None:
        return Reason(
            name="few bits",
            seen=f"the weights have {bits} bits",
            advice="int8 weights for this layer, or int4 in blocks where the engine has them",
        )
    if layer.from_weights is None or layer.from_weights > 6:
        return None
    return Reason(
        name="other weights",
        seen="the stored weights are no rounding of the float model's",
        advice="quantize again from the float model you named; if that gives the same, keep this layer float",
    )


def coarse_input(layer: LayerError, around: Surroundings) -> Reason | None:
    """The layer is right; what it reads is stored too coarsely."""
    if _share(layer, layer.sums.from_inputs) < _CAUSE:
        return None
    if layer.facts.weights is not None and not any(one.scale for one in layer.facts.inputs):
        return Reason(
            name="input rounded at run time",
            seen="the engine rounds this layer's float input to 8 bits by its largest value, which loses the others",
            advice="float16 or weight-only int8, or keep this layer float",
        )
    for one in around.before(layer):
        found = reason_of(one, around, _OF_AN_INPUT)
        if found is not None:
            return Reason(name=found.name, seen=f"in its input {one.name!r}, {found.seen}", advice=found.advice)
    return None


def magnified(layer: LayerError, around: Surroundings) -> Reason | None:
    """A rounding that is small where it happens, and is told apart by a logarithm behind it."""
    if not layer.facts.magnifier or layer.effect is None or layer.own_sqnr is None:
        return None
    if layer.effect > layer.own_sqnr - _GROWS:
        return None
    return Reason(
        name="small values matter",
        seen=f"by itself {layer.own_sqnr:.0f} dB; but {layer.facts.magnifier} behind it tells apart what is rounded "
        "to one number near zero",
        advice=f"keep everything from here to {layer.facts.magnifier} float, or use dynamic_range or float16",
    )


def sensitive(layer: LayerError, around: Surroundings) -> Reason | None:
    """A rounding as small as any, of which the outputs make much."""
    if layer.effect is None or layer.own_sqnr is None or layer.own_sqnr < _SMALL:
        return None
    if layer.effect > layer.own_sqnr - _HURTS:
        return None
    return Reason(
        name="sensitive",
        seen=f"its own error is small, {layer.own_sqnr:.0f} dB, and does much to what follows",
        advice=f"{_FLAT}; or train on with quantization simulated",
    )


def wrong_kernel(layer: LayerError, around: Surroundings) -> Reason | None:
    """The engine computes something else than the numbers in the file say."""
    if _share(layer, layer.sums.from_engine) < _CAUSE:
        return None
    return Reason(
        name="engine",
        seen="the engine's result is not what the file's numbers give",
        advice="another version of the engine: old ones ignore scales a channel, blocks and int4 without a word",
    )


def constant_output(layer: LayerError, around: Surroundings) -> Reason | None:
    """Always the same, whatever goes in."""
    if not layer.dead:
        return None
    return Reason(
        name="constant output",
        seen="it gives the same for every sample and place",
        advice="keep this layer float, or calibrate on other samples",
    )


# What is wrong with a tensor, whoever reads it.
_OF_AN_INPUT: tuple[Recogniser, ...] = (
    huge_constant,
    saturated_concat,
    clipped,
    narrow_branch,
    wide_range,
    range_outliers,
    tiny_channels,
)
RECOGNISERS: tuple[Recogniser, ...] = (
    not_finite,
    *_OF_AN_INPUT[:5],
    weight_outliers,
    tiny_weights,
    lost_weights,
    range_outliers,
    coarse_input,
    magnified,
    tiny_channels,
    wrong_kernel,
    constant_output,
    sensitive,
)


def reason_of(
    layer: LayerError, around: Surroundings, recognisers: Sequence[Recogniser] = RECOGNISERS
) -> Reason | None:
    """Return the first reason that is recognised, None for none."""
    return next((found for recognise in recognisers if (found := recognise(layer, around)) is not None), None)
