"""What `edgepack-device probe` found on a board: its document, read as the outside bytes it is.

`docs/profiles.md` says what each field means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import ProfileError
from edgepack_runtime._fields import Fields, parse_json
from edgepack_runtime.op_table import MAX_OPERATORS, MAX_VERSION
from edgepack_runtime.probe import Machine
from edgepack_runtime.probing import PROBE_VERSION

__all__ = ["MAX_PROBE_BYTES", "Probe", "ProbedEngine", "ProbedModel", "read_probe", "read_probe_file", "read_refusal"]

MAX_PROBE_BYTES = 1 << 20
VERDICTS = ("right", "wrong", "fails")
_MAX_TEXT, _MAX_LINE = 1 << 16, 1000
_MAX_ENGINES, _MAX_MODELS, _MAX_THREADS, _MAX_CORES = 8, 256, 64, 4096
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_/]{0,79}")
_LAST_SECOND = 253_402_300_799  # of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedModel:
    """How a probe model ran: ``right``, ``wrong`` or ``fails``.

    `error` is the largest difference as a share of the largest number in the answer, None where there are no numbers.
    """

    name: str
    verdict: str
    error: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedEngine:
    """An engine that is installed there; `problem` says why it does not work at all, "" if it does.

    `operators` has, at each builtin operator's code, the highest version; `threads` the time of one run with so many
    threads in relation to one; `process_bytes` what a process with Python and the engine takes.
    """

    name: str
    version: str
    problem: str
    operators: tuple[int, ...]
    models: tuple[ProbedModel, ...]
    threads: tuple[tuple[int, float], ...]
    num_threads: int
    process_bytes: int

    def model(self, name: str) -> ProbedModel | None:
        """Return how the model of that name ran, None if it was not tried."""
        return next((model for model in self.models if model.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found; `created` is by the board's clock, in seconds since 1970."""

    runtime: str
    created: int
    machine: Machine
    write_bytes_per_second: int | None
    engines: tuple[ProbedEngine, ...]


def read_probe(data: bytes, shown: str) -> Probe:
    """Return the document in `data`; `shown` is what messages call it.

    Raises:
        SchemaError: it is too long, no JSON, or a field is missing, unknown or wrong.
    """
    # The type check of an empty table names the file; nothing of it has been parsed by then.
    if len(data) > MAX_PROBE_BYTES:
        Fields({}, shown).refuse(
            "edgepack_probe", f"longer than {MAX_PROBE_BYTES} bytes, so it is no probe's document"
        )
    fields = Fields(parse_json(data, shown), shown)
    if (version := fields.take("edgepack_probe", int)) != PROBE_VERSION:
        fields.refuse("edgepack_probe", f"version {version} is not known here, this is version {PROBE_VERSION}")
    engines = tuple(_engine(table) for table in _tables(fields, "engines", _MAX_ENGINES))
    if len({engine.name for engine in engines}) != len(engines):
        fields.refuse("engines", "an engine is there twice")
    probe = Probe(
        runtime=_matching(fields, "runtime", _VERSION),
        created=_integer(fields, "created", 0, _LAST_SECOND),
        machine=_machine(fields.take_table("machine"), engines),
        write_bytes_per_second=_may_integer(fields, "write_bytes_per_second"),
        engines=engines,
    )
    fields.finish()
    return probe


def read_probe_file(path: Path) -> Probe:
    """Return the document in a file.

    Raises:
        ProfileError: it cannot be read.
        SchemaError: it is too long, no JSON, or a field is missing, unknown or wrong.
    """
    shown = str(path) if str(path).isprintable() else repr(str(path))
    try:
        if not path.is_file():
            raise ProfileError(
                f"{shown}: no such file", hint="make it on the board: edgepack-device probe --output FILE"
            )
        with path.open("rb") as file:
            return read_probe(file.read(MAX_PROBE_BYTES + 1), shown)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{shown}: cannot be read: {error}") from None


def read_refusal(data: bytes, shown: str) -> tuple[str, str | None]:
    """Return message and hint of a probe that was refused on the board, as it prints them with ``--json``.

    Raises:
        SchemaError: it is something else.
    """
    fields = Fields(parse_json(data[:_MAX_TEXT], shown), shown)
    _line(fields, "error")
    # Null, where there is none.
    hint: object = fields.take("hint", object)
    told = _line(fields, "message"), None if hint is None else _line(Fields({"hint": hint}, shown), "hint")
    fields.finish()
    return told


def _machine(fields: Fields, engines: tuple[ProbedEngine, ...]) -> Machine:
    # What these texts mean is judged by `edgepack.localprofile`, which believes nothing of them.
    machine = Machine(
        machine=_text(fields, "machine"),
        pointer_bits=_integer(fields, "pointer_bits", 8, 1024),
        cpuinfo=_text(fields, "cpuinfo"),
        meminfo=_text(fields, "meminfo"),
        memory_limit=_may_integer(fields, "memory_limit"),
        cores=_integer(fields, "cores", 1, _MAX_CORES),
        free_bytes=_integer(fields, "free_bytes", 0),
        free_where=_line(fields, "free_where"),
        os=_text(fields, "os"),
        libc=_text(fields, "libc"),
        python=_line(fields, "python"),
        board=_text(fields, "board"),
        compatible=_text(fields, "compatible"),
        engines=tuple((engine.name, engine.version) for engine in engines),
    )
    fields.finish()
    return machine


def _engine(fields: Fields) -> ProbedEngine:
    engine = ProbedEngine(
        name=_matching(fields, "name", _NAME),
        version=_matching(fields, "version", _VERSION),
        problem=_line(fields, "problem"),
        operators=_operators(fields),
        models=tuple(_model(table) for table in _tables(fields, "models", _MAX_MODELS)),
        threads=_threads(fields),
        num_threads=_integer(fields, "num_threads", 1, _MAX_CORES),
        process_bytes=_integer(fields, "process_bytes", 0),
    )
    if len({model.name for model in engine.models}) != len(engine.models):
        fields.refuse("models", "a model is there twice")
    if not engine.problem and not engine.operators:
        fields.refuse("operators", "there are none, though the engine works")
    fields.finish()
    return engine


def _model(fields: Fields) -> ProbedModel:
    model = ProbedModel(
        name=_matching(fields, "name", _MODEL),
        verdict=fields.take_choice("verdict", VERDICTS),
        error=fields.take("error", float, None),
        reason=_line(fields, "reason"),
    )
    if model.error is not None and not (math.isfinite(model.error) and model.error >= 0):
        fields.refuse("error", "expected a number that is not negative")
    if model.verdict == "right" and model.error is None:
        fields.refuse("error", "missing, though the verdict is right")
    fields.finish()
    return model


def _operators(fields: Fields) -> tuple[int, ...]:
    found = fields.take("operators", list)
    if len(found) not in (0, MAX_OPERATORS) or not all(type(v) is int and 0 <= v <= MAX_VERSION for v in found):
        fields.refuse("operators", f"expected {MAX_OPERATORS} versions from 0 to {MAX_VERSION}, or none")
    return tuple(found)


def _threads(fields: Fields) -> tuple[tuple[int, float], ...]:
    found = fields.take("threads", list)
    if len(found) > _MAX_THREADS:
        fields.refuse("threads", f"more than {_MAX_THREADS}")
    for pair in found:
        if not (isinstance(pair, list) and [type(item) for item in pair] in ([int, int], [int, float])):
            fields.refuse("threads", "expected pairs of a number of threads and a time")
        if not (0 < pair[0] <= _MAX_CORES and math.isfinite(pair[1]) and 0 <= pair[1] <= _MAX_CORES):
            fields.refuse("threads", "a number of threads, or a time in relation to one thread, is none")
    return tuple((count, float(ratio)) for count, ratio in found)


def _tables(fields: Fields, name: str, most: int) -> Iterator[Fields]:
    tables = list(fields.take_tables(name))
    if len(tables) > most:
        fields.refuse(name, f"more than {most}")
    yield from tables


def _text(fields: Fields, name: str) -> str:
    text = fields.take(name, str)
    if len(text) > _MAX_TEXT:
        fields.refuse(name, f"longer than {_MAX_TEXT} characters")
    return text


def _line(fields: Fields, name: str) -> str:
    line = fields.take(name, str)
    # It is shown in terminals, where an escape sequence would be obeyed.
    if len(line) > _MAX_LINE or not line.isprintable():
        fields.refuse(name, f"expected at most {_MAX_LINE} printable characters on one line")
    return line


def _matching(fields: Fields, name: str, pattern: re.Pattern[str]) -> str:
    text = _line(fields, name)
    if not pattern.fullmatch(text):
        fields.refuse(name, f"{text[:100]!r} is no {name}")
    return text


def _integer(fields: Fields, name: str, least: int, most: int = 2**53 - 1) -> int:
    value = fields.take(name, int)
    if not least <= value <= most:
        fields.refuse(name, f"expected an integer from {least} to {most}")
    return value


def _may_integer(fields: Fields, name: str) -> int | None:
    return _integer(fields, name, 1) if name in fields.names() else None
