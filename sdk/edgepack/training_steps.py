"""Which training steps a build takes: `--train` and the `[[train]]` tables of edgepack.toml, as frozen data.

The steps are the public modules of `edgepack.training`; their options are read here, long before anything trains.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack import training
from edgepack.errors import RecipeError
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime.errors import SchemaError

__all__ = ["TrainingStep", "known_steps", "parse_train", "take_training", "train_text"]

_TEACHER = "teacher"
_EXAMPLE = "for example --train prune:sparsity=0.8,epochs=6"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """One step: the module's name, and all of its options as canonical JSON.

    `shrinks` says that the model is to take less room in a bundle after it; `teacher` is the file of the model it
    learns from, where it learns from one.
    """

    use: str
    options: str
    shrinks: bool
    teacher: Path | None = None


def known_steps() -> tuple[str, ...]:
    """Return the names of the steps there are, sorted."""
    return tuple(sorted(i.name for i in pkgutil.iter_modules(training.__path__) if not i.name.startswith("_")))


def take_training(fields: Fields, base: Path) -> tuple[TrainingStep, ...]:
    """Return the steps of the `[[train]]` tables of a whole project file in the folder `base`.

    Raises:
        RecipeError: a step is unknown, or a figure is out of its range.
        SchemaError: an option is unknown or of another type.
    """
    return tuple(_step(table.take("use", str), table, base) for table in fields.take_tables("train", []))


def parse_train(text: str) -> TrainingStep:
    """Return the step of a text such as ``prune:sparsity=0.8,epochs=3``; a list is a name said several times.

    Raises:
        RecipeError: it is written in another way, or a step, an option or a value is not known.
    """
    use, _, rest = text.partition(":")
    hints = typing.get_type_hints(_module(use).Options)
    table: dict[str, Any] = {}
    for item in rest.split(",") if rest else ():
        name, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"--train {text!r}: {item!r} is no NAME=VALUE", hint=_EXAMPLE)
        kind = hints.get(name, str)
        if kind == tuple[str, ...]:
            table.setdefault(name, []).append(value)
        elif name in table:
            raise RecipeError(f"--train {text!r}: {name} is said twice")
        else:
            table[name] = _value(kind, value, f"--train {text!r}: {name}")
    try:
        return _step(use, Fields(table, f"--train {use}"), Path())
    except SchemaError as error:
        raise RecipeError(error.message, hint=error.hint) from None


def train_text(step: TrainingStep) -> str:
    """Return a step as `parse_train` takes it, without the options that have their defaults."""
    given = parse_json(step.options.encode(), "options")
    assert isinstance(given, dict)  # noqa: S101 - as `_step` wrote it
    defaults = _plain(dataclasses.asdict(_module(step.use).Options()))
    said = [] if step.teacher is None else [f"{_TEACHER}={step.teacher}"]
    for name, value in given.items():
        if value != defaults[name]:
            said += [f"{name}={item}" for item in (value if isinstance(value, list) else [value])]
    return f"{step.use}:{','.join(said)}" if said else step.use


def _value(kind: Any, text: str, where: str) -> object:
    if kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        return kind(text) if kind in (int, float, str) else text
    except ValueError:
        raise RecipeError(f"{where}: {text!r} is no {'number' if kind is float else 'whole number'}") from None


def _module(use: str) -> Any:
    known = known_steps()
    if use not in known:
        near = difflib.get_close_matches(use, known, n=1, cutoff=0.4)
        raise RecipeError(
            f"training step {use!r} is not known" + (f" (did you mean {near[0]!r}?)" if near else ""),
            hint=f"known are {', '.join(known)}; {_EXAMPLE}",
        )
    return importlib.import_module(f"{training.__name__}.{use}")


def _step(use: str, fields: Fields, base: Path) -> TrainingStep:
    module = _module(use)
    teacher = fields.take(_TEACHER, str, None) if module.HAS_TEACHER else None
    try:
        options = module.Options(**_taken(module.Options, fields))
    except RecipeError as error:
        raise RecipeError(f"{fields.path}: {error.message}", hint=error.hint) from None
    fields.finish()
    if module.HAS_TEACHER and teacher is None:
        raise RecipeError(
            f"{fields.path}: a student needs a teacher",
            hint=f"{_TEACHER} is the Keras file of the model to learn from: --train {use}:{_TEACHER}=FILE",
        )
    text = canonical_json(_plain(dataclasses.asdict(options))).decode()
    path = None if teacher is None else base / teacher
    return TrainingStep(use=use, options=text, shrinks=module.SHRINKS, teacher=path)


def _taken(kind: Any, fields: Fields) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    taken: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if hints[field.name] == tuple[str, ...]:
            taken[field.name] = fields.take_strings(field.name, field.default)
        else:
            taken[field.name] = fields.take(field.name, hints[field.name], field.default)
    return taken


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
