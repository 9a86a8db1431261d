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
# What no other precision is needed for.
_CALIBRATION = frozenset({"clipped", "range too wide", "saturated concat"})
_WEIGHTS = frozenset({"weight outliers", "tiny weight channels", "few bits", "other weights"})
# What a mixed precision can be made from here.
_BASES = ("full_integer", "dynamic_range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A layer to blame, and why; `reason` is None where no known fault is recognised."""

    layer: LayerError
    reason: Reason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong with a quantized model.

    `wrong` are the outputs that are too far from the float model's, `limit` the correlation they need. `alone` says
    whether each finding makes the model wrong by itself; if not, they only harm most of the many that add up. `base`
    is the precision the quantized model has.
    """

    wrong: tuple[str, ...]
    limit: float
    findings: tuple[Finding, ...]
    alone: bool
    errors: LayerErrors
    base: str

    @property
    def good(self) -> bool:
        """Whether the engine runs the model and every output is as near to the float model's as it has to be."""
        return not self.wrong and not self.errors.refused

    @property
    def way_out(self) -> str:
        """Return what to do about the whole model; '' for a good one."""
        if self.good:
            return ""
        if not self.alone:
            return "no layer is to blame alone; int16x8, dynamic_range and float16 are finer in every layer"
        known = {one.reason.name if one.reason is not None else "" for one in self.findings}
        if known <= _CALIBRATION:
            return "quantize again, calibrated on samples like these: nothing else is known to be wrong"
        if known & _ACTIVATIONS:
            return "dynamic_range and float16 leave what flows between layers float, where these faults are"
        return "float16 has none of these faults"

    @property
    def rule(self) -> tuple[str, ...]:
        """Return the layers that a rule of the mixed precision has to keep float, as it names them; () for none."""
        reasons = {one.reason.name if one.reason is not None else "" for one in self.findings}
        if self.good or not self.alone or self.base not in _BASES or reasons <= _CALIBRATION:
            return ()
        kept = {place for one in self.findings for place in _island(one)}
        return tuple(f"#{place}" for place in sorted(kept))


def _island(one: Finding) -> tuple[int, ...]:
    """Return the float operators that cure a finding: a layer whose weights are wrong, or all around its result."""
    twin = one.layer.pair.twin
    if one.reason is not None and one.reason.name in _WEIGHTS and twin >= 0:
        return (twin,)
    return one.layer.facts.island


def judge(errors: LayerErrors, base: str, limit: float) -> Diagnosis:
    """Return the diagnosis.

    Args:
        errors: what was measured.
        base: the precision the quantized model has.
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
        base=base,
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
