"""The same model, made so that an engine shows what its layers compute.

An engine reuses the memory of what lies between layers, and a delegate never puts it where it could be read. Told to
keep all tensors, the engines leave their delegate away, and something else is measured than what runs. So every
tensor of interest becomes an output: the kernels stay the ones that run::

    x -> CONV_2D -> a -> RELU -> y     =>   x -> CONV_2D -> a! -> RELU -> y!                  `exposed`
                                       =>   x' -> CONV_2D -> a!      a' -> RELU -> y!         `cut`
                                       =>   x -> CONV_2D -> a, a' -> SELECT -> RELU -> y      `replaceable`
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import SubgraphView, TensorView
from edgepack.layer_match import constants_of
from edgepack_runtime.tensors import Array

__all__ = ["Port", "content", "cut", "exposed", "port_name", "real_constant", "replaceable", "tensor_name"]

Port = tuple[int, int]
_PLAIN = {"float32", "float16", "int8", "uint8", "int16", "int32", "int64"}
_PACKED = {"int4": 4, "int2": 2}


def tensor_name(index: int) -> str:
    """Return the name a tensor has in an `exposed` or `cut` model."""
    return f"t{index}"


def port_name(port: Port) -> str:
    """Return the name that an operator's own input has in a `cut` model: (label, position)."""
    return f"o{port[0]}i{port[1]}"


def exposed(data: bytes, tensors: Iterable[int]) -> bytes:
    """Return the model with these tensors of its graph as outputs, all shapes fixed, and tensors named by index."""
    model = _renamed(data)
    graph = model.subgraphs[0]
    graph.outputs = sorted({int(i) for i in tensors} - {int(i) for i in graph.inputs})
    return edit.pack(model)


def cut(data: bytes, labels: Mapping[int, int], view: SubgraphView, constants: Mapping[Port, Array]) -> bytes:
    """Return a model in which each operator stands alone, with inputs and outputs of its own.

    Args:
        data: the model.
        labels: the operators that stay, by index, and the label that each one's inputs are named by.
        view: the model's graph.
        constants: float32 content for an operator's constant input, by (label, position), instead of its own.
    """
    model = _renamed(data)
    graph = model.subgraphs[0]
    fixed = constants_of(view)
    graph.inputs, outputs, kept = [], [], []
    for index, operator in enumerate(graph.operators):
        if index not in labels:
            if all(int(i) in fixed for i in operator.outputs):
                kept.append(operator)
            continue
        kept.append(operator)
        outputs += [int(i) for i in operator.outputs]
        operator.inputs = [
            _own_input(model, int(tensor), (labels[index], position), fixed, constants)
            for position, tensor in enumerate(operator.inputs)
        ]
    graph.operators, graph.outputs = kept, outputs
    return edit.pack(model)


def replaceable(data: bytes, tensors: Iterable[int], outputs: Iterable[int]) -> bytes:
    """Return the model with inputs that can take the place of what it computes.

    The tensor with index 7 has the input ``v7`` for its other value, and ``f7`` (bool) for whether it is taken.

    Args:
        data: the model.
        tensors: what an operator computes, each.
        outputs: what the model gives; they keep the names they have without that.
    """
    model = _renamed(data)
    graph = model.subgraphs[0]
    chosen = {int(index): _choice(graph, int(index)) for index in tensors}
    code = _select_code(model) if chosen else 0
    operators = []
    for operator in graph.operators:
        operator.inputs = [chosen.get(int(i), int(i)) for i in operator.inputs]
        operators.append(operator)
        operators += [_select(int(i), chosen[int(i)], code) for i in operator.outputs if int(i) in chosen]
    graph.operators = operators
    graph.outputs = sorted({chosen.get(int(i), int(i)) for i in outputs} - {int(i) for i in graph.inputs})
    return edit.pack(model)


def _choice(graph: Any, index: int) -> int:
    """Add the tensors around a SELECT: flag, value, result; return the result's index, the others lie before it."""
    from ai_edge_litert import schema_py_generated as schema

    flag = schema.TensorT()
    flag.name, flag.shape, flag.type, flag.buffer = f"f{index}", [], schema.TensorType.BOOL, 0
    value, result = copy.copy(graph.tensors[index]), copy.copy(graph.tensors[index])
    value.name, graph.tensors[index].name = f"v{index}", f"c{index}"
    graph.tensors += [flag, value, result]
    last = len(graph.tensors) - 1
    graph.inputs = [*(int(i) for i in graph.inputs), last - 2, last - 1]
    return last


def _select_code(model: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SELECT
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _select(index: int, result: int, code: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [result - 2, result - 1, index], [result]
    operator.builtinOptionsType = schema.BuiltinOptions.SelectOptions
    operator.builtinOptions = schema.SelectOptionsT()
    return operator


def _own_input(model: Any, tensor: int, port: Port, fixed: Mapping[int, int], constants: Mapping[Port, Array]) -> int:
    graph = model.subgraphs[0]
    if tensor < 0 or (tensor in fixed and port not in constants):
        return tensor
    own = copy.copy(graph.tensors[tensor])
    own.name = port_name(port)
    own.buffer = edit.add_buffer(model, np.ascontiguousarray(constants[port]).tobytes()) if port in constants else 0
    graph.tensors.append(own)
    if port not in constants:
        graph.inputs.append(len(graph.tensors) - 1)
    return len(graph.tensors) - 1


def _renamed(data: bytes) -> Any:
    model = edit.unpack(data)
    graph = model.subgraphs[0]
    for index, tensor in enumerate(graph.tensors):
        tensor.name = tensor_name(index)
        tensor.shapeSignature = None
    model.signatureDefs, model.metadata = None, None
    return model


def content(model: Any, view: TensorView, index: int) -> Array | None:
    """Return what a constant's stored numbers are, int4 and int2 one an element; None for a type not known here."""
    stored = (
        edit.constant(model, model.subgraphs[0].tensors[index], "uint8" if view.dtype in _PACKED else view.dtype)
        if view.dtype in _PLAIN
        else None
    )
    if view.dtype in _PACKED:
        data = model.buffers[view.buffer].data
        stored = _unpacked(np.frombuffer(bytes(data), np.uint8), _PACKED[view.dtype], view.shape)
    return stored


def _unpacked(data: Array, bits: int, shape: tuple[int, ...]) -> Array:
    """Return numbers of fewer than eight bits, the lowest bits of a byte first, with their signs."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = ((data[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1).astype(np.int8)
    count = int(np.prod(shape))
    values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values)[:count]
    return values.reshape(shape).astype(np.int8)


def real_constant(model: Any, view: TensorView, index: int) -> Array | None:
    """Return the real numbers a constant stands for as float32; None where they are not known here.

    Those are blockwise scales and types other than floats and integers.
    """
    if view.blockwise or view.sparse:
        return None
    stored = content(model, view, index)
    if stored is None or not view.scales:
        return None if stored is None else stored.astype(np.float32)
    scale, zero = np.array(view.scales, np.float64), np.array(view.zero_points or (0,), np.float64)
    if len(scale) > 1:
        if not 0 <= view.quantized_dimension < stored.ndim or len(scale) != stored.shape[view.quantized_dimension]:
            return None
        form = [1] * stored.ndim
        form[view.quantized_dimension] = -1
        scale = scale.reshape(form)
        zero = zero.reshape(form) if zero.size > 1 else zero
    with np.errstate(over="ignore"):
        return ((stored.astype(np.float64) - zero) * scale).astype(np.float32)
