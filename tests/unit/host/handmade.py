"""TFLite models written by hand, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

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
