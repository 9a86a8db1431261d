"""Replays, in this process, on models made by hand."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepack.lab import LabRequest, replay


def doubling(shape: list[int]) -> bytes:
    """y = x + x, of any shape."""
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, schema.TensorType.FLOAT32, 0
        graph.tensors.append(tensor)
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 0], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_a_scalar_input_stays_one():
    feeds = {"x": np.array([1.5, 2.0, -3.0], np.float32)}
    request = LabRequest(model=doubling([]), engine="ai-edge-litert", num_threads=1, feeds=feeds)
    assert replay(request).outputs["y"].tolist() == [3.0, 4.0, -6.0]
