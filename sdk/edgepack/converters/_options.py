"""Options and input shapes, read the same way by every converter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from edgepack._wire import Message, decode, encode
from edgepack.errors import ConversionError, RecipeError
from edgepack_runtime._fields import parse_json
from edgepack_runtime.tensors import DTYPES, TensorSpec

__all__ = [
    "InputShape",
    "check_dtypes",
    "check_shape_names",
    "first_line",
    "fixed_shape",
    "named_inputs",
    "named_shapes",
    "read_options",
]

T = TypeVar("T")
# ASCII: int() takes the digits of every script, not all that isdigit() calls one, and no more than 4300.
_DIMENSION = re.compile(r"0{0,9}[1-9][0-9]{0,9}")


def first_line(error: BaseException) -> str:
    """Return an error's class and the first line of its text that is not empty, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if lines[0] == "in user code:":
        # TensorFlow's tracing puts the places first, and what was raised last, with its class.
        return lines[-1][:240]
    return f"{type(error).__name__}: {lines[0][:240]}".rstrip(": ")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """What a user says of an input: its shape, () for a scalar, and its dtype, "" where it was not said."""

    shape: tuple[int, ...]
    dtype: str = ""


def named_inputs(items: Sequence[str]) -> dict[str, InputShape]:
    """Return what is said of inputs, by name, in texts such as ``audio:1,16000``.

    A dtype may stand before the shape, ``audio:float32:1,16000``; a scalar has no dimension, ``gain:``. A name may
    hold colons.

    Raises:
        RecipeError: one is written in another way, or an input is named twice.
    """
    found: dict[str, InputShape] = {}
    for item in items:
        name, colon, dimensions = item.rpartition(":")
        before, _, dtype = name.rpartition(":")
        if before and dtype in DTYPES:
            name = before
        else:
            dtype = ""
        parts = [part.strip() for part in dimensions.split(",")] if dimensions.strip() else []
        if not name or not colon or not all(_DIMENSION.fullmatch(part) for part in parts):
            raise RecipeError(
                f"input {item!r}: expected NAME:SHAPE or NAME:DTYPE:SHAPE, with a positive number a dimension",
                hint=f"for example: audio:1,16000 or ids:int32:1,64; a scalar is NAME: alone; "
                f"dtypes are {', '.join(DTYPES)}",
            )
        if name in found:
            raise RecipeError(f"input {name!r} is given a shape twice")
        found[name] = InputShape(shape=tuple(int(part) for part in parts), dtype=dtype)
    return found


def named_shapes(items: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes alone of `named_inputs`.

    Raises:
        RecipeError: as there.
    """
    return {name: said.shape for name, said in named_inputs(items).items()}


def check_dtypes(items: Sequence[str], inputs: Sequence[TensorSpec]) -> None:
    """Refuse a dtype that is not the source's: nothing is cast.

    Args:
        items: as for `named_inputs`.
        inputs: the source's, with its own dtypes.

    Raises:
        ConversionError: one was said that is another.
        RecipeError: as for `named_inputs`.
    """
    said = named_inputs(items)
    for spec in inputs:
        dtype = said[spec.name].dtype if spec.name in said else ""
        if dtype not in ("", spec.dtype):
            raise ConversionError(
                f"input {spec.name!r} is of type {spec.dtype}, {dtype} was asked for",
                hint="leave the dtype out, and save the data in the model's own",
            )


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
