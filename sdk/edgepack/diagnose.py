"""`edgepack diagnose`: a quantized model and its float model, given or made here, run layer by layer and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepack.candidate import SIMILARITY, apply_pass, judged_as
from edgepack.conversion import host_place
from edgepack.dataset import load_dataset, take_samples
from edgepack.diagnosis import Diagnosis, judge
from edgepack.errors import RecipeError, SourceModelError
from edgepack.inputs import read_source
from edgepack.layer_error import LayerRequest, Places, layer_errors
from edgepack.offline import refuse_missing
from edgepack.profiles import load_profile
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter
from edgepack.schemes import scheme_of
from edgepack.source import detect
from edgepack.toolchain import engine_toolchain, ensure
from edgepack.trained import convert_trained
from edgepack.worker import Limits, Workplace
from edgepack_runtime._files import read_capped
from edgepack_runtime.manifest import AS_IS
from edgepack_runtime.profile import EngineRequirement
from edgepack_runtime.tensors import Array

__all__ = ["MOST_SAMPLES", "Files", "Sampling", "diagnose_files", "diagnose_recipe"]

MOST_SAMPLES = 200
_MOST_BYTES = 2 << 30
# Two models in six forms; a model that takes more is one that nobody quantizes for a small device.
_LIMITS = Limits(seconds=1200, cpu_seconds=2400, memory_bytes=8 << 30)
# The base install's own, in whatever version it is.
_ANY_ENGINE = EngineRequirement(name="ai-edge-litert", version="", num_threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Two TFLite files, one quantized from the other, and samples; `profile` names the device whose engine runs them.

    Without one, the engine of this installation does.
    """

    quantized: Path
    float_model: Path
    data: Path
    profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How many samples are looked at, evenly from all, and whether a missing engine may be installed for it.

    Raises:
        RecipeError: less than one sample, or more than `MOST_SAMPLES`.
    """

    samples: int = 16
    offline: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise RecipeError(f"{self.samples} samples: from 1 to {MOST_SAMPLES} can be looked at")

    def of(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return so many of the samples."""
        count = len(next(iter(feeds.values())))
        places = np.unique(np.linspace(0, count - 1, min(count, self.samples)).astype(np.int64))
        return take_samples(feeds, places)


def diagnose_files(files: Files, sampling: Sampling, reporter: Reporter) -> Diagnosis:
    """Return what is wrong with the quantized model.

    Raises:
        EdgepackError: a file cannot be read, is no TFLite model or cannot be looked into, the models or the samples
            do not belong together, or the engine cannot run the float model.
    """
    quantized, float_model = (_read_tflite(path) for path in (files.quantized, files.float_model))
    data = load_dataset(files.data, "evaluation")
    requirement, place = _engine(files.profile, sampling.offline, reporter)
    asked = LayerRequest(
        float_model=float_model, quantized=quantized, feeds=sampling.of(data.feeds), engine=requirement
    )
    return _diagnosed(asked, place, reporter)


def diagnose_recipe(recipe: Recipe, scheme: str, sampling: Sampling, reporter: Reporter) -> Diagnosis:
    """Return what is wrong with the recipe's model when quantized so, for the recipe's first profile.

    It is looked at on the evaluation data, on the calibration data if there is no other. A model that the recipe
    trains is trained, and the float model is the trained one.

    Raises:
        PassError: it cannot be quantized so at all.
        EdgepackError: something given is wrong, or the model cannot be converted or looked into.
    """
    profile = load_profile(recipe.profiles[0])
    inputs = read_source(recipe)
    if sampling.offline:
        refuse_missing(inputs.source.format, recipe.via, (profile,))
    requirement, place = _engine(profile.name, sampling.offline, reporter)
    if recipe.training:
        reporter.say("the model is trained first, as a build trains it; the trained one is what is looked at")
    converted = convert_trained(recipe, inputs, offline=sampling.offline, reporter=reporter)
    source = scheme_of(converted.model.data)
    if source not in ("float32", "float16"):
        raise SourceModelError(
            f"{recipe.model} is quantized already ({source}); there is no float model to hold it against",
            hint=f"edgepack diagnose {recipe.model} --float FLOAT.tflite --data FILE",
        )
    samples = converted.samples
    order = recipe.passes.order(scheme, f"{requirement.name}=={requirement.version}")
    with reporter.step(f"making the {scheme} model"):
        model = apply_pass(converted.model, order, samples.calibration_feeds(), host_place(reporter), keep_names=True)
    feeds = dict(samples.feeds)
    if inputs.evaluation is not None:
        feeds = {name: array[samples.calibration :] for name, array in feeds.items()}
    asked = LayerRequest(
        float_model=converted.model.data, quantized=model.data, feeds=sampling.of(feeds), engine=requirement
    )
    return _diagnosed(asked, place, reporter)


def _read_tflite(path: Path) -> bytes:
    found = detect(path)
    if found.format != "tflite":
        raise SourceModelError(
            f"{path} is a model of the kind {found.format}, wanted is TFLite",
            hint="leave --float away and name the source model: edgepack diagnose MODEL --precision full_integer "
            "--profile NAME --data FILE",
        )
    return read_capped(path, _MOST_BYTES)


def _engine(profile: str | None, offline: bool, reporter: Reporter) -> tuple[EngineRequirement, Workplace]:
    if profile is None:
        return _ANY_ENGINE, host_place(reporter)
    requirement = load_profile(profile).engine
    python = ensure(engine_toolchain(requirement.name, requirement.version), offline=offline, say=reporter.say)
    return requirement, Workplace(python=python, log=reporter.log, say=reporter.say)


def _diagnosed(asked: LayerRequest, place: Workplace, reporter: Reporter) -> Diagnosis:
    places = Places(host=replace(host_place(reporter), limits=_LIMITS), engine=replace(place, limits=_LIMITS))
    with reporter.step(f"running every layer under {asked.engine.name}"):
        errors = layer_errors(asked, places)
    _, limit = SIMILARITY[judged_as(AS_IS, asked.quantized)]
    return judge(errors, scheme_of(asked.quantized), limit)
