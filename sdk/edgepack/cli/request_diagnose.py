"""From what `edgepack diagnose` was told to a diagnosis: of two files, of a source model, or of this folder's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgepack.diagnose import Files, Sampling, diagnose_files, diagnose_recipe
from edgepack.diagnosis import Diagnosis
from edgepack.errors import RecipeError
from edgepack.passoptions import parse_pass_options
from edgepack.reading import DataFunction
from edgepack.recipe import FILE_NAME, Recipe, UserModule, load_recipe
from edgepack.reporter import Reporter
from edgepack.training_steps import parse_train
from edgepack_runtime._fields import canonical_json, parse_json

__all__ = ["Question", "ask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the command line said; None, () and False are what was not said."""

    model: Path | None
    float_model: Path | None
    data: Path | DataFunction | None
    precision: str | None
    profile: str | None
    calibration: Path | DataFunction | None
    inputs: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    module: UserModule | None = None
    training_set: Path | DataFunction | None = None
    train: tuple[str, ...] = ()
    pass_options: tuple[str, ...] = ()
    trust_source: bool = False


def ask(question: Question, sampling: Sampling, reporter: Reporter) -> Diagnosis:
    """Return the diagnosis.

    Raises:
        RecipeError: something is missing, or does not go together.
        EdgepackError: what was named cannot be read, converted, quantized or looked into.
    """
    if question.float_model is not None:
        return diagnose_files(_files(question, question.float_model), sampling, reporter)
    if question.precision is None:
        raise RecipeError(
            "which quantized model? Neither --float nor --precision is given",
            hint="edgepack diagnose QUANTIZED.tflite --float FLOAT.tflite --data FILE, or edgepack diagnose MODEL "
            "--precision full_integer --profile NAME --data FILE",
        )
    return diagnose_recipe(_recipe(question), question.precision, sampling, reporter)


def _files(question: Question, float_model: Path) -> Files:
    extra = [
        name
        for name, value in (
            ("--precision", question.precision),
            ("--calibration", question.calibration),
            ("--training-set", question.training_set),
            ("--train", question.train),
            ("--pass-option", question.pass_options),
        )
        if value not in (None, ())
    ]
    if extra:
        raise RecipeError(f"{' and '.join(extra)}: with --float the quantized model is given, none is made")
    if question.model is None or question.data is None:
        raise RecipeError("with --float, the quantized .tflite and --data FILE are needed too")
    if isinstance(question.data, DataFunction):
        raise RecipeError(f"--data {question.data}: with --float, samples stand in an .npz or .npy")
    return Files(quantized=question.model, float_model=float_model, data=question.data, profile=question.profile)


def _recipe(question: Question) -> Recipe:
    base = _base(question)
    options = {**_table(base.converter), "inputs": list(question.inputs)}
    return dataclasses.replace(
        base,
        via=question.via or base.via,
        module=question.module,
        trust_source=question.trust_source,
        converter=canonical_json(options).decode() if question.inputs else base.converter,
        training_set=question.training_set or base.training_set,
        training=tuple(parse_train(text) for text in question.train) or base.training,
        passes=base.passes.changed(parse_pass_options(question.pass_options)),
    )


def _table(text: str) -> dict[str, object]:
    found = parse_json(text.encode(), "converter options")
    assert isinstance(found, dict)  # noqa: S101 - a recipe's converter options are a table
    return found


def _base(question: Question) -> Recipe:
    if question.model is None:
        if not Path(FILE_NAME).exists():
            raise RecipeError(f"no model is named, and there is no {FILE_NAME} in this folder")
        base = load_recipe(Path(FILE_NAME))
        return dataclasses.replace(
            base,
            profiles=base.profiles if question.profile is None else (question.profile,),
            calibration=question.calibration or base.calibration,
            evaluation=question.data or base.evaluation,
        )
    if question.profile is None or question.data is None:
        raise RecipeError(f"quantizing {question.model} also needs --profile NAME and --data FILE")
    return Recipe(
        model=question.model,
        calibration=question.calibration or question.data,
        evaluation=None if question.calibration is None else question.data,
        profiles=(question.profile,),
        output=Path(),
    )
