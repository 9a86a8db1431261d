"""Knowledge distillation: a small model learns what a better one answers, not only what is right.

::

    loss = alpha * T² * KL(teacher / T, student / T) + (1 - alpha) * loss on the labels

At a temperature T above 1 the teacher's small shares count too, which is where it tells how classes resemble each
other (Hinton et al., 2015). Numbers that are no shares of classes are met as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.errors import RecipeError, TrainingError
from edgepack.model import TrainRequest, TrainResult
from edgepack.training._fit import fit, held_in
from edgepack.training._losses import Objective, kind_of, labelled, likeness, mixed
from edgepack.training._opened import Opened, all_kernels, bound, open_model, outputs_on
from edgepack.training._settings import SOURCE, Settings, check_range
from edgepack.training._step import Bench, begin, finish, plan_of, read_options

__all__ = ["HAS_TEACHER", "SHRINKS", "Options", "run"]

HAS_TEACHER, SHRINKS = True, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Settings):
    """What can be chosen beside `Settings`: the `temperature`, and `alpha`, the teacher's share of the loss.

    Raises:
        RecipeError: a value is out of its range.
    """

    epochs: int = 20
    temperature: float = 4.0
    alpha: float = 0.9

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        check_range("temperature", self.temperature, 1.0, 100.0)
        check_range("alpha", self.alpha, 0.0, 1.0)
        if self.loss == SOURCE:
            raise RecipeError(
                f"loss is {SOURCE!r}, and a student learns from its teacher", hint="alpha=1: from it alone"
            )


def run(request: TrainRequest) -> TrainResult:
    """Return the model after it learnt from the teacher.

    Raises:
        ConversionError: one of the models holds code, or cannot be loaded.
        DatasetError: the training data does not fit both, or there are no labels for an `alpha` below 1.
        RecipeError: an option is out of its range.
        SchemaError: an option is unknown or of another type.
        SourceModelError: a description of the layers cannot be read.
        TrainingError: it cannot be trained here, training it went wrong, or teacher and student do not fit.
    """
    options = read_options(Options, request.options)
    if request.teacher is None:
        raise TrainingError("a student needs a teacher", hint="teacher is the Keras file of the model to learn from")
    bench = begin(request, options)
    teacher = open_model(request.teacher, trusted=request.trusted, stem="teacher")
    _refuse_unlike(teacher, bench.opened)
    objective = _objective(bench, teacher, options)
    outcome = fit(plan_of(bench, objective, held_in(all_kernels(bench.opened))), options)
    sizes = [f"{opened.model.count_params():,}" for opened in (bench.opened, teacher)]
    note = f"{sizes[0]} parameters learnt from the {sizes[1]} of {request.teacher.name}"
    return finish(bench, objective, outcome, [f"{note} at temperature {options.temperature:g}"])


def _objective(bench: Bench, teacher: Opened, options: Options) -> Objective:
    labels = bench.request.labels
    hard = None if options.alpha == 1 else labelled(bench.opened, labels, options.loss, instead="alpha=1")
    wanted = outputs_on(teacher, bound(teacher, bench.request.feeds, "training data, for the teacher"))
    kinds = [kind_of(tensor) for tensor in teacher.model.outputs]
    classes = (options.loss if hard is None else hard.text).endswith("crossentropy")
    soft = likeness(bench.opened, wanted, kinds, temperature=options.temperature, classes=classes)
    return soft if hard is None else mixed(hard, soft, options.alpha)


def _refuse_unlike(teacher: Opened, student: Opened) -> None:
    found, wanted = ([list(t.shape[1:]) for t in opened.model.outputs] for opened in (teacher, student))
    if found != wanted:
        raise TrainingError(
            f"the teacher's outputs have the shapes {', '.join(map(str, found))}, the model's "
            f"{', '.join(map(str, wanted))}",
            hint="a student gives what its teacher gives, in the same order",
        )
