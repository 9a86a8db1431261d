"""TFLite models written by hand, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepack import _flatbuffer_edit as edit

FLOAT32 = schema.TensorType.FLOAT32


def doubling(shape: list[int], outputs: Sequence[str] = ("y",)) -> bytes:
    """Each of `outputs` = x + x, of any shape; no signature."""
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators = [], []
    for name in ("x", *outputs):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, FLOAT32, 0
        graph.tensors.append(tensor)
    for i in range(len(outputs)):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 0], [i + 1]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], list(range(1, len(outputs) + 1))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, shape: list[int], buffer: int = 0) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, FLOAT32, buffer
    return tensor


def _operator(inputs: list[int], output: int, kind: str) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    operator.builtinOptions = getattr(schema, f"{kind}T")()
    return operator


def _packed(graph: schema.SubGraphT, buffers: list[schema.BufferT], code: int, version: int) -> bytes:
    model, opcode = schema.ModelT(), schema.OperatorCodeT()
    opcode.builtinCode = opcode.deprecatedBuiltinCode = code
    opcode.version = version
    graph.inputs, graph.outputs = [0], [len(graph.tensors) - 1]
    graph.tensors[-1].name = "y"
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [opcode], [graph], buffers
    return edit.pack(model)


def dense(side: int, layers: int) -> bytes:
    """`layers` square matrices of float32, one behind the other, with seeded weights and no bias; no signature."""
    rng = np.random.default_rng(1)
    graph, buffers = schema.SubGraphT(), [schema.BufferT()]
    graph.tensors, graph.operators = [_tensor("x", [1, side])], []
    for i in range(layers):
        weights = rng.normal(scale=side**-0.5, size=(side, side)).astype(np.float32)
        buffers.append(schema.BufferT(data=np.frombuffer(weights.tobytes(), np.uint8)))
        graph.tensors += [_tensor(f"w{i}", [side, side], i + 1), _tensor(f"h{i}", [1, side])]
        last = 2 * i
        graph.operators.append(_operator([last, last + 1, -1], last + 2, "FullyConnectedOptions"))
    return _packed(graph, buffers, schema.BuiltinOperator.FULLY_CONNECTED, 6)


def sums(size: int, count: int) -> bytes:
    """`count` times x + x, all of them alive at once, and then their sum; no weights, no signature."""
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [_tensor("x", [1, size])], []
    for i in range(count):
        graph.tensors.append(_tensor(f"a{i}", [1, size]))
        graph.operators.append(_operator([0, 0], i + 1, "AddOptions"))
    last = 1
    for i in range(2, count + 1):
        graph.tensors.append(_tensor(f"s{i}", [1, size]))
        graph.operators.append(_operator([last, i], len(graph.tensors) - 1, "AddOptions"))
        last = len(graph.tensors) - 1
    return _packed(graph, [schema.BufferT()], schema.BuiltinOperator.ADD, 1)
