"""What would refuse a build in the end, asked as soon as it can be told: before the conversion, before a training."""

from __future__ import annotations

import importlib

from edgepack.candidate import Samples
from edgepack.conversion import Converted
from edgepack.converters import _options
from edgepack.drop import source_doubts
from edgepack.errors import PassError, RecipeError
from edgepack.gate import Verdict
from edgepack.inputs import BuildInputs
from edgepack.model import PassRequest
from edgepack.ownmetric import check_function, check_metrics, function_notes
from edgepack.passes._choose import Named
from edgepack.recipe import Recipe
from edgepack.roads import routes
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.manifest import MIXED

__all__ = ["check_asked", "check_converted", "doubts_of"]


def check_asked(recipe: Recipe, source: str, place: Workplace) -> None:
    """Refuse what no model can be built with.

    Args:
        recipe: what is asked for.
        source: the format of its model.
        place: where the user's own metric is loaded.

    Raises:
        RecipeError: a road or an option of the converter is unknown, or the user's own metric cannot be loaded.
        WorkerError: that crashed or hung.
    """
    road = routes(source, recipe.via)[0].roads[0]
    try:
        options = _options.read_options(importlib.import_module(road.module).Options, recipe.converter)
    except SchemaError as error:
        raise RecipeError(f"converter: {error.message}", hint=error.hint) from None
    _options.named_inputs(getattr(options, "inputs", ()))
    if recipe.gate.function is not None:
        check_function(recipe.gate.function, place)


def check_converted(recipe: Recipe, inputs: BuildInputs, converted: Converted, place: Workplace) -> None:
    """Refuse what the recipe says of a model that is none of this one.

    Args:
        recipe: what is asked for.
        inputs: what it names; with devices' profiles the declared processing has to be true of the model.
        converted: the model, and the samples with its outputs.
        place: where rules are read and the user's own metric is tried.

    Raises:
        DatasetError: labels and outputs do not fit the metrics, or there is no such output.
        PassError: a rule for single layers names none of the model.
        RecipeError: the declared processing does not belong to the model, or the user's own metric fails.
        WorkerError: that, or the rules, crashed or hung.
    """
    model, samples = converted.model, converted.samples
    if recipe.processing is not None and inputs.profiles:
        recipe.processing.for_model(model.inputs, model.outputs, inputs.labels)
    if inputs.evaluation is not None:
        check_metrics(recipe.gate, samples.evaluated(samples.standard), samples.labels, place)
    if MIXED in recipe.schemes and not recipe.optimize.search:
        request = PassRequest(
            model=model.data, engine="", options=recipe.passes.order(MIXED, "").options, calibration={}
        )
        try:
            run_task("edgepack.passes.mixed:check", request, Named, place)
        except PassError as error:
            raise PassError(f"passes.{MIXED}: {error.message}", hint=error.hint) from None


def doubts_of(recipe: Recipe, inputs: BuildInputs, samples: Samples, place: Workplace) -> tuple[str, ...]:
    """Return what makes the evaluation worth less than it looks, and what training alone lost; told, and signed.

    Raises:
        DatasetError: outputs, labels and metrics do not fit each other.
        FileError: the file of the user's own metric cannot be read.
        RecipeError: that metric fails.
    """
    if inputs.evaluation is None:
        return inputs.notes
    doubts = [
        *inputs.notes,
        *function_notes(recipe.gate),
        *source_doubts(recipe.gate, samples.evaluated(samples.standard), samples.labels),
    ]
    if inputs.evaluation.digest == inputs.calibration.digest:
        doubts.append("calibration and evaluation data are one and the same file: the drop says little of other data")
    if samples.before is not None:
        for drop in samples.drops(samples.reference, recipe.gate, place):
            within = "" if drop.verdict is Verdict.HOLDS else f"; that alone is not within {drop.budget:g}"
            doubts.append(f"training alone, before any quantization: {drop.check}: {drop.figures}{within}")
    return tuple(doubts)
