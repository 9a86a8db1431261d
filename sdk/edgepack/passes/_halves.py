"""Float16 constants in a graph: a DEQUANTIZE behind each, and behind the biases that have to go with them."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack_runtime.tensors import Array

__all__ = ["halve"]


def halve(model: Any, graph: Any, min_elements: int, kept_operators: Collection[int] = ()) -> list[str]:
    """Put a DEQUANTIZE behind each large float32 constant of a graph; return what had to stay.

    What operators at the places `kept_operators` read stays as it is, whoever else reads it.
    """
    from ai_edge_litert import schema_py_generated as schema

    kept, unpacking = [], []
    spared = {int(i) for i in graph.outputs}
    for position in kept_operators:
        spared.update(int(i) for i in graph.operators[position].inputs)
    biases = _biases(model, graph, min_elements, spared)
    for index in range(len(graph.tensors)):
        tensor = graph.tensors[index]
        if tensor.type != schema.TensorType.FLOAT32 or tensor.sparsity is not None or index in spared:
            continue
        value = edit.constant(model, tensor, "float32")
        if value is None or (value.size < min_elements and index not in biases):
            continue
        if not _fits(value):
            kept.append(f"kept float32: {tensor.name.decode()} has values float16 cannot hold")
            continue
        unpacked = schema.TensorT(
            name=tensor.name + b"_float32", shape=list(tensor.shape), type=schema.TensorType.FLOAT32, buffer=0
        )
        tensor.type = schema.TensorType.FLOAT16
        tensor.buffer = edit.add_buffer(model, value.astype(np.float16).tobytes())
        graph.tensors.append(unpacked)
        _redirect(graph, index, len(graph.tensors) - 1)
        unpacking.append(
            schema.OperatorT(opcodeIndex=_dequantize_code(model), inputs=[index], outputs=[len(graph.tensors) - 1])
        )
    graph.operators = [*unpacking, *graph.operators]
    edit.drop_unused_buffers(model)
    return kept


def _biases(model: Any, graph: Any, min_elements: int, spared: Collection[int]) -> set[int]:
    """Return the biases of the convolutions whose weights are converted; one that others use too is doubled."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    converted, others = [], set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        weights = None
        named = max(code.builtinCode, code.deprecatedBuiltinCode) in wanted
        if named and len(operator.inputs) > 2 and operator.inputs[1] not in spared:
            tensor = graph.tensors[operator.inputs[1]]
            weights = edit.constant(model, tensor, "float32") if tensor.type == schema.TensorType.FLOAT32 else None
        if weights is not None and weights.size >= min_elements and _fits(weights) and operator.inputs[2] >= 0:
            converted.append(operator)
        else:
            others |= {int(i) for i in operator.inputs}
    for operator in converted:
        bias = int(operator.inputs[2])
        if bias in others:
            graph.tensors.append(copy.copy(graph.tensors[bias]))
            graph.tensors[-1].name += f"_{len(graph.tensors)}".encode()
            operator.inputs = [*operator.inputs[:2], len(graph.tensors) - 1, *operator.inputs[3:]]
    return {int(operator.inputs[2]) for operator in converted}


def _fits(value: Array) -> bool:
    return bool(np.isfinite(value).all() and np.abs(value).max() <= np.finfo(np.float16).max)


def _redirect(graph: Any, old: int, new: int) -> None:
    for operator in graph.operators:
        operator.inputs = [new if i == old else i for i in operator.inputs]


def _dequantize_code(model: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    wanted = schema.BuiltinOperator.DEQUANTIZE
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=wanted, builtinCode=wanted, version=1))
    return len(model.operatorCodes) - 1
