"""Float models of any size for `tools.bench`: a row of 1x1 convolutions with random weights, a megabyte each."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack._flatbuffer_edit import pack

__all__ = ["CHANNELS", "float_model"]

CHANNELS = 512


def float_model(layers: int, side: int) -> bytes:
    """Return a .tflite file of `layers` MiB whose input is an image of `side` x `side` pixels.

    Fourteen layers on 14 x 14 have the bytes and the multiplications of a MobileNet.
    """
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(layers)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, "bench"
    model.buffers, model.subgraphs = [schema.BufferT()], [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    model.operatorCodes = [code]
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: tuple[int, ...], content: Any = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name, list(shape), schema.TensorType.FLOAT32
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.astype(np.float32).tobytes(), np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    image = (1, side, side, CHANNELS)
    last = tensor("image", image)
    graph.inputs = [last]
    for i in range(layers):
        weights = rng.normal(scale=CHANNELS**-0.5, size=(CHANNELS, 1, 1, CHANNELS))
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        operator = schema.OperatorT()
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
        operator.inputs = [
            last,
            tensor(f"weights{i}", weights.shape, weights),
            tensor(f"bias{i}", (CHANNELS,), np.zeros(CHANNELS)),
        ]
        last = tensor(f"layer{i}", image)
        operator.outputs = [last]
        graph.operators.append(operator)
    graph.outputs = [last]
    return pack(model)
