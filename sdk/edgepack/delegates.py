"""Which operators of a model run on XNNPACK, the engines' own fast kernels, and which fall back to the slow ones.

Both engines hand what they can to XNNPACK without being asked, and say nothing of the rest. What it took of the
models of ``tools/prediction_matrix`` was read off each engine; that is ``data/xnnpack.csv``.
"""

from __future__ import annotations

import csv
import importlib.resources
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from edgepack.flatbuffer import ModelView
from edgepack.opversions import release
from edgepack.tensor_types import Use, operator_uses

__all__ = ["Delegation", "delegation"]

_Table = Mapping[tuple[str, str, str], str]
# Where a wheel brings no XNNPACK.
_WITHOUT_XNNPACK = (("tflite-runtime", "armv7l"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """The first graph's operators: how many XNNPACK takes, which it leaves, and which it takes at times or unknown.

    `left` and `unsure` name each kind of operator with how often it occurs; `why` is set where all are left for one
    reason. `verdict` is ``measured`` or ``estimated``.
    """

    operators: int
    taken: int
    left: tuple[str, ...]
    unsure: tuple[str, ...]
    why: str
    verdict: str


@cache
def _tables() -> Mapping[str, Mapping[tuple[int, ...], _Table]]:
    text = importlib.resources.files("edgepack").joinpath("data", "xnnpack.csv").read_text("utf-8")
    tables: dict[str, dict[tuple[int, ...], dict[tuple[str, str, str], str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        name, _, version = row["engine"].partition("==")
        table = tables.setdefault(name, {}).setdefault(release(version), {})
        table[row["operator"], row["activation"], row["weight"]] = row["taken"]
    return tables


def delegation(model: ModelView, engine: str, version: str, arch: str) -> Delegation:
    """Return what XNNPACK takes of the model's first graph under this engine, as far as that was measured.

    It was measured on x86-64: for another architecture, or a version that was not tried, it is estimated.
    """
    graph = model.subgraphs[0]
    kinds = _kinds(model)
    total = len(graph.operators)
    if (engine, arch) in _WITHOUT_XNNPACK:
        return _nothing(total, f"the wheel of {engine} for {arch} has no XNNPACK")
    if model.is_dynamic:
        return _nothing(total, "it takes no graph with an open dimension")
    tables = _tables().get(engine, {})
    at = max((v for v in tables if v <= release(version)), default=None)
    table = tables[at] if at is not None else {}
    found = {position: {_taken(table, use) for use in kinds[position]} for position in range(total)}
    left = [i for i, said in found.items() if "no" in said]
    unsure = [i for i, said in found.items() if "no" not in said and said & {"some", ""}]
    return Delegation(
        operators=total,
        taken=total - len(left) - len(unsure),
        left=_counted(kinds, left),
        unsure=_counted(kinds, unsure),
        why="",
        verdict="measured" if at == release(version) and arch == "x86_64" else "estimated",
    )


def _nothing(operators: int, why: str) -> Delegation:
    return Delegation(operators=operators, taken=0, left=(), unsure=(), why=why, verdict="measured")


def _kinds(model: ModelView) -> list[list[Use]]:
    kinds: list[list[Use]] = [[] for _ in model.subgraphs[0].operators]
    for position, use in operator_uses(model.subgraphs[0]):
        kinds[position].append(use)
    return kinds


def _taken(table: _Table, use: Use) -> str:
    return table.get((use.operator, use.activation, use.weight), "")


def _counted(kinds: list[list[Use]], positions: list[int]) -> tuple[str, ...]:
    counts = Counter(_named(kinds[position][0]) for position in positions)
    return tuple(f"{count} {name}" for name, count in sorted(counts.items()))


def _named(use: Use) -> str:
    on = f" on {use.activation}" if use.activation else ""
    return f"{use.operator}{on} with {use.weight} weights" if use.weight else f"{use.operator}{on}"
