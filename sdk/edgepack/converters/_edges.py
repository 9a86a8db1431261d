"""Operators put at the edges of a TFLite graph, so that it takes and gives what its source does.

::

    x float64[] -> RESHAPE -> CAST -> [1] the converter's graph [1,24,24,5] -> TRANSPOSE -> mask float32[1,5,24,24]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["NOWHERE", "Port", "entered", "left", "opcode"]

# As TFLite itself numbers an operand that is left out.
NOWHERE = -1

# op_version.cc: the types for which CAST has a later version.
_CAST_VERSIONS = {"INT8": 3, "FLOAT16": 5, "FLOAT64": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """The source's name for the tensor `tensor` of the file; `NOWHERE` for an input that nothing depends on.

    A `permutation` other than () says how to get the source's layout from the tensor's, as for numpy.transpose.
    `dtype` and `shape` are the source's where they differ; an input that nothing depends on has both.
    """

    name: str
    tensor: int
    permutation: tuple[int, ...] = ()
    dtype: str = ""
    shape: tuple[int, ...] | None = None


def entered(schema: Any, model: Any, port: Port) -> int:
    """Return the tensor that takes the source's input, with operators behind it where it needs some."""
    graph = model.subgraphs[0]
    if port.tensor == NOWHERE:
        return _tensor(schema, graph, port.name, getattr(schema.TensorType, port.dtype.upper()), port.shape or ())
    inner = graph.tensors[port.tensor]
    if not port.dtype and port.shape is None:
        inner.name = port.name
        return port.tensor
    outer_type = getattr(schema.TensorType, port.dtype.upper()) if port.dtype else inner.type
    shape = _shape(inner) if port.shape is None else port.shape
    operators, at = [], _tensor(schema, graph, port.name, outer_type, shape)
    outer = at
    if port.shape is not None:
        to = (
            port.tensor if outer_type == inner.type else _like(schema, graph, inner, f"{port.name}/shape", outer_type)
        )
        operators.append(_reshape(schema, model, at, to))
        at = to
    if outer_type != inner.type:
        operators.append(_cast(schema, model, at, port.tensor))
    graph.operators[:0] = operators
    return outer


def left(schema: Any, model: Any, port: Port) -> int:
    """Return the tensor that gives the source's output, with operators before it where it needs some."""
    graph = model.subgraphs[0]
    at = port.tensor
    if port.permutation:
        inner = graph.tensors[at]
        to = _like(schema, graph, inner, port.name, inner.type)
        graph.tensors[to].shape = [int(inner.shape[axis]) for axis in port.permutation]
        graph.operators.append(_transpose(schema, model, at, to, port.permutation))
        at = to
    if port.shape is not None:
        to = _tensor(schema, graph, port.name, graph.tensors[at].type, port.shape)
        graph.operators.append(_reshape(schema, model, at, to))
        at = to
    if port.dtype:
        wanted = getattr(schema.TensorType, port.dtype.upper())
        to = _tensor(schema, graph, port.name, wanted, _shape(graph.tensors[at]))
        graph.operators.append(_cast(schema, model, at, to))
        at = to
    # A tensor can be input and output at once: it keeps the input's name, the signature tells the two apart.
    if at not in list(graph.inputs):
        graph.tensors[at].name = port.name
    return at


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(d) for d in tensor.shape)


def _tensor(schema: Any, graph: Any, name: str, kind: int, shape: Sequence[int]) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer, tensor.shape = name, kind, 0, list(shape)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _like(schema: Any, graph: Any, other: Any, name: str, kind: int) -> int:
    index = _tensor(schema, graph, name, kind, _shape(other))
    if kind == other.type:
        graph.tensors[index].quantization = other.quantization
    return index


def _constant(schema: Any, model: Any, name: str, values: Sequence[int]) -> int:
    import numpy as np

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array(values, "<i4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    index = _tensor(schema, model.subgraphs[0], name, schema.TensorType.INT32, [len(values)])
    model.subgraphs[0].tensors[index].buffer = len(model.buffers) - 1
    return index


def _transpose(schema: Any, model: Any, source: int, target: int, order: Sequence[int]) -> Any:
    rank = len(order)
    # op_version.cc: five dimensions need version 4, six version 6.
    version = 6 if rank > 5 else 4 if rank > 4 else 1
    name = f"{model.subgraphs[0].tensors[target].name}/layout"
    return _operator(schema, model, ("TRANSPOSE", version), [source, _constant(schema, model, name, order)], target)


def _reshape(schema: Any, model: Any, source: int, target: int) -> Any:
    shape = _shape(model.subgraphs[0].tensors[target])
    operator = _operator(schema, model, ("RESHAPE", 1), [source], target)
    # The shape as an option: a scalar's would be a constant without elements.
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = list(shape)
    return operator


def _cast(schema: Any, model: Any, source: int, target: int) -> Any:
    names = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    kinds = [model.subgraphs[0].tensors[index].type for index in (source, target)]
    version = max(_CAST_VERSIONS.get(names[kind], 1) for kind in kinds)
    operator = _operator(schema, model, ("CAST", version), [source], target)
    operator.builtinOptionsType = schema.BuiltinOptions.CastOptions
    operator.builtinOptions = schema.CastOptionsT()
    operator.builtinOptions.inDataType, operator.builtinOptions.outDataType = kinds
    return operator


def _operator(schema: Any, model: Any, kind: tuple[str, int], inputs: list[int], output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = opcode(schema, model, *kind)
    operator.inputs, operator.outputs = inputs, [output]
    return operator


def opcode(schema: Any, model: Any, name: str, version: int) -> int:
    """Return the index of a builtin operator among the model's, put there if it is new, in this version at least."""
    wanted = getattr(schema.BuiltinOperator, name)
    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            code.version = max(code.version, version)
            return i
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = wanted
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
