"""From the source model to a float TFLite model that is proven equal to it: the first route that gets there.

A converter's own word about its success is worth nothing. Each route's result runs beside the source framework's
outputs, and the first that agrees is taken; what the others said is kept, and signed with the notes.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack import __version__
from edgepack.candidate import Samples
from edgepack.dataset import bind_feeds, join_feeds, take_samples
from edgepack.edgecases import EdgeCases, edge_cases, no_edge_cases
from edgepack.errors import ConversionError, ParityError, SourceModelError, ToolchainError, WorkerError
from edgepack.inputs import SourceInputs
from edgepack.layout import laid_out, turned_arrays
from edgepack.model import Conversion, ConversionRequest, Divergence, Export, SourceModel, StepRecord, TFLiteModel
from edgepack.parity import Comparison, constant_notes, parity_evidence, parity_tolerance
from edgepack.recipe import Recipe, parse_layout
from edgepack.reporter import Reporter
from edgepack.roads import Road, Route, routes
from edgepack.schemes import is_stateful
from edgepack.source import detect
from edgepack.toolchain import HOST, ensure, locate
from edgepack.worker import Workplace, run_task, scratch_folder
from edgepack_runtime._fields import canonical_json, parse_json
from edgepack_runtime.errors import EdgepackError, EngineError
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["Converted", "convert_source", "host_place"]

# The options that roads behind an exporter get; it has settled the others, such as shapes.
_LEFT_BY_AN_EXPORT = frozenset({"max_difference"})
_REFUSALS = (ConversionError, EngineError, ToolchainError, WorkerError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The source as float TFLite, the samples with the source framework's outputs, and the proof that it is equal.

    `before` is the same of the source as it came, where it was trained further.
    """

    model: TFLiteModel
    samples: Samples
    parity: tuple[Evidence, ...]
    notes: tuple[str, ...]
    before: TFLiteModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trip:
    """What is the same on every route; `exports` keeps what an exporter gave, or why it gave nothing.

    `feeds` are the samples, `real` of them, with the edge cases behind.
    """

    recipe: Recipe
    inputs: SourceInputs
    feeds: Mapping[str, Array]
    real: int
    cases: EdgeCases
    scratch: Path
    offline: bool
    reporter: Reporter
    exports: dict[str, Export | Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Where a road starts: a file, the samples under its inputs' names, the converter's options as JSON."""

    source: SourceModel
    feeds: Mapping[str, Array]
    options: str


def host_place(reporter: Reporter) -> Workplace:
    """Return the host's own interpreter as a place for child processes."""
    return Workplace(python=Path(sys.executable), log=reporter.log, say=reporter.say)


def convert_source(recipe: Recipe, inputs: SourceInputs, *, offline: bool, reporter: Reporter) -> Converted:
    """Return the model from the first route whose result is equal to the source.

    Args:
        recipe: says which roads are wanted, and the converter's options.
        inputs: the source and the samples.
        offline: refuse rather than install a missing toolchain.
        reporter: told what goes on.

    Raises:
        ConversionError: no route leads to an equal model; the message tells what each one said.
        RecipeError: an option or a road is unknown.
        DatasetError: the samples do not fit the model.
        EdgepackError: every route met the same refusal, of that class.
    """
    evaluation = inputs.evaluation
    said: list[tuple[Route, EdgepackError]] = []
    samples = join_feeds(inputs.calibration.feeds, None if evaluation is None else evaluation.feeds)
    cases = _cases(inputs.source, samples)
    with scratch_folder() as scratch:
        trip = _Trip(
            recipe=recipe,
            inputs=inputs,
            feeds=cases.behind(samples),
            real=len(next(iter(samples.values()))),
            cases=cases,
            scratch=scratch,
            offline=offline,
            reporter=reporter,
        )
        for route in routes(inputs.source.format, recipe.via):
            try:
                converted = _along(route, trip)
            except _REFUSALS as error:
                if error.message not in {other.message for _, other in said}:
                    reporter.say(f"{route}: {error.message}")
                said.append((route, error))
            else:
                _refuse_changed(inputs.source)
                return _with_history(converted, route, said)
        explained = _explained(said, trip)
    reasons = _reasons(said)
    if len(reasons) == 1:
        only = said[0][1]
        raise type(only)(only.message + explained, hint=only.hint) if explained else only
    raise ConversionError(
        f"no road leads from {inputs.source.path.name} ({inputs.source.format}) to an equal TFLite model: "
        + "; ".join(reasons)
        + explained,
        hint=next((error.hint for _, error in said if error.hint), None),
    )


def _refuse_changed(source: SourceModel) -> None:
    """Refuse a source that is no longer the one whose digest is signed as its own."""
    if detect(source.path).digest != source.digest:
        raise SourceModelError(f"{source.path}: it was changed while it was converted", hint="build again")


def _cases(source: SourceModel, samples: Mapping[str, Array]) -> EdgeCases:
    """Return the edge cases; a stream has none, for every sample in it changes what comes after."""
    if source.format == "tflite" and is_stateful(source.path.read_bytes()):
        return no_edge_cases(samples)
    return edge_cases(samples)


def _explained(said: list[tuple[Route, EdgepackError]], trip: _Trip) -> str:
    """Return which layer differs first on the first route that leads to something else; '' if none does."""
    for route, error in said:
        road = route.roads[-1]
        if not isinstance(error, ParityError) or not road.explains:
            continue
        stage = _Stage(source=trip.inputs.source, feeds=trip.feeds, options=trip.recipe.converter)
        for before in route.roads[:-1]:
            stage = _behind(before, _export(before, stage, trip), stage, trip.scratch)
        task = f"{road.module}:first_difference"
        try:
            with trip.reporter.step("looking for the first layer that differs"):
                found = run_task(task, _request(road, stage, trip), Divergence, _place(road, trip))
        except EdgepackError as failure:
            return f"; no layer can be named: {failure.message}"
        return f"; {found.text}"
    return ""


def _reasons(said: Sequence[tuple[Route, EdgepackError]]) -> list[str]:
    """Return each refusal once, behind the routes it was met on: those that begin with one exporter share its own."""
    met: dict[str, list[str]] = {}
    for route, error in said:
        met.setdefault(error.message, []).append(str(route))
    return [f"{', '.join(names)}: {message}" for message, names in met.items()]


def _with_history(converted: Converted, route: Route, said: list[tuple[Route, EdgepackError]]) -> Converted:
    """Return it with a note of the road that was taken, and of what the ones before it said."""
    if not said:
        return converted
    return replace(converted, notes=(*converted.notes, f"road taken: {route}", *_reasons(said)))


def _along(route: Route, trip: _Trip) -> Converted:
    stage = _Stage(source=trip.inputs.source, feeds=trip.feeds, options=trip.recipe.converter)
    steps: list[StepRecord] = []
    notes: tuple[str, ...] = ()
    export: Export | None = None
    for road in route.roads[:-1]:
        start = time.monotonic()
        export = _export(road, stage, trip)
        steps.append(_step(road, stage, export.tool, export.model, time.monotonic() - start))
        notes += export.notes
        stage = _behind(road, export, stage, trip.scratch)
    road = route.roads[-1]
    start = time.monotonic()
    conversion = _convert(road, stage, trip)
    steps.append(_step(road, stage, conversion.tool, conversion.tflite, time.monotonic() - start))
    if export is not None:
        _same_interface(export, conversion)
    model = TFLiteModel(
        data=conversion.tflite, inputs=conversion.inputs, outputs=conversion.outputs, history=tuple(steps)
    )
    comparison = _in_layout(
        Comparison(
            model=model,
            feeds=bind_feeds(stage.feeds, conversion.inputs, "the data"),
            reference=_shaped((export or conversion).reference, conversion.outputs),
            real=trip.real,
            cases=trip.cases.names,
            tolerance=parity_tolerance(trip.recipe.converter),
        ),
        trip.recipe.layout,
    )
    with trip.reporter.step("comparing the converted model with its source"):
        parity = parity_evidence(comparison, host_place(trip.reporter))
    samples = _real(comparison, trip.inputs)
    notes += tuple(step.tool for step in comparison.model.history if step.use == "layout")
    notes += constant_notes(comparison)
    return Converted(model=comparison.model, samples=samples, parity=parity, notes=(*notes, *conversion.notes))


def _in_layout(comparison: Comparison, wanted: Sequence[str]) -> Comparison:
    """Return it with the model, the samples and the source's outputs in the layout that is wanted."""
    start, model = time.monotonic(), comparison.model
    laid = laid_out(model.data, model.inputs, model.outputs, parse_layout(wanted))
    if laid is None:
        return comparison
    step = StepRecord(
        use="layout",
        tool=f"edgepack {__version__}; {laid.note}",
        options=canonical_json({"layout": list(wanted)}).decode(),
        input_digest=hashlib.sha256(model.data).hexdigest(),
        output_digest=hashlib.sha256(laid.data).hexdigest(),
        seconds=time.monotonic() - start,
    )
    return replace(
        comparison,
        model=TFLiteModel(data=laid.data, inputs=laid.inputs, outputs=laid.outputs, history=(*model.history, step)),
        feeds=turned_arrays(comparison.feeds, laid.orders),
        reference=turned_arrays(comparison.reference, laid.orders),
    )


def _real(comparison: Comparison, inputs: SourceInputs) -> Samples:
    """Return the samples alone: nothing made up may calibrate, be evaluated or become a golden tensor."""
    return Samples(
        feeds=take_samples(comparison.feeds, slice(comparison.real)),
        reference=take_samples(comparison.reference, slice(comparison.real)),
        calibration=inputs.calibration.count,
        labels=None if inputs.evaluation is None else inputs.evaluation.labels,
    )


def _export(road: Road, stage: _Stage, trip: _Trip) -> Export:
    """Return what an exporter gives; it is asked once, however many routes begin with it."""
    if road.name not in trip.exports:
        place = _place(road, trip)
        request = _request(road, stage, trip)
        try:
            with trip.reporter.step(f"exporting {stage.source.path.name} ({stage.source.format}) by {road.name}"):
                trip.exports[road.name] = run_task(f"{road.module}:export", request, Export, place)
        except _REFUSALS as error:
            trip.exports[road.name] = error
    found = trip.exports[road.name]
    if isinstance(found, Exception):
        raise found
    return found


def _convert(road: Road, stage: _Stage, trip: _Trip) -> Conversion:
    place = _place(road, trip)
    request = _request(road, stage, trip)
    with trip.reporter.step(f"converting {stage.source.path.name} ({stage.source.format}) by {road.name}"):
        return run_task(f"{road.module}:convert", request, Conversion, place)


def _request(road: Road, stage: _Stage, trip: _Trip) -> ConversionRequest:
    recipe = trip.recipe
    folder = trip.scratch / f"{road.name}-{len(list(trip.scratch.iterdir()))}"
    folder.mkdir()
    return ConversionRequest(
        source=stage.source.path.resolve(),
        options=stage.options,
        feeds=stage.feeds,
        edges=2 * len(trip.cases.names),
        scratch=folder,
        parts=stage.source.parts,
        trusted=recipe.trust_source,
        module=None if recipe.module is None else recipe.module.path.resolve(),
        entry="" if recipe.module is None else recipe.module.entry,
    )


def _place(road: Road, trip: _Trip) -> Workplace:
    if road.toolchain == HOST:
        return host_place(trip.reporter)
    python = ensure(locate(road.toolchain), offline=trip.offline, say=trip.reporter.say)
    return Workplace(python=python, log=trip.reporter.log, say=trip.reporter.say)


def _step(road: Road, stage: _Stage, tool: str, result: bytes, seconds: float) -> StepRecord:
    return StepRecord(
        use=f"convert {stage.source.format} by {road.name}",
        tool=tool,
        options=stage.options,
        input_digest=stage.source.digest,
        output_digest=hashlib.sha256(result).hexdigest(),
        seconds=seconds,
    )


def _behind(road: Road, export: Export, stage: _Stage, scratch: Path) -> _Stage:
    """Return where the next road starts: the exported file, its inputs' names, and no option that is settled."""
    path = scratch / f"{road.name}.{road.then}"
    path.write_bytes(export.model)
    table = parse_json(stage.options.encode(), "converter options")
    assert isinstance(table, dict)  # noqa: S101 - a recipe's converter options are a table
    return _Stage(
        source=SourceModel(path=path, format=road.then, digest=hashlib.sha256(export.model).hexdigest()),
        feeds=bind_feeds(stage.feeds, export.inputs, "the data"),
        options=canonical_json({k: v for k, v in table.items() if k in _LEFT_BY_AN_EXPORT}).decode(),
    )


def _same_interface(export: Export, conversion: Conversion) -> None:
    """Refuse a conversion of the exported file whose inputs and outputs are not the source's.

    Raises:
        ConversionError: a name, dtype or shape is another one.
    """
    for what, ours, theirs in (
        ("input", export.inputs, conversion.inputs),
        ("output", export.outputs, conversion.outputs),
    ):
        found, wanted = ([f"{s.name} {s.dtype}{list(s.shape)}" for s in specs] for specs in (theirs, ours))
        if found != wanted:
            raise ConversionError(f"the {what}s became {', '.join(found)}, the source has {', '.join(wanted)}")


def _shaped(reference: Mapping[str, Array], outputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Return the source's outputs as [n, *output shape], the batch dimension of 1 put back."""
    shaped = {}
    for spec in outputs:
        array = reference.get(spec.name)
        if array is None or array.size != len(array) * math.prod(spec.shape):
            raise ConversionError(f"the converter gave no reference for output {spec}")
        shaped[spec.name] = array.reshape(len(array), *spec.shape)
    return shaped
