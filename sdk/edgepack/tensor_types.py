"""Types an engine has the operator for, but computes wrongly or gives up on: measured, and kept as data.

Operator versions do not tell these apart. Each rule in ``data/tensor_types.json`` was found by running a quantized
model on that engine beside its float original.
"""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from edgepack.flatbuffer import ModelView, OperatorView, SubgraphView, TensorView
from edgepack.opversions import release
from edgepack.schemes import WEIGHT_INPUTS

__all__ = ["MEASURED_ENGINES", "TypeProblem", "Use", "operator_uses", "type_problems"]

# Where every scheme edgepack makes was run, operator by operator; about other versions a clean answer is an estimate.
MEASURED_ENGINES = (("tflite-runtime", "2.14.0"), ("ai-edge-litert", "2.3.0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    engine: str
    architectures: tuple[str, ...] | None
    since: str | None
    below: str | None
    operators: tuple[str, ...]
    activations: tuple[str, ...]
    weights: tuple[str, ...]
    layout: str
    effect: str
    remedy: str
    source: str

    def is_about(self, engine: str, at: tuple[int, ...], arch: str) -> bool:
        return (
            self.engine in ("*", engine)
            and (self.architectures is None or arch in self.architectures)
            and (self.since is None or release(self.since) <= at)
            and (self.below is None or at < release(self.below))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeProblem:
    """One operator type the engine cannot be trusted with: `found` says what, `effect` what happens.

    `source` is where that is known from.
    """

    operator: str
    found: str
    effect: str
    remedy: str
    source: str


@cache
def _rules() -> tuple[_Rule, ...]:
    table = importlib.resources.files("edgepack").joinpath("data", "tensor_types.json")
    return tuple(
        _Rule(
            engine=row["engine"],
            architectures=None if row["architectures"] is None else tuple(row["architectures"]),
            since=row["since"],
            below=row["below"],
            operators=tuple(row["operators"]),
            activations=tuple(row["activations"]),
            weights=tuple(row["weights"]),
            layout=row["layout"],
            effect=row["effect"],
            remedy=row["remedy"],
            source=row["source"],
        )
        for row in json.loads(table.read_text(encoding="utf-8"))
    )


def type_problems(model: ModelView, engine: str, version: str, arch: str = "") -> tuple[TypeProblem, ...]:
    """Return what of the model this engine gets wrong, each kind once.

    Without an architecture that is what it gets wrong on all of them.
    """
    at = release(version)
    rules = [rule for rule in _rules() if rule.is_about(engine, at, arch)]
    found: dict[TypeProblem, None] = {}
    for graph in model.subgraphs:
        for _, use in operator_uses(graph):
            for rule in rules:
                if use.falls_under(rule):
                    found[use.problem(rule)] = None
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One operator with one of its weight tensors, told by types: "" where it has none."""

    operator: str
    activation: str
    weight: str
    layouts: tuple[str, ...]

    def falls_under(self, rule: _Rule) -> bool:
        """Return whether a rule is about this use."""
        return (
            ("*" in rule.operators or self.operator in rule.operators)
            and ("*" in rule.activations or self.activation in rule.activations)
            and (self.weight in rule.weights or "*" in rule.weights if rule.weights else True)
            and (rule.layout == "any" or rule.layout in self.layouts)
        )

    def problem(self, rule: _Rule) -> TypeProblem:
        """Return what the rule says of it."""
        weight = f" with {self.weight} weights" if self.weight else ""
        layout = "" if rule.layout == "any" else f" ({rule.layout.replace('_', ' ')})"
        return TypeProblem(
            operator=self.operator,
            found=f"{self.operator} on {self.activation}{weight}{layout}",
            effect=rule.effect,
            remedy=rule.remedy,
            source=rule.source,
        )


def operator_uses(graph: SubgraphView) -> Iterator[tuple[int, Use]]:
    """Yield every operator of a graph with its position, once for each of its weight tensors."""
    densified = {o.outputs[0]: o for o in graph.operators if o.name == "DENSIFY" and len(o.outputs) == 1}
    for position, operator in enumerate(graph.operators):
        weights = WEIGHT_INPUTS.get(operator.name, ())
        sparse = {i for i in weights if i < len(operator.inputs) and operator.inputs[i] in densified}
        for use in _uses(graph, operator, sparse):
            yield position, use


def _uses(graph: SubgraphView, operator: OperatorView, densified: set[int]) -> Iterator[Use]:
    operands = graph.operands(operator.inputs)
    candidates = [(i, operands[i]) for i in WEIGHT_INPUTS.get(operator.name, ()) if i < len(operands)]
    constants = [t for i, t in candidates if t is not None and (t.is_constant or i in densified)]
    activation = next((t for t in operands if t is not None and not t.is_constant and t not in constants), None)
    kind = "float32" if operator.name == "EMBEDDING_LOOKUP" else activation.dtype if activation else ""
    if operator.name == "TRANSPOSE_CONV" and len(operands) > 2 and operands[2] is not None:
        kind = operands[2].dtype
    if not constants:
        yield Use(operator=operator.name, activation=kind, weight="", layouts=())
    for weight in constants:
        yield Use(
            operator=operator.name,
            activation=kind,
            weight=weight.dtype,
            layouts=(*_layouts(operator.name, weight, activation), *_rows(operator, operands, weight)),
        )


def _rows(operator: OperatorView, operands: Sequence[TensorView | None], weight: TensorView) -> Iterator[str]:
    x = operands[0] if operands else None
    bias = operands[2] if len(operands) > 2 else None
    if operator.name != "FULLY_CONNECTED" or x is None:
        return
    # It is applied to each row; the last dimension of the weights says how long one is.
    if len(weight.scales) > 1 and math.prod(x.shape) > weight.shape[-1]:
        yield "per_channel_rows"
        if bias is None:
            yield "per_channel_rows_without_bias"


def _layouts(operator: str, weight: TensorView, activation: TensorView | None) -> tuple[str, ...]:
    layouts = ["blockwise"] if weight.blockwise else []
    layouts.append("per_channel" if len(weight.scales) > 1 else "per_tensor")
    if not weight.is_constant:
        layouts.append("densified")
    grouped = operator == "CONV_2D" and activation and len(weight.shape) == len(activation.shape) == 4
    if grouped and activation and weight.shape[3] != activation.shape[3] and len(weight.scales) == 1:
        layouts.append("grouped_per_tensor")
    return tuple(layouts)
