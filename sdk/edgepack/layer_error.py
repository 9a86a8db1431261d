"""How far each layer of a quantized model is from its float twin: as the model runs, and by its own doing.

The first tells where it is wrong, the second whose fault it is. A layer's own error is found by feeding it what the
float model computes before it; and that error is taken apart into what its rounded inputs, its rounded weights, the
rounding of its result and the engine's kernel each add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgepack.dataset import bind_feeds
from edgepack.errors import WorkerError
from edgepack.evaluate import Parity, compare
from edgepack.layer_facts import LayerFacts
from edgepack.layer_match import LayerPair
from edgepack.layer_measure import Layer, Measured, MeasureRequest
from edgepack.layer_plan import Plan, PlanRequest
from edgepack.layer_probe import tensor_name
from edgepack.layer_sums import LayerSums, Numbers
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import EngineError
from edgepack_runtime.profile import EngineRequirement
from edgepack_runtime.tensors import Array

__all__ = ["LayerError", "LayerErrors", "LayerRequest", "Places", "decibels", "layer_errors"]

# What a ratio without a measurable error is said to be.
_MOST_DECIBELS = 120.0
_FLOAT_MODELS = ("float", "float alone", "replaceable", "weights alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRequest:
    """The float model, what was quantized from it, and samples: arrays [n, *input shape] by the float model's inputs.

    `engine` is the exact engine that both run on, and with how many threads.
    """

    float_model: bytes
    quantized: bytes
    feeds: Mapping[str, Array]
    engine: EngineRequirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the files are taken apart (the base install), and where they run (the engine's environment)."""

    host: Workplace
    engine: Workplace


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """One layer's error; ratios are dB of the float tensor's variance to the mean squared error, at most 120.

    `sqnr` is as the model ran, `own_sqnr` that of the layer fed with the float model's values; `from_...` as if one
    part of it were all. None is what was not measured, or what has no meaning as the float tensor never changes.
    `max_error` and `own_max_error` are shares of the float tensor's range, `saturated` is the share of values the
    layer's range does not hold. `dead` says that the layer by itself always gives the same where the float one does
    not. `effect` is the ratio of the worst output of a model in which this layer alone is quantized.
    """

    operator: int
    kind: str
    name: str
    dtype: str
    sqnr: float | None
    own_sqnr: float | None
    max_error: float | None
    own_max_error: float | None
    saturated: float
    dead: bool
    effect: float | None
    from_inputs: float | None
    from_weights: float | None
    from_rounding: float | None
    from_engine: float | None
    pair: LayerPair
    numbers: Numbers
    facts: LayerFacts
    sums: LayerSums


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerErrors:
    """All layers in graph order, the outputs' parity with the float model, and what the measurement is worth.

    `refused` says why the engine could not run the quantized model; its layers were then computed from the float
    model's values, and `outputs` is empty. `disturbed` and `alone_failure` are those of `Measured`, `unmatched`
    counts the operators of which no float twin is known.
    """

    layers: tuple[LayerError, ...]
    outputs: tuple[Parity, ...]
    samples: int
    engine: str
    unmatched: int
    refused: str
    disturbed: float
    alone_failure: str


def decibels(signal: float, noise: float) -> float | None:
    """Return 10 lg(signal/noise), from -120 to 120; None without a signal or a measured noise."""
    if signal <= 0 or noise < 0:
        return None
    if noise == 0:
        return _MOST_DECIBELS
    return max(-_MOST_DECIBELS, min(_MOST_DECIBELS, 10 * math.log10(signal / noise)))


def layer_errors(request: LayerRequest, places: Places) -> LayerErrors:
    """Return every layer's error over the samples, under the exact engine.

    Raises:
        SourceModelError: a model is no TFLite model, cannot be looked into, or they do not belong together.
        DatasetError: the samples do not fit the float model.
        EngineError: the engine cannot run the float model.
        WorkerError: it crashed, hung or hit a limit doing so.
    """
    wanted = PlanRequest(float_model=request.float_model, quantized=request.quantized)
    plan = run_task("edgepack.layer_plan:make_plan", wanted, Plan, places.host)
    measured, refused = _measured(_work(plan, request), places.engine)
    names = {tensor_name(o.reference): name for o, name in zip(plan.outputs, plan.output_names, strict=True)}
    reference = {names[key]: array for key, array in measured.reference.items()}
    outputs = {names[key]: array for key, array in measured.outputs.items()}
    rows = zip(plan.pairs, plan.layers, plan.facts, measured.layers, measured.effects, strict=True)
    return LayerErrors(
        layers=tuple(_error(_Row(*row)) for row in rows),
        outputs=compare(reference, outputs) if outputs else (),
        samples=len(next(iter(request.feeds.values()))),
        engine=f"{request.engine.name} {measured.engine_version}",
        unmatched=plan.unmatched,
        refused=refused,
        disturbed=measured.disturbed,
        alone_failure=measured.alone_failure,
    )


def _work(plan: Plan, request: LayerRequest) -> MeasureRequest:
    feeds = bind_feeds(request.feeds, plan.inputs, "data")
    pairs = zip(plan.inputs, plan.feeds, strict=True)
    return MeasureRequest(
        models=plan.models,
        engine=request.engine.name,
        version=request.engine.version,
        num_threads=request.engine.num_threads,
        feeds={tensor_name(feed.reference): feeds[spec.name] for spec, feed in pairs},
        inputs=plan.feeds,
        layers=plan.layers,
        outputs=plan.outputs,
    )


def _measured(work: MeasureRequest, place: Workplace) -> tuple[Measured, str]:
    """Return what was measured, and why the quantized model was left out of it, if it was."""
    function = "edgepack.layer_measure:measure"
    try:
        return run_task(function, work, Measured, place), ""
    except (EngineError, WorkerError) as error:
        floats = {name: data for name, data in work.models.items() if name in _FLOAT_MODELS}
        return run_task(function, replace(work, models=floats), Measured, place), error.message


class _Row(NamedTuple):
    """What belongs to one layer."""

    pair: LayerPair
    layer: Layer
    facts: LayerFacts
    sums: LayerSums
    effects: Array


def _error(row: _Row) -> LayerError:
    pair, sums = row.pair, row.sums
    signal = max(0.0, sums.squares - sums.total**2 / sums.count) if sums.count else 0.0
    # What is left of a constant's variance by rounding in the sums is none.
    if signal <= 1e-12 * sums.squares:
        signal = 0.0
    spread = float(sums.highs.max() - sums.lows.min()) if sums.count else 0.0
    given = sums.own_spread if sums.own >= 0 else sums.found_spread
    return LayerError(
        operator=pair.operator,
        kind=pair.kind,
        name=pair.name,
        dtype=row.layer.numbers.dtype,
        sqnr=decibels(signal, sums.found),
        own_sqnr=decibels(signal, sums.own),
        max_error=None if sums.found < 0 or not spread else sums.found_max / spread,
        own_max_error=None if sums.own < 0 or not spread else sums.own_max / spread,
        saturated=sums.outside / sums.count if sums.count else 0.0,
        dead=given == 0 and signal > 0,
        effect=decibels(1.0, float(row.effects.max(initial=-1.0))),
        from_inputs=decibels(signal, sums.from_inputs),
        from_weights=decibels(signal, sums.from_weights),
        from_rounding=decibels(signal, sums.from_rounding),
        from_engine=decibels(signal, sums.from_engine),
        pair=pair,
        numbers=row.layer.numbers,
        facts=row.facts,
        sums=sums,
    )
