"""Options and input shapes, read the same way by every converter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

from edgepack._wire import Message, decode, encode
from edgepack.errors import ConversionError, RecipeError
from edgepack_runtime._fields import parse_json

__all__ = ["check_shape_names", "fixed_shape", "named_shapes", "read_options"]

T = TypeVar("T")


def read_options(kind: type[T], text: str) -> T:
    """Return the `kind` that `text`, a JSON table of some of its fields, describes; the rest are defaults.

    Raises:
        RecipeError: an option is unknown.
        SchemaError: an option is of another type, or the text is no JSON.
    """
    given = parse_json(text.encode() or b"{}", "options")
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, dict) or not given.keys() <= set(known):
        raise RecipeError(
            f"converter options {text}: this source format knows {', '.join(known)}",
            hint="they are set in [converter] of edgepack.toml, or with --input and --signature-key",
        )
    defaults = encode(kind()).value
    assert isinstance(defaults, dict)  # noqa: S101 - a dataclass is sent as a table
    return decode(kind, Message({**defaults, **given}, ()), "options")


def named_shapes(items: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return shapes by input name from texts like ``audio:1,16000``; a name may hold colons.

    Raises:
        RecipeError: one is written in another way.
    """
    shapes = {}
    for item in items:
        name, _, dimensions = item.rpartition(":")
        parts = dimensions.split(",")
        if not name or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise RecipeError(
                f"input {item!r}: expected NAME:SHAPE with a positive number for every dimension",
                hint="for example: audio:1,16000",
            )
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def fixed_shape(
    name: str, dimensions: Sequence[int | None] | None, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...]:
    """Return the one shape an input is converted for: the batch, a first dimension left open, becomes 1.

    Args:
        name: the input.
        dimensions: what the source says, None for one it leaves open; None if it says nothing at all.
        shapes: the shapes asked for, by input name.

    Raises:
        ConversionError: another dimension is open and no shape was asked for, or one that does not fit.
    """
    shown = "unknown" if dimensions is None else str([d or "?" for d in dimensions]).replace("'", "")
    wanted = shapes.get(name)
    if wanted is not None:
        fits = dimensions is None or (
            len(wanted) == len(dimensions) and all(d in (None, w) for d, w in zip(dimensions, wanted, strict=True))
        )
        if not fits:
            raise ConversionError(f"input {name!r}: the model's shape is {shown}, {list(wanted)} was asked for")
        return wanted
    if dimensions is None or any(d is None for d in dimensions[1:]):
        example = ",".join(str(d or "N") for d in (dimensions or (0, 0))[1:])
        raise ConversionError(
            f"input {name!r} has the shape {shown}: a device needs every dimension fixed",
            hint=f"name the shape, e.g. --input {name}:1,{example}",
        )
    return tuple(1 if d is None else d for d in dimensions)


def check_shape_names(shapes: Mapping[str, tuple[int, ...]], names: Sequence[str]) -> None:
    """Refuse a shape for an input the model does not have.

    Raises:
        ConversionError: there is one.
    """
    for name in shapes:
        if name not in names:
            raise ConversionError(f"a shape was given for input {name!r}; the model's inputs are {list(names)}")
