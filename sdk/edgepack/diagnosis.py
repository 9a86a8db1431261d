"""Which layers of a quantized model are to blame, from what was measured of each: the verdict of `edgepack diagnose`.

The layers are asked what their own error alone does to the outputs. Those that do most of the harm are named in the
order they compute in, each with the reason where one is recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.layer_error import LayerError, LayerErrors
from edgepack.layer_reason import Reason, Surroundings, reason_of

__all__ = ["Diagnosis", "Finding", "judge"]

# Layers whose harm is a tenth of the worst one's, or less, are not the cause.
_TENTH = 10.0
# Below this many decibels one layer alone makes a model wrong: correlation 0.97 is 12, and others add to it.
_WRONG_ALONE = 20.0
_MOST_NAMED = 10
_SOME = 5
_ACTIVATIONS = frozenset(
    {"huge constant", "saturated concat", "clipped", "narrow concat input", "range too wide", "range outliers"}
    | {"tiny channels", "small values matter"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A layer to blame, and why; `reason` is None where no known fault is recognised."""

    layer: LayerError
    reason: Reason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong with a quantized model.

    `wrong` are the outputs that are too far from the float model's, `limit` the correlation they need. `alone` says
    whether each finding makes the model wrong by itself; if not, they only harm most of the many that add up.
    """

    wrong: tuple[str, ...]
    limit: float
    findings: tuple[Finding, ...]
    alone: bool
    errors: LayerErrors

    @property
    def good(self) -> bool:
        """Whether the engine runs the model and every output is as near to the float model's as it has to be."""
        return not self.wrong and not self.errors.refused

    @property
    def way_out(self) -> str:
        """Return what to do about the whole model; '' for a good one."""
        if self.good:
            return ""
        known = {one.reason.name for one in self.findings if one.reason is not None}
        if not self.alone:
            return "no layer is to blame alone: int16x8, dynamic_range or float16 are finer in every layer"
        kinds = sorted({one.layer.kind for one in self.findings if one.layer.kind not in ("QUANTIZE", "DEQUANTIZE")})
        keep = ", ".join(f'"{kind}"' for kind in kinds)
        kept = f"; or keep_float = [{keep}] in [passes.full_integer], which leaves such layers float" if kinds else ""
        if known & _ACTIVATIONS:
            return f"dynamic_range and float16 leave what flows between layers float, where these faults are{kept}"
        return f"float16 halves the model and has none of these faults{kept}"


def judge(errors: LayerErrors, limit: float) -> Diagnosis:
    """Return the diagnosis.

    Args:
        errors: what was measured.
        limit: the correlation that every output needs with the float model's.
    """
    around = Surroundings(layers=errors.layers)
    blamed, alone = _blamed(errors.layers)
    wrong = tuple(parity.output for parity in errors.outputs if parity.correlation < limit)
    return Diagnosis(
        wrong=wrong,
        limit=limit,
        findings=tuple(Finding(layer=layer, reason=reason_of(layer, around)) for layer in blamed),
        alone=alone,
        errors=errors,
    )


def _harm(layer: LayerError) -> float | None:
    """Return how bad a layer is in decibels, less is worse: for the outputs, else by itself, None for no error."""
    if layer.effect is not None:
        return layer.effect
    fresh = max(layer.sums.from_weights, layer.sums.from_rounding, layer.sums.from_engine)
    # What only hands its input's error on is not to blame.
    return layer.own_sqnr if fresh > 0 or layer.dead or layer.sums.not_finite else None


def _blamed(layers: Sequence[LayerError]) -> tuple[list[LayerError], bool]:
    """Return the layers that do most of the harm, in graph order, and whether they alone make the model wrong."""
    measured = any(layer.effect is not None for layer in layers)
    harms = [
        (harm, place)
        for place, layer in enumerate(layers)
        if (layer.effect is not None or not measured) and (harm := _harm(layer)) is not None
    ]
    harms.sort()
    worst = harms[0][0] if harms else 0.0
    alone = worst <= _WRONG_ALONE
    line = min(worst + _TENTH, _WRONG_ALONE)
    named = [place for harm, place in harms if harm <= line][:_MOST_NAMED] if alone else [p for _, p in harms[:_SOME]]
    return [layers[place] for place in sorted(named)], alone
