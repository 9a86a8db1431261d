"""A bias of zeros for dense layers without one, where an engine's int8 kernel crashes without.

::

    x[8, 32] -> FULLY_CONNECTED(w) -> y   =>   x[8, 32] -> FULLY_CONNECTED(w, zeros) -> y

tflite-runtime 2.14 crashes on ARM where the bias is missing, the weights have one scale per channel, and there is
more than one row (docs/prediction-matrix.md). What is computed stays the same.
"""

from __future__ import annotations

import math

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import SubgraphView, read_model

__all__ = ["with_biases"]

_NO_TENSOR = -1


def with_biases(data: bytes) -> tuple[bytes, int]:
    """Return the model with a bias of zeros for each float FULLY_CONNECTED of several rows, and how many were added.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(data)
    wanted = [(i, position) for i, graph in enumerate(view.subgraphs) for position in _without_bias(graph)]
    if not wanted:
        return data, 0
    from ai_edge_litert import schema_py_generated as schema

    model = edit.unpack(data)
    for i, position in wanted:
        graph = model.subgraphs[i]
        operator = graph.operators[position]
        x, weights = (int(index) for index in operator.inputs[:2])
        size = int(graph.tensors[weights].shape[0])
        name = f"edgepack_bias_{i}_{position}"
        buffer = edit.add_buffer(model, np.zeros(size, np.float32).tobytes())
        graph.tensors.append(schema.TensorT(name=name, shape=[size], type=schema.TensorType.FLOAT32, buffer=buffer))
        operator.inputs = [x, weights, len(graph.tensors) - 1]
    return edit.pack(model), len(wanted)


def _without_bias(graph: SubgraphView) -> list[int]:
    found = []
    for position, operator in enumerate(graph.operators):
        given = [index != _NO_TENSOR for index in operator.inputs]
        if operator.name != "FULLY_CONNECTED" or given[:2] != [True, True] or any(given[2:]):
            continue
        x, weights = (graph.tensors[index] for index in operator.inputs[:2])
        rows = math.prod(x.shape) > weights.shape[-1]
        if rows and weights.is_constant and weights.dtype == "float32":
            found.append(position)
    return found
