"""Layouts in a TFLite graph: which one an input or output has, and turning it into the other.

Operators over space compute channels-last, all of them. So what is between a tensor and the first of them tells the
tensor's own layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack import _flatbuffer_edit
from edgepack.flatbuffer import operator_name

__all__ = ["Turned", "found_layouts", "turned"]

# Operators over space, with the operand that is the image.
_SPATIAL = {
    "AVERAGE_POOL_2D": 0, "BATCH_TO_SPACE_ND": 0, "CONV_2D": 0, "CONV_3D": 0, "CONV_3D_TRANSPOSE": 2,
    "DEPTHWISE_CONV_2D": 0, "DEPTH_TO_SPACE": 0, "L2_POOL_2D": 0, "MAX_POOL_2D": 0, "RESIZE_BILINEAR": 0,
    "RESIZE_NEAREST_NEIGHBOR": 0, "SPACE_TO_BATCH_ND": 0, "SPACE_TO_DEPTH": 0, "TRANSPOSE_CONV": 2,
}  # fmt: skip
# What leaves every value at its place.
_IN_PLACE = frozenset(
    {
        "ABS", "ADD", "ADD_N", "CAST", "CEIL", "CONCATENATION", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "GELU",
        "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "MAXIMUM", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "PAD",
        "PADV2", "POW", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SOFTMAX", "SQRT",
        "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """How many TRANSPOSE operators there were, and are."""

    before: int
    after: int


class _Graph:
    """The first graph of an unpacked model, with what is asked of it here."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.graph = model.subgraphs[0]

    def name(self, operator: Any) -> str:
        return operator_name(self.model.operatorCodes[operator.opcodeIndex].builtinCode)

    def shape(self, tensor: int) -> tuple[int, ...]:
        shape = self.graph.tensors[tensor].shape
        return () if shape is None else tuple(int(d) for d in shape)

    def readers(self, tensor: int) -> Iterator[Any]:
        return (o for o in self.graph.operators if tensor in [int(i) for i in o.inputs])

    def writer(self, tensor: int) -> Any:
        return next((o for o in self.graph.operators if tensor in [int(i) for i in o.outputs]), None)

    def order(self, operator: Any) -> tuple[int, ...] | None:
        """Return the permutation of a TRANSPOSE; None for any other operator."""
        if self.name(operator) != "TRANSPOSE":
            return None
        values = _flatbuffer_edit.constant(self.model, self.graph.tensors[int(operator.inputs[1])], "<i4")
        return None if values is None else tuple(int(v) for v in values)

    def moves_nothing(self, operator: Any) -> bool:
        """Whether a RESHAPE or TRANSPOSE only moves dimensions of 1: the values stay in their order."""
        order, source = self.order(operator), self.shape(int(operator.inputs[0]))
        if order is not None:
            kept = [axis for axis in order if source[axis] != 1]
            return kept == sorted(kept)
        return self.name(operator) == "RESHAPE"

    def count(self) -> int:
        return sum(self.name(o) == "TRANSPOSE" for o in self.graph.operators)


def _last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def _first(rank: int) -> tuple[int, ...]:
    return (0, rank - 1, *range(1, rank - 1))


def _turns(graph: _Graph, operator: Any) -> str:
    """Return the layout an operator turns its operand into; '' if it does not turn it."""
    source, result = graph.shape(int(operator.inputs[0])), graph.shape(int(operator.outputs[0]))
    rank = len(source)
    if rank < 3 or len(result) != rank or graph.name(operator) not in ("TRANSPOSE", "RESHAPE") or source == result:
        return ""
    order = graph.order(operator)
    for layout, wanted in (("nhwc", _last(rank)), ("nchw", _first(rank))):
        if order == wanted:
            return layout
        # Of one channel, a RESHAPE does the same.
        moved = tuple(source[axis] for axis in wanted)
        if order is None and moved == result and [d for d in source if d > 1] == [d for d in moved if d > 1]:
            return layout
    return ""


def found_layouts(model: Any, ends: Mapping[str, int]) -> dict[str, str]:
    """Return ``nhwc`` or ``nchw`` for each input and output by name; '' where that cannot be told."""
    graph = _Graph(model)
    inputs = {int(i) for i in graph.graph.inputs}
    return {name: _told(graph, tensor, forward=tensor in inputs) for name, tensor in ends.items()}


def _told(graph: _Graph, start: int, *, forward: bool) -> str:
    said, seen, todo = set(), set(), [start]
    rank = len(graph.shape(start))
    while todo:
        at = todo.pop()
        if at in seen or len(graph.shape(at)) != rank:
            continue
        seen.add(at)
        if forward:
            for operator in graph.readers(at):
                said |= _said_by_reader(graph, operator, at)
                if graph.name(operator) in _IN_PLACE:
                    todo += [int(i) for i in operator.outputs]
        elif (operator := graph.writer(at)) is not None:
            layout = _turns(graph, operator)
            if layout or graph.name(operator) in _SPATIAL:
                said.add(layout or "nhwc")
            elif graph.name(operator) in _IN_PLACE:
                todo += [int(i) for i in operator.inputs if int(i) >= 0]
    return said.pop() if len(said) == 1 else ""


def _said_by_reader(graph: _Graph, operator: Any, tensor: int) -> set[str]:
    image = _SPATIAL.get(graph.name(operator))
    if image is not None:
        return {"nhwc"} if int(operator.inputs[image]) == tensor else set()
    layout = _turns(graph, operator)
    return {"nchw" if layout == "nhwc" else "nhwc"} if layout else set()


def turned(model: Any, ends: Mapping[str, int], orders: Mapping[str, tuple[int, ...]]) -> Turned:
    """Turn inputs and outputs in place, each by a permutation from its old shape, and take out turns that meet."""
    graph = _Graph(model)
    before = graph.count()
    inputs = {int(i) for i in graph.graph.inputs}
    outputs = {int(i) for i in graph.graph.outputs}
    for name, order in orders.items():
        if ends[name] in inputs:
            _turn_input(graph, name, ends[name], order)
        if ends[name] in outputs:
            _turn_output(graph, name, ends[name], order)
    while _cancelled(graph):
        pass
    _drop_unused_tensors(graph)
    _flatbuffer_edit.drop_unused_buffers(model)
    return Turned(before=before, after=graph.count())


def _turn_input(graph: _Graph, name: str, tensor: int, order: tuple[int, ...]) -> None:
    outer = _copy(graph, tensor, name, [graph.shape(tensor)[axis] for axis in order])
    graph.graph.tensors[tensor].name = f"{name}/turned"
    back = [int(axis) for axis in np.argsort(order)]
    graph.graph.operators.insert(0, _transpose(graph, outer, tensor, back))
    graph.graph.inputs = [outer if int(i) == tensor else int(i) for i in graph.graph.inputs]
    for entry in graph.model.signatureDefs[0].inputs:
        if int(entry.tensorIndex) == tensor:
            entry.tensorIndex = outer


def _turn_output(graph: _Graph, name: str, tensor: int, order: tuple[int, ...]) -> None:
    outer = _copy(graph, tensor, name, [graph.shape(tensor)[axis] for axis in order])
    if tensor not in [int(i) for i in graph.graph.inputs]:
        graph.graph.tensors[tensor].name = f"{name}/turned"
    graph.graph.operators.append(_transpose(graph, tensor, outer, list(order)))
    _replace_output(graph, tensor, outer, name)


def _replace_output(graph: _Graph, old: int, new: int, name: str) -> None:
    for entry in graph.model.signatureDefs[0].outputs:
        found = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
        if found == name:
            entry.tensorIndex = new
    graph.graph.outputs = [int(e.tensorIndex) for e in graph.model.signatureDefs[0].outputs]


def _copy(graph: _Graph, tensor: int, name: str, shape: Sequence[int]) -> int:
    from ai_edge_litert import schema_py_generated as schema

    old, new = graph.graph.tensors[tensor], schema.TensorT()
    new.name, new.type, new.shape, new.buffer = name, old.type, list(shape), 0
    new.quantization, new.hasRank = old.quantization, old.hasRank
    graph.graph.tensors.append(new)
    return len(graph.graph.tensors) - 1


def _transpose(graph: _Graph, source: int, target: int, order: Sequence[int]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    kind = schema.BuiltinOperator.TRANSPOSE
    codes = [code.builtinCode for code in graph.model.operatorCodes]
    if kind not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        graph.model.operatorCodes.append(code)
        codes.append(kind)
    values = schema.TensorT()
    values.name, values.type, values.shape = f"order of {target}", schema.TensorType.INT32, [len(order)]
    values.buffer = _flatbuffer_edit.add_buffer(graph.model, np.array(order, "<i4").tobytes())
    graph.graph.tensors.append(values)
    operator = schema.OperatorT()
    operator.opcodeIndex = codes.index(kind)
    operator.inputs, operator.outputs = [source, len(graph.graph.tensors) - 1], [target]
    return operator


def _cancelled(graph: _Graph) -> bool:
    """Take out one turn that undoes the one before it; False where there is none."""
    inputs = {int(i) for i in graph.graph.inputs}
    outputs = [int(i) for i in graph.graph.outputs]
    for second in graph.graph.operators:
        first = graph.writer(int(second.inputs[0])) if _moves(graph, second) else None
        if first is None or not _moves(graph, first) or not _undoes(graph, first, second):
            continue
        source, result = int(first.inputs[0]), int(second.outputs[0])
        if result in outputs and (source in inputs or source in outputs):
            continue
        for operator in graph.readers(result):
            operator.inputs = [source if int(i) == result else int(i) for i in operator.inputs]
        if result in outputs:
            tensor = graph.graph.tensors
            tensor[source].name = tensor[result].name
            for entry in graph.model.signatureDefs[0].outputs:
                entry.tensorIndex = source if int(entry.tensorIndex) == result else entry.tensorIndex
            graph.graph.outputs = [source if i == result else i for i in outputs]
        graph.graph.operators.remove(second)
        between = int(first.outputs[0])
        if between not in outputs and not list(graph.readers(between)):
            graph.graph.operators.remove(first)
        return True
    return False


def _moves(graph: _Graph, operator: Any) -> bool:
    return graph.order(operator) is not None or graph.name(operator) == "RESHAPE"


def _undoes(graph: _Graph, first: Any, second: Any) -> bool:
    if graph.shape(int(first.inputs[0])) != graph.shape(int(second.outputs[0])):
        return False
    one, two = graph.order(first), graph.order(second)
    if one is not None and two is not None and [one[axis] for axis in two] == list(range(len(one))):
        return True
    return graph.moves_nothing(first) and graph.moves_nothing(second)


def _drop_unused_tensors(graph: _Graph) -> None:
    inner = graph.graph
    entries = [e for s in graph.model.signatureDefs if s.subgraphIndex == 0 for e in (*s.inputs, *s.outputs)]
    used = {int(i) for o in inner.operators for i in (*o.inputs, *o.outputs, *_intermediates(o))}
    used |= {int(i) for i in (*inner.inputs, *inner.outputs)}
    kept = [i for i in range(len(inner.tensors)) if i in used]
    new = {-1: -1} | {old: position for position, old in enumerate(kept)}
    inner.tensors = [inner.tensors[i] for i in kept]
    inner.inputs, inner.outputs = ([new[int(i)] for i in side] for side in (inner.inputs, inner.outputs))
    for operator in inner.operators:
        operator.inputs = [new[int(i)] for i in operator.inputs]
        operator.outputs = [new[int(i)] for i in operator.outputs]
        if _intermediates(operator):
            operator.intermediates = [new[int(i)] for i in operator.intermediates]
    for entry in entries:
        entry.tensorIndex = new[int(entry.tensorIndex)]


def _intermediates(operator: Any) -> list[int]:
    return [] if operator.intermediates is None else [int(i) for i in operator.intermediates]
