"""The two ends of a training step: what it is given, opened and checked, and what it gives back, with its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from edgepack._wire import Message, decode, encode
from edgepack.errors import TrainingError
from edgepack.model import TrainRequest, TrainResult
from edgepack.training._fit import Held, Outcome, Plan
from edgepack.training._losses import Objective, kind_of, labelled, likeness
from edgepack.training._opened import (
    Opened,
    all_kernels,
    bound,
    call,
    open_model,
    outputs_on,
    saved,
    start,
)
from edgepack.training._settings import SOURCE, Settings
from edgepack_runtime._fields import parse_json
from edgepack_runtime.tensors import Array

__all__ = ["Bench", "begin", "finish", "objective_of", "plan_of", "read_options"]

S = TypeVar("S", bound=Settings)
_DATA = "training data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An opened model and its training data, [n, ...] in the order of its inputs."""

    request: TrainRequest
    opened: Opened
    feeds: list[Array]


def read_options(kind: type[S], text: str) -> S:
    """Return a step's `Options` from JSON; the host has checked them already.

    Raises:
        RecipeError: a value is out of its range.
        SchemaError: an option is unknown or of another type.
    """
    defaults = encode(kind()).value
    given = parse_json(text.encode(), "options")
    if not isinstance(given, dict) or not isinstance(defaults, dict):
        raise TrainingError(f"options {text!r} are no table")
    return decode(kind, Message({**defaults, **given}, ()), "options")


def begin(request: TrainRequest, settings: Settings) -> Bench:
    """Return the model and the data, made ready to train.

    Raises:
        ConversionError: the model holds code, or cannot be loaded.
        DatasetError: the training data does not fit it.
        SourceModelError: its description of the layers cannot be read.
        TrainingError: it is one that cannot be trained here.
    """
    start(settings.seed)
    opened = open_model(request.source, trusted=request.trusted)
    return Bench(request=request, opened=opened, feeds=bound(opened, request.feeds, _DATA))


def objective_of(bench: Bench, settings: Settings) -> Objective:
    """Return the loss that the settings name.

    Raises:
        DatasetError: the labels do not fit.
        TrainingError: labels and output do not tell the loss.
    """
    if settings.loss != SOURCE:
        return labelled(bench.opened, bench.request.labels, settings.loss)
    kinds = [kind_of(tensor) for tensor in bench.opened.model.outputs]
    return likeness(bench.opened, outputs_on(bench.opened, bench.feeds), kinds)


def plan_of(bench: Bench, objective: Objective, held: list[Held]) -> Plan:
    """Return a plan in which all variables learn that the model lets learn."""
    variables = list(bench.opened.model.trainable_variables)
    if not variables:
        raise TrainingError(
            "every layer of the model is frozen: nothing can learn", hint="set trainable to True before saving it"
        )
    return Plan(
        opened=bench.opened,
        feeds=bench.feeds,
        objective=objective,
        forward=lambda values, training: call(bench.opened, values, training=training),
        variables=variables,
        held=held,
    )


def finish(bench: Bench, objective: Objective, outcome: Outcome, notes: Sequence[str]) -> TrainResult:
    """Return the trained model with what there is to report of it."""
    import tensorflow as tf

    opened = bench.opened
    arrays = [kernel.numpy() for kernel in all_kernels(opened)]
    total, gone = sum(array.size for array in arrays), sum(int((array == 0).sum()) for array in arrays)
    return TrainResult(
        model=saved(opened.model, bench.request.scratch),
        tool=f"tensorflow {tf.__version__}, {opened.tool}",
        notes=(
            *opened.notes,
            outcome.text(objective.text),
            *notes,
            f"{gone / max(1, total):.1%} of {total:,} weights in {len(arrays)} kernels are zero",
        ),
    )
