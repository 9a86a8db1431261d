"""What a profile may say beyond its figures: delegates, schemes known to be wrong, what may go in and come out.

Its words, too: lines, positive integers, and the source that every figure has. See `edgepack_runtime.profile`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields

__all__ = [
    "DTYPES",
    "SCHEMES",
    "SOURCE_KINDS",
    "Delegate",
    "InputLimits",
    "KnownWrong",
    "Source",
    "read_delegates",
    "read_known_wrong",
    "read_limits",
    "take_each_once",
    "take_line",
    "take_positive",
    "take_source",
]

# The four for every engine from the smallest model to the largest, then the others; docs/conversion.md explains them.
SCHEMES = ("full_integer", "dynamic_range", "float16", "float32",
           "int16x8", "weight_only_int8", "weight_only_int4", "dynamic_int4", "dynamic_int2")  # fmt: skip
# Of tensors. Here and not in `edgepack_runtime.tensors`: reading a profile needs no numpy.
DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
SOURCE_KINDS = ("measured", "published", "assumed")
_MAX_TEXT = 1000
# What moves a terminal's cursor, or breaks or turns a line. A list of its own: what Python calls printable differs
# from one version to the next, and other readers have to agree.
_UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_WORD = re.compile("[!-~]{1,64}")
# No path: where libraries are, the device says and not what was signed for it.
_LIBRARY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# The manifest is JSON, whose readers agree on integers below this only.
_MAX_INTEGER = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a figure comes from: ``measured``, ``published`` or ``assumed``, and by what."""

    kind: str
    text: str

    def to_json(self) -> dict[str, object]:
        """Return it as the table `take_source` reads."""
        return {"kind": self.kind, "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """What the engine hands parts of a model to: built into its wheel, or the shared `library` of that name."""

    name: str
    version: str
    library: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as the table `read_delegates` reads."""
        table: dict[str, object] = {"name": self.name, "version": self.version}
        return table if self.library is None else table | {"library": self.library}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownWrong:
    """A scheme that gives wrong numbers on this device, why, and who says so."""

    scheme: str
    reason: str
    source: Source

    def to_json(self) -> dict[str, object]:
        """Return it as the table `read_known_wrong` reads."""
        return {"scheme": self.scheme, "reason": self.reason, "source": self.source.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLimits:
    """What the device can feed a model with and take from it; empty or None where anything will do.

    `max_input_bytes` is the sum of a run's inputs, `batch` the first dimension of each.
    """

    input_dtypes: tuple[str, ...] = ()
    output_dtypes: tuple[str, ...] = ()
    max_input_bytes: int | None = None
    batch: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as the table `read_limits` reads: what there is of it."""
        table = {
            "input_dtypes": list(self.input_dtypes),
            "output_dtypes": list(self.output_dtypes),
            "max_input_bytes": self.max_input_bytes,
            "batch": self.batch,
        }
        return {name: value for name, value in table.items() if value not in (None, [])}


def take_positive(fields: Fields, name: str) -> int:
    """Return an integer of at least 1.

    Raises:
        SchemaError: it is none.
    """
    value = fields.take(name, int)
    # The number itself is not quoted: Python refuses to print an integer of thousands of digits.
    if not 1 <= value < _MAX_INTEGER:
        fields.refuse(name, "expected a positive integer below 2^53")
    return value


def take_line(fields: Fields, name: str, pattern: re.Pattern[str] | None = None, example: str = "") -> str:
    """Return one line of text that can be shown, like `example` where there is a pattern.

    Raises:
        SchemaError: it is none.
    """
    value = fields.take(name, str)
    # It is shown in terminals, where an escape sequence would be obeyed.
    if not value or len(value) > _MAX_TEXT or _UNSHOWN.search(value):
        fields.refuse(name, f"expected 1 to {_MAX_TEXT} printable characters on one line")
    if pattern is not None and not pattern.fullmatch(value):
        fields.refuse(name, f"expected text such as {example!r}, got {value!r}")
    return value


def take_each_once(fields: Fields, name: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Return a list of at least one of the choices.

    Raises:
        SchemaError: it is empty, or an item is there twice or no choice.
    """
    found = fields.take_strings(name)
    for item in found:
        if item not in choices:
            fields.refuse(name, f"{item[:_MAX_TEXT]!r} is none of {', '.join(choices)}")
    if not found or len(set(found)) != len(found):
        fields.refuse(name, "expected at least one, each once")
    return found


def take_source(fields: Fields, name: str) -> Source:
    """Return the source called `name`.

    Raises:
        SchemaError: it is none.
    """
    entry = fields.take_table(name)
    source = Source(kind=entry.take_choice("kind", SOURCE_KINDS), text=take_line(entry, "text"))
    entry.finish()
    return source


def read_delegates(engine: Fields) -> tuple[Delegate, ...]:
    """Return an engine's delegates; none where it says nothing of them.

    Raises:
        SchemaError: the list is empty, one of them is malformed, or two have one name.
    """
    if "delegates" not in engine.names():
        return ()
    found = []
    for entry in engine.take_tables("delegates"):
        delegate = Delegate(
            name=take_line(entry, "name", _WORD, "XNNPACK"),
            version=take_line(entry, "version", _WORD, "2.3.0"),
            library=take_line(entry, "library", _LIBRARY, "libedgetpu.so.1") if "library" in entry.names() else None,
        )
        entry.finish()
        found.append(delegate)
    if not found or len({delegate.name for delegate in found}) != len(found):
        engine.refuse("delegates", "expected at least one, each name once")
    return tuple(found)


def read_known_wrong(quantization: Fields, supported: tuple[str, ...]) -> tuple[KnownWrong, ...]:
    """Return the schemes that are known to be wrong; none where nothing is said of it.

    Raises:
        SchemaError: the list is empty, one of them is malformed, or a scheme is there twice or is also `supported`.
    """
    if "known_wrong" not in quantization.names():
        return ()
    found = []
    for entry in quantization.take_tables("known_wrong"):
        wrong = KnownWrong(
            scheme=entry.take_choice("scheme", SCHEMES),
            reason=take_line(entry, "reason"),
            source=take_source(entry, "source"),
        )
        entry.finish()
        found.append(wrong)
    schemes = [wrong.scheme for wrong in found]
    if not schemes or len({*schemes, *supported}) != len(schemes) + len(supported):
        quantization.refuse("known_wrong", "expected at least one scheme, each once, and none that is supported")
    return tuple(found)


def read_limits(fields: Fields) -> InputLimits:
    """Return what may go in and come out.

    Raises:
        SchemaError: there is nothing in it, or something that is malformed.
    """
    names = fields.names()
    if not names:
        fields.refuse("*", "expected input_dtypes, output_dtypes, max_input_bytes or batch")
    limits = InputLimits(
        input_dtypes=take_each_once(fields, "input_dtypes", DTYPES) if "input_dtypes" in names else (),
        output_dtypes=take_each_once(fields, "output_dtypes", DTYPES) if "output_dtypes" in names else (),
        max_input_bytes=take_positive(fields, "max_input_bytes") if "max_input_bytes" in names else None,
        batch=take_positive(fields, "batch") if "batch" in names else None,
    )
    fields.finish()
    return limits
