"""Constants with as many dimensions as what they are chosen or compared with.

::

    SELECT_V2(mask[1, 8, 8, 3], x[1, 8, 8, 3], c[]) -> y   =>   SELECT_V2(mask, x, c[1, 1, 1, 1]) -> y

All integers of such an operator are on the output's scale. ai-edge-quantizer gives the constant that scale, with as
many dimensions as the output has, and stops where the constant has fewer. Broadcasting puts dimensions of one in
front, so what is computed stays the same.
"""

from __future__ import annotations

import copy

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import SubgraphView, read_model

__all__ = ["with_full_ranks"]

# The operators that broadcast and compute on their output's scale, and the inputs that are on it.
_ON_OUTPUTS_SCALE = {"MAXIMUM": (0, 1), "SELECT_V2": (1, 2)}


def with_full_ranks(data: bytes) -> bytes:
    """Return the model with such constants, of all such operators; the same bytes if there are none.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(data)
    wanted = [(i, *found) for i, graph in enumerate(view.subgraphs) for found in _of_lower_rank(graph)]
    if not wanted:
        return data
    model = edit.unpack(data)
    for i, position, place, rank in wanted:
        graph = model.subgraphs[i]
        inputs = [int(index) for index in graph.operators[position].inputs]
        readers = sum(list(operator.inputs).count(inputs[place]) for operator in graph.operators)
        if readers > 1 or inputs[place] in graph.outputs:
            # Others read it as it is. Left without a reader, a tensor would keep its type and lose its content.
            graph.tensors.append(copy.copy(graph.tensors[inputs[place]]))
            inputs[place] = len(graph.tensors) - 1
            graph.operators[position].inputs = inputs
            graph.tensors[-1].name = f"edgepack_constant_{i}_{position}_{place}"
        tensor = graph.tensors[inputs[place]]
        shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        tensor.shape, tensor.shapeSignature = [1] * (rank - len(shape)) + shape, None
    return edit.pack(model)


def _of_lower_rank(graph: SubgraphView) -> list[tuple[int, int, int]]:
    """Return (operator, input, dimensions that are wanted)."""
    found = []
    for position, operator in enumerate(graph.operators):
        for place in _ON_OUTPUTS_SCALE.get(operator.name, ()):
            tensor = graph.tensors[operator.inputs[place]]
            rank = len(graph.tensors[operator.outputs[0]].shape)
            if tensor.is_constant and tensor.dtype == "float32" and len(tensor.shape) < rank:
                found.append((position, place, rank))
    return found
