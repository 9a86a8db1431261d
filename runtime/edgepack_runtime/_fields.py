"""Strict reading of JSON-like tables: every field taken once, by type; what is left over is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, overload

from edgepack_runtime.errors import SchemaError

__all__ = ["Fields", "canonical_json", "parse_json"]

T = TypeVar("T")
_MISSING: Any = object()
_MAX_DEPTH = 16
_MAX_INTEGER = 2**53
_MAX_SHOWN = 64


def _type_name(value: object) -> str:
    return {dict: "table", list: "list", str: "text", bool: "true/false", type(None): "null"}.get(
        type(value), type(value).__name__
    )


class Fields:
    """One table being read; `take` its fields, then `finish`.

    Args:
        table: what was parsed. Anything but a mapping with text keys is refused.
        path: where the table stands, for messages, e.g. ``profile.toml: engine``.
    """

    def __init__(self, table: object, path: str) -> None:
        if not isinstance(table, Mapping) or not all(isinstance(k, str) for k in table):
            raise SchemaError(f"{path}: expected a table, got {_type_name(table)}")
        self._left = dict(table)
        self._known: set[str] = set()
        self.path = path

    @overload
    def take(self, name: str, kind: type[T]) -> T: ...
    @overload
    def take(self, name: str, kind: type[T], default: None) -> T | None: ...
    @overload
    def take(self, name: str, kind: type[T], default: T) -> T: ...

    def take(self, name: str, kind: type[T], default: Any = _MISSING) -> Any:
        """Return the field `name`, which must be a `kind` (int is accepted for float, bool is no int).

        Raises:
            SchemaError: it is missing without a default, or of another type.
        """
        self._known.add(name)
        if name not in self._left:
            if default is _MISSING:
                raise SchemaError(f"{self.path}.{name}: missing (expected {_type_name(kind())})")
            return default
        value = self._left.pop(name)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SchemaError(f"{self.path}.{name}: expected {_type_name(kind())}, got {_type_name(value)}")
        return value

    def take_choice(self, name: str, choices: Sequence[str], default: Any = _MISSING) -> str:
        """Return a text field that must be one of `choices`.

        Raises:
            SchemaError: missing, no text, or none of them; the message lists them.
        """
        value: str = self.take(name, str, default)
        if value not in choices:
            self.refuse(name, f"{value!r} is none of {', '.join(choices)}")
        return value

    def take_strings(self, name: str, default: Any = _MISSING) -> tuple[str, ...]:
        """Return a list of texts as a tuple.

        Raises:
            SchemaError: missing, or an item is no text.
        """
        items: Any = self.take(name, list, default if default is _MISSING else list(default))
        for i, item in enumerate(items):
            if not isinstance(item, str):
                raise SchemaError(f"{self.path}.{name}[{i}]: expected text, got {_type_name(item)}")
        return tuple(items)

    def take_table(self, name: str, default: Any = _MISSING) -> Fields:
        """Return the table `name`, to be read in turn.

        Raises:
            SchemaError: missing, or no table.
        """
        return Fields(self.take(name, dict, default), f"{self.path}.{name}")

    def take_tables(self, name: str, default: Any = _MISSING) -> Iterator[Fields]:
        """Yield each table of the list `name`.

        Raises:
            SchemaError: missing, or an item is no table.
        """
        for i, item in enumerate(self.take(name, list, default)):
            yield Fields(item, f"{self.path}.{name}[{i}]")

    def names(self) -> tuple[str, ...]:
        """Return the names of the fields not taken yet, in the file's order."""
        return tuple(self._left)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise `SchemaError` about the field `name`.

        Raises:
            SchemaError: always.
        """
        raise SchemaError(f"{self.path}.{name}: {why}")

    def finish(self) -> None:
        """Refuse fields nobody took: a typo must not become a default.

        Raises:
            SchemaError: there is one; the message names the nearest known field.
        """
        for name in self._left:
            import difflib  # only where something is wrong: a device opens bundles each time it starts

            near = difflib.get_close_matches(name, self._known, n=1)
            # A name from a stranger's file must not speak to the terminal.
            shown = name if name.isprintable() and len(name) <= _MAX_SHOWN else ascii(name[:_MAX_SHOWN])
            raise SchemaError(
                f"{self.path}.{shown}: unknown field" + (f" (did you mean {near[0]!r}?)" if near else ""),
                hint=f"known here: {', '.join(sorted(self._known))}",
            )


def _check(value: object, path: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise SchemaError(f"{path}: nested deeper than {_MAX_DEPTH}")
    if isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, f"{path}[{i}]", depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MAX_INTEGER:
        raise SchemaError(f"{path}: integer {value} does not fit 2^53")
    elif isinstance(value, str):
        # Half of a character, which "\ud800" spells, is no text: it could be neither printed nor written.
        value.encode()
    elif isinstance(value, float) and not math.isfinite(value):
        # What 1e999 becomes in Python; it could not be written again.
        raise SchemaError(f"{path}: a number is too large")


def parse_json(data: bytes, path: str) -> object:
    """Return the value of a UTF-8 JSON text: no duplicate keys, NaN, huge numbers or deep nesting.

    Args:
        data: the text, already length-capped by the caller.
        path: named in messages.

    Raises:
        SchemaError: any of these, or no JSON at all.
    """

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(items)
        if len(table) != len(items):
            raise SchemaError(f"{path}: duplicate key in a JSON object")
        return table

    def constant(text: str) -> NoReturn:
        raise SchemaError(f"{path}: {text} is no JSON number")

    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
        _check(value, path, 0)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{path}: not valid JSON ({error})") from None
    return value


def canonical_json(value: object) -> bytes:
    """Return `value` as the one JSON text with sorted keys, ASCII only and no spaces."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
