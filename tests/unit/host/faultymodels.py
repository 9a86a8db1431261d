"""Small float networks, made by hand, in which a test plants the fault that it wants found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepack import _flatbuffer_edit as edit
from edgepack.converters._interface import Port, with_signature
from edgepack.model import PassRequest
from edgepack.passes import full_integer
from edgepack_runtime.tensors import Array

LITERT = "ai-edge-litert==2.3.0"
WIDTH = 16
Plant = Mapping[int, Callable[[Array], None]]


class _Graph:
    """A float model as it grows."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name: str, shape: list[int], content: Array | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, schema.TensorType.FLOAT32, 0
        if content is not None:
            tensor.buffer = edit.add_buffer(self.model, content.astype(np.float32).tobytes())
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add(self, kind: str, options: str, inputs: list[int], output: int) -> int:
        code = getattr(schema.BuiltinOperator, kind)
        known = [c.builtinCode for c in self.model.operatorCodes]
        if code not in known:
            new = schema.OperatorCodeT()
            new.builtinCode = new.deprecatedBuiltinCode = code
            new.version = 1
            self.model.operatorCodes.append(new)
            known.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = known.index(code), inputs, [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
        self.graph.operators.append(operator)
        return output

    def dense(self, source: int, name: str, weights: Array) -> int:
        matrix = self.tensor(f"{name}_w", list(weights.shape), weights)
        bias = self.tensor(f"{name}_b", [len(weights)], np.zeros(len(weights)))
        output = self.tensor(name, [1, len(weights)])
        return self.add("FULLY_CONNECTED", "FullyConnectedOptions", [source, matrix, bias], output)

    def packed(self, source: int, result: int) -> bytes:
        self.graph.inputs, self.graph.outputs = [source], [result]
        return with_signature(
            edit.pack(self.model), (Port(name="x", tensor=source),), (Port(name="y", tensor=result),)
        )


def network(
    plant: Plant | None = None, *, concat: bool = False, branch: float = 1.0, logarithm: bool = False
) -> bytes:
    """Return x -> h0 -> h1 -> (concat with a branch of x) -> (log of its square) -> h2 = y.

    Args:
        plant: changes to the weights of h0, h1, h2.
        concat: whether there is the branch.
        branch: how large its values are.
        logarithm: whether there is the logarithm.
    """
    rng, made = np.random.default_rng(4), _Graph()

    def weights(place: int, inputs: int) -> Array:
        found: Array = rng.normal(scale=inputs**-0.5, size=(WIDTH, inputs))
        if place in (plant or {}):
            (plant or {})[place](found)
        return found

    x = made.tensor("x", [1, WIDTH])
    last = made.dense(made.dense(x, "h0", weights(0, WIDTH)), "h1", weights(1, WIDTH))
    ends = weights(2, 2 * WIDTH if concat else WIDTH)
    if concat:
        side = made.dense(x, "side", weights(3, WIDTH) * branch)
        ends[:, WIDTH:] /= branch
        both = made.tensor("both", [1, 2 * WIDTH])
        last = made.add("CONCATENATION", "ConcatenationOptions", [last, side], both)
        made.graph.operators[-1].builtinOptions.axis = 1
    if logarithm:
        square = made.add("MUL", "MulOptions", [last, last], made.tensor("square", [1, WIDTH]))
        small = made.tensor("small", [], np.array(1e-6))
        safe = made.add("ADD", "AddOptions", [square, small], made.tensor("safe", [1, WIDTH]))
        last = made.add("LOG", "", [safe], made.tensor("log", [1, WIDTH]))
    y = made.dense(last, "h2", ends)
    return made.packed(x, y)


def quantized(model: bytes, calibration: Mapping[str, Array]) -> bytes:
    """Return the model in int8."""
    asked = PassRequest(model=model, engine=LITERT, options='{"outliers": 0}', calibration=calibration)
    return full_integer.run(asked).model


def changed(data: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """Return the model after `change(its graph, model)`."""
    model = edit.unpack(data)
    change(model.subgraphs[0], model)
    return edit.pack(model)


def operators(model: Any, kind: str) -> list[Any]:
    """Return the operators of a kind, in order."""
    wanted = getattr(schema.BuiltinOperator, kind)
    codes = [code.builtinCode for code in model.operatorCodes]
    return [o for o in model.subgraphs[0].operators if codes[o.opcodeIndex] == wanted]


def tensor_of(model: Any, kind: str, place: int) -> Any:
    """Return what the operator of a kind at a place among these computes."""
    return model.subgraphs[0].tensors[int(operators(model, kind)[place].outputs[0])]
