"""Options of passes: what a recipe or a search says of them, read once to check them, and again by the pass."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from edgepack import _wire
from edgepack.errors import PassError, RecipeError
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime.errors import SchemaError

__all__ = [
    "PassOptions",
    "PassOrder",
    "check_options",
    "option_items",
    "options_text",
    "parse_pass_options",
    "read_options",
    "take_passes",
]

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOrder:
    """One pass to run: its module's name, the engine its result must be right on, and its options as JSON.

    `engine` is ``name==version``. Two orders that are equal give the same model; `options_text` makes the JSON.
    """

    scheme: str
    engine: str
    options: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOptions:
    """Options as JSON by the name of the pass; a pass that is not named has its defaults."""

    by_pass: Mapping[str, str] = field(default_factory=dict)

    def order(self, scheme: str, engine: str) -> PassOrder:
        """Return the order for this pass with the options there are for it."""
        return PassOrder(scheme=scheme, engine=engine, options=self.by_pass.get(scheme, "{}"))

    def changed(self, other: PassOptions) -> PassOptions:
        """Return these options with those of `other` in place of, or beside, the same."""
        merged = dict(self.by_pass)
        for name, text in other.by_pass.items():
            merged[name] = canonical_json({**_table(merged.get(name, "{}")), **_table(text)}).decode()
        return PassOptions(by_pass=merged)


def read_options(kind: type[OptionsT], text: str) -> OptionsT:
    """Return a pass's `Options` from JSON; what is not given has its default.

    Raises:
        PassError: an option is unknown, of the wrong type or not allowed.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    hint = f"options known here: {', '.join(known) or 'none'}"
    try:
        given = parse_json(text.encode(), "options")
        defaults: Any = _wire.encode(kind()).value
        if not isinstance(given, dict):
            raise PassError("options: expected a table")
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                meant = f" (did you mean {near[0]!r}?)" if near else ""
                raise PassError(f"options: {name!r} is not known{meant}", hint=hint)
        return _wire.decode(kind, _wire.Message({**defaults, **given}, ()), "options")
    except SchemaError as e:
        raise PassError(e.message, hint=hint) from None


def check_options(options: PassOptions) -> None:
    """Refuse what a pass would refuse of its options, hours before it runs.

    Raises:
        RecipeError: a pass does not know an option, or does not take its value.
    """
    for name, text in options.by_pass.items():
        try:
            read_options(importlib.import_module(f"edgepack.passes.{name}").Options, text)
        except PassError as error:
            raise RecipeError(f"passes.{name}: {error.message}", hint=error.hint) from None


def options_text(options: object) -> str:
    """Return a pass's `Options` as the JSON that the pass reads.

    Raises:
        TypeError: something is in it that no option can be.
    """
    return canonical_json(_wire.encode(options).value).decode()


def take_passes(fields: Fields) -> PassOptions:
    """Return the tables ``[passes.NAME]`` of a recipe; `check_options` judges them.

    Raises:
        SchemaError: one is no table, or holds what no option can be.
    """
    found = {}
    for name in fields.names():
        table = fields.take(name, dict)
        try:
            found[name] = canonical_json(table).decode()
        except (TypeError, ValueError):
            fields.refuse(name, "a pass's options are text, numbers, true/false, lists and tables")
    return PassOptions(by_pass=found)


def parse_pass_options(items: Sequence[str]) -> PassOptions:
    """Return the options in ``NAME.KEY=VALUE`` texts; a value is JSON, and text where it is none.

    Raises:
        RecipeError: one is written in another way, or said twice.
    """
    found: dict[str, dict[str, object]] = {}
    for item in items:
        path, equals, text = item.partition("=")
        name, dot, key = path.partition(".")
        if not (equals and dot and name and key):
            raise RecipeError(
                f"pass option {item!r}: expected NAME.KEY=VALUE", hint="for example full_integer.samples=100"
            )
        if key in found.setdefault(name, {}):
            raise RecipeError(f"pass option {path} is said twice")
        found[name][key] = _value(text)
    return PassOptions(by_pass={name: canonical_json(table).decode() for name, table in found.items()})


def option_items(options: PassOptions, name: str) -> tuple[tuple[str, str], ...]:
    """Return what is said of a pass, each option with its value as `parse_pass_options` takes it."""
    table = _table(options.by_pass.get(name, "{}"))
    return tuple((key, canonical_json(value).decode()) for key, value in table.items())


def _value(text: str) -> object:
    try:
        return parse_json(text.encode(), "value")
    except SchemaError:
        return text


def _table(text: str) -> dict[str, object]:
    table = parse_json(text.encode(), "options")
    assert isinstance(table, dict)  # noqa: S101 - options come out of a table only
    return table
