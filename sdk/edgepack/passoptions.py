"""Options of passes: what a recipe or a search says of them, before the pass itself reads them in a child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepack import _wire
from edgepack.errors import RecipeError
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime.errors import SchemaError

__all__ = ["PassOptions", "PassOrder", "options_text", "parse_pass_options", "take_passes"]


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


def options_text(options: object) -> str:
    """Return a pass's `Options` as the JSON that the pass reads.

    Raises:
        TypeError: something is in it that no option can be.
    """
    return canonical_json(_wire.encode(options).value).decode()


def take_passes(fields: Fields) -> PassOptions:
    """Return the tables ``[passes.NAME]`` of a recipe; each pass judges its own options when it runs.

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


def _value(text: str) -> object:
    try:
        return parse_json(text.encode(), "value")
    except SchemaError:
        return text


def _table(text: str) -> dict[str, object]:
    table = parse_json(text.encode(), "options")
    assert isinstance(table, dict)  # noqa: S101 - options come out of a table only
    return table
