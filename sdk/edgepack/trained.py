"""From the source model to a float TFLite model, by way of the training steps that the recipe names.

The source is converted as it came too: its outputs are what the gate holds the trained model against, and its file is
what the trained one has to be smaller than.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgepack.conversion import Converted, convert_source
from edgepack.dataset import Dataset
from edgepack.errors import ConversionError, DatasetError, PassError, SourceModelError
from edgepack.inputs import SourceInputs
from edgepack.model import SourceModel, StepRecord, TrainRequest, TrainResult
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter
from edgepack.source import detect
from edgepack.toolchain import ensure, locate
from edgepack.training_steps import TrainingStep
from edgepack.unseen import seen
from edgepack.worker import Limits, Workplace, run_task, scratch_folder
from edgepack_runtime._fields import canonical_json, parse_json
from edgepack_runtime.errors import EdgepackError
from edgepack_runtime.tensors import Array

__all__ = ["TRAINING_SECONDS", "convert_trained"]

_TOOLCHAIN = "tensorflow"
# A training that takes longer is none of a build.
TRAINING_SECONDS = 86_400


def _unchecked(_: Converted) -> None:
    """Ask nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """The model after some steps: where it lies, the records of the steps, and what is to be said of them."""

    source: SourceModel
    history: tuple[StepRecord, ...]
    notes: tuple[str, ...]


def convert_trained(
    recipe: Recipe,
    inputs: SourceInputs,
    *,
    offline: bool,
    reporter: Reporter,
    check: Callable[[Converted], None] = _unchecked,
) -> Converted:
    """Return the source as float TFLite, trained first by the steps of the recipe, if it has any.

    Args:
        recipe: says which steps are wanted, and which roads.
        inputs: the source, the samples and the training set.
        offline: refuse rather than install a missing toolchain.
        reporter: told what goes on.
        check: asked of the model that is returned, and before a training of the source as it came, which has the same
            inputs and outputs. What it raises ends the build; but for a `PassError`, which is told before a training:
            names of layers may be others after it.

    Raises:
        TrainingError: the model cannot be trained, or training it went wrong.
        DatasetError: the training set, or other samples, do not fit the model.
        ConversionError: no route leads to an equal model.
        EdgepackError: a step crashed or ran into a limit, or all routes met the same refusal.
    """
    if inputs.training is None:
        converted = convert_source(recipe, inputs, offline=offline, reporter=reporter)
        check(converted)
        return converted
    original = _original(recipe, inputs, offline, reporter)
    if inputs.teacher is None:
        try:
            check(original)
        except PassError as error:
            reporter.say(f"before the training: {error.message}")
    with scratch_folder() as scratch:
        place = Workplace(
            python=ensure(locate(_TOOLCHAIN), offline=offline, say=reporter.say),
            limits=Limits(seconds=TRAINING_SECONDS, cpu_seconds=TRAINING_SECONDS * (os.cpu_count() or 1)),
            log=reporter.log,
            say=reporter.say,
        )
        trained = _Trained(source=inputs.source, history=(), notes=_first_notes(inputs))
        for step in recipe.training:
            with reporter.step(f"training {recipe.model.name} ({step.use}) on {inputs.training.count} samples"):
                trained = _step(step, trained, inputs.training, (scratch, recipe.trust_source), place)
        for read in (inputs.source, inputs.teacher):
            if read is not None and detect(read.path).digest != read.digest:
                raise SourceModelError(f"{read.path}: it was changed during the training", hint="build again")
        converted = convert_source(recipe, replace(inputs, source=trained.source), offline=offline, reporter=reporter)
    before = _same_names(original.samples.reference, converted.samples.reference)
    found = replace(
        converted,
        model=replace(converted.model, history=(*trained.history, *converted.model.history)),
        samples=replace(converted.samples, before=before),
        notes=(*trained.notes, *converted.notes),
        before=original.model,
    )
    check(found)
    return found


def _original(recipe: Recipe, inputs: SourceInputs, offline: bool, reporter: Reporter) -> Converted:
    """Return what the gate holds the trained model against: the teacher where there is one, else the source."""
    if inputs.teacher is None:
        return convert_source(recipe, inputs, offline=offline, reporter=reporter)
    try:
        return convert_source(recipe, replace(inputs, source=inputs.teacher), offline=offline, reporter=reporter)
    except EdgepackError as error:
        raise type(error)(f"the teacher {inputs.teacher.path.name}: {error.message}", hint=error.hint) from error


def _first_notes(inputs: SourceInputs) -> tuple[str, ...]:
    notes = []
    if inputs.teacher is not None:
        notes.append(f"what is lost is counted from the teacher {inputs.teacher.path.name}")
    if inputs.training is not None and inputs.evaluation is not None:
        count = seen(inputs.training, inputs.evaluation)
        notes += [f"{count} of the evaluation samples are in the training set too"] if count else []
    return tuple(notes)


def _step(
    step: TrainingStep, trained: _Trained, data: Dataset, around: tuple[Path, bool], place: Workplace
) -> _Trained:
    """Return what a step made of the model; `around` is the folder for it, and whether code in it is trusted."""
    (scratch, trusted), start = around, time.monotonic()
    folder = scratch / f"{len(trained.history)}-{step.use}"
    (folder / "room").mkdir(parents=True)
    request = TrainRequest(
        source=trained.source.path.resolve(),
        options=step.options,
        feeds=data.feeds,
        labels=_one_for_all(data),
        scratch=folder / "room",
        teacher=None if step.teacher is None else step.teacher.resolve(),
        trusted=trusted,
    )
    result = run_task(f"edgepack.training.{step.use}:run", request, TrainResult, place)
    path = folder / f"{trained.source.path.stem}.keras"
    path.write_bytes(result.model)
    notes = tuple(f"{step.use}: {note}" for note in result.notes)
    record = StepRecord(
        use=f"train {step.use}",
        tool="; ".join([result.tool, *result.notes]),
        options=_with_data(step, data),
        input_digest=trained.source.digest,
        output_digest=hashlib.sha256(result.model).hexdigest(),
        seconds=time.monotonic() - start,
    )
    return _Trained(source=detect(path), history=(*trained.history, record), notes=(*trained.notes, *notes))


def _one_for_all(data: Dataset) -> Array | None:
    if isinstance(data.labels, Mapping):
        raise DatasetError(
            f"training data {data.path}: labels for {', '.join(data.labels)}; training takes one array of labels",
            hint="store them as 'y', or say loss=source: outputs as they came are then the aim",
        )
    return data.labels


def _with_data(step: TrainingStep, data: Dataset) -> str:
    """Return a step's options with the digests of what it was trained on, and by."""
    table = parse_json(step.options.encode(), "options")
    assert isinstance(table, dict)  # noqa: S101 - as `edgepack.training_steps` wrote it
    teacher = {} if step.teacher is None else {"teacher": detect(step.teacher).digest}
    return canonical_json({**table, **teacher, "training_set": data.digest}).decode()


def _same_names(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs before, or the teacher's, under the names after; they are the same, in the same order.

    Raises:
        ConversionError: they have other shapes.
    """
    found, wanted = ([list(array.shape[1:]) for array in arrays.values()] for arrays in (before, after))
    if found != wanted:
        raise ConversionError(f"before training the outputs had the shapes {found}, now {wanted}")
    return dict(zip(after, before.values(), strict=True))
