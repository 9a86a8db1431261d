"""Which operator versions an inference engine has: probed where it was, else told from what is known, and said so."""

from __future__ import annotations

import csv
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from edgepack.opversions import minimum_runtime, release

__all__ = ["Support", "as_tensorflow", "oldest_with", "parse_engine", "probed_table", "support"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Whether an engine has an operator version: `holds` is None if nothing is known, `basis` says from what."""

    holds: bool | None
    verdict: str
    basis: str


def parse_engine(text: str) -> tuple[str, str]:
    """Return name and version of ``name==version``; the version is "" if there is none."""
    name, _, version = text.partition("==")
    return name, version


@cache
def _probed() -> Mapping[tuple[str, str], Mapping[str, int]]:
    folder = importlib.resources.files("edgepack").joinpath("data", "runtime_ops")
    tables = {}
    for file in folder.iterdir():
        name, _, version = file.name.removesuffix(".json").rpartition("-")
        tables[name, version] = json.loads(file.read_text(encoding="utf-8"))
    return tables


@cache
def _releases() -> Mapping[tuple[str, tuple[int, ...]], str]:
    table = importlib.resources.files("edgepack").joinpath("data", "engine_releases.csv")
    with table.open(encoding="utf-8") as lines:
        return {(row["engine"], release(row["version"])): row["tensorflow"] for row in csv.DictReader(lines)}


def as_tensorflow(engine: str, version: str) -> str:
    """Return the last TensorFlow release whose operators this engine has all of; "" if nothing is known.

    ai-edge-litert continues TensorFlow Lite and counts anew; of a version that was not probed the newest older one is
    taken. tflite-runtime counts as TensorFlow does.
    """
    if engine == "tflite-runtime":
        return version
    at = release(version)
    known = [(v, tensorflow) for (name, v), tensorflow in _releases().items() if name == engine and v <= at]
    return max(known)[1] if known else ""


def oldest_with(engine: str, operators: Iterable[tuple[str, int]]) -> str:
    """Return the oldest version of `engine` from which on every probed one has these operators; "" if none has."""
    wanted = list(operators)
    oldest = ""
    for at, table in sorted(((release(v), t) for (n, v), t in _probed().items() if n == engine), reverse=True):
        if any(table.get(operator, 0) < version for operator, version in wanted):
            break
        oldest = _text(at)
    return oldest


def probed_table(engine: str, version: str) -> Mapping[str, int] | None:
    """Return the operators of an engine's wheel, 0 for those it lacks; None if this very version was not probed."""
    return _probed().get((engine, version))


def support(engine: str, version: str, operator: str, wanted: int) -> Support:
    """Return whether `engine` in `version` has `operator` in version `wanted`."""
    tables = {release(v): table for (name, v), table in _probed().items() if name == engine}
    at = release(version)
    if at in tables:
        return Support(
            holds=wanted <= tables[at].get(operator, 0),
            verdict="measured",
            basis=f"{engine} {version} was probed: {_up_to(operator, tables[at])}",
        )
    older = max((v for v in tables if v < at), default=None)
    if older is not None and wanted <= tables[older].get(operator, 0):
        return _estimated(
            True, f"{engine} {_text(older)}, which is older, was probed: {_up_to(operator, tables[older])}"
        )
    newer = min((v for v in tables if v > at), default=None)
    if newer is not None and wanted > tables[newer].get(operator, 0):
        return _estimated(
            False, f"{engine} {_text(newer)}, which is newer, was probed: {_up_to(operator, tables[newer])}"
        )
    return _by_release(engine, at, operator, wanted)


def _by_release(engine: str, at: tuple[int, ...], operator: str, wanted: int) -> Support:
    first = minimum_runtime(operator, wanted)
    known_as = as_tensorflow(engine, _text(at))
    if first is None or not known_as:
        return Support(holds=None, verdict="unknown", basis=f"no table has {operator} v{wanted}")
    basis = f"{operator} v{wanted} came with TensorFlow {first}"
    if release(first) <= release(known_as):
        return _estimated(True, basis)
    if engine == "ai-edge-litert":
        return Support(holds=None, verdict="unknown", basis=f"{basis}, and {engine} {_text(at)} was not probed")
    return _estimated(False, basis)


def _estimated(holds: bool, basis: str) -> Support:
    return Support(holds=holds, verdict="estimated", basis=basis)


def _up_to(operator: str, table: Mapping[str, int]) -> str:
    highest = table.get(operator, 0)
    return f"{operator} up to v{highest}" if highest else f"no {operator}"


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
