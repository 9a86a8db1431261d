"""Which operator versions an inference engine has: probed where it was, else told from what is known, and said so."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from edgepack.opversions import minimum_runtime, release

__all__ = ["Support", "parse_engine", "support"]

# LiteRT continues TensorFlow Lite under another name. These are the releases of each that were found to have at
# least what TensorFlow Lite had in the release beside it: 1.0 by its branch, 1.2 by running FULLY_CONNECTED v12.
_LITERT_AS_TENSORFLOW = (((1, 2), "2.17.0"), ((1, 0), "2.14.0"))


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
    known_as = _text(at)
    if engine == "ai-edge-litert":
        known_as = next((text for since, text in _LITERT_AS_TENSORFLOW if at >= since), "")
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
