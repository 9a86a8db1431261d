"""Types an engine has the operator for, but computes wrongly or gives up on: measured, and kept as data.

Operator versions do not tell these apart. Each rule in ``data/tensor_types.json`` was found by running a quantized
model on that engine beside its float original.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from edgepack.flatbuffer import ModelView, OperatorView, SubgraphView, TensorView
from edgepack.opversions import release
from edgepack.schemes import WEIGHT_INPUTS

__all__ = ["MEASURED_ENGINES", "TypeProblem", "type_problems"]

# Where every scheme edgepack makes was run, operator by operator; about other versions a clean answer is an estimate.
MEASURED_ENGINES = (("tflite-runtime", "2.14.0"), ("ai-edge-litert", "2.3.0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    engine: str
    below: str | None
    operators: tuple[str, ...]
    activations: tuple[str, ...]
    weights: tuple[str, ...]
    layout: str
    effect: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeProblem:
    """One operator type the engine cannot be trusted with: `found` says what, `effect` what happens."""

    operator: str
    found: str
    effect: str
    remedy: str


@cache
def _rules() -> tuple[_Rule, ...]:
    table = importlib.resources.files("edgepack").joinpath("data", "tensor_types.json")
    return tuple(
        _Rule(
            engine=row["engine"],
            below=row["below"],
            operators=tuple(row["operators"]),
            activations=tuple(row["activations"]),
            weights=tuple(row["weights"]),
            layout=row["layout"],
            effect=row["effect"],
            remedy=row["remedy"],
        )
        for row in json.loads(table.read_text(encoding="utf-8"))
    )


def type_problems(model: ModelView, engine: str, version: str) -> tuple[TypeProblem, ...]:
    """Return what of the model this engine gets wrong, each kind once."""
    at = release(version)
    rules = [
        rule for rule in _rules() if rule.engine in ("*", engine) and (rule.below is None or at < release(rule.below))
    ]
    found: dict[TypeProblem, None] = {}
    for graph, operator in model.operators():
        for use in _uses(graph, operator):
            for rule in rules:
                if use.falls_under(rule):
                    found[use.problem(rule)] = None
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    operator: str
    activation: str
    weight: str
    layouts: tuple[str, ...]

    def falls_under(self, rule: _Rule) -> bool:
        return (
            ("*" in rule.operators or self.operator in rule.operators)
            and ("*" in rule.activations or self.activation in rule.activations)
            and (self.weight in rule.weights or "*" in rule.weights if rule.weights else True)
            and (rule.layout == "any" or rule.layout in self.layouts)
        )

    def problem(self, rule: _Rule) -> TypeProblem:
        weight = f" with {self.weight} weights" if self.weight else ""
        layout = "" if rule.layout == "any" else f" ({rule.layout.replace('_', ' ')})"
        return TypeProblem(
            operator=self.operator,
            found=f"{self.operator} on {self.activation}{weight}{layout}",
            effect=rule.effect,
            remedy=rule.remedy,
        )


def _uses(graph: SubgraphView, operator: OperatorView) -> Iterator[_Use]:
    operands = graph.operands(operator.inputs)
    candidates = [operands[i] for i in WEIGHT_INPUTS.get(operator.name, ()) if i < len(operands)]
    constants = [t for t in candidates if t is not None and t.is_constant]
    activation = next((t for t in operands if t is not None and not t.is_constant and t not in constants), None)
    kind = "float32" if operator.name == "EMBEDDING_LOOKUP" else activation.dtype if activation else ""
    if operator.name == "TRANSPOSE_CONV" and len(operands) > 2 and operands[2] is not None:
        kind = operands[2].dtype
    if not constants:
        yield _Use(operator=operator.name, activation=kind, weight="", layouts=())
    for weight in constants:
        yield _Use(
            operator=operator.name,
            activation=kind,
            weight=weight.dtype,
            layouts=_layouts(operator.name, weight, activation),
        )


def _layouts(operator: str, weight: TensorView, activation: TensorView | None) -> tuple[str, ...]:
    layouts = ["blockwise"] if weight.blockwise else []
    layouts.append("per_channel" if len(weight.scales) > 1 else "per_tensor")
    grouped = operator == "CONV_2D" and activation and len(weight.shape) == len(activation.shape) == 4
    if grouped and activation and weight.shape[3] != activation.shape[3] and len(weight.scales) == 1:
        layouts.append("grouped_per_tensor")
    return tuple(layouts)
