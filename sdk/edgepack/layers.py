"""The layers of a float model as a mixed precision names them: what there is to choose, for people and for a search.

Read from the file alone, so that any process may ask; nothing of the model runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgepack.flatbuffer import ModelView, SubgraphView
from edgepack.passes._expand import unpacking
from edgepack.passes._forms import FLOATS, STATIC, WEIGHT_BITS, form_of
from edgepack.schemes import WEIGHT_INPUTS

__all__ = ["Layer", "layers_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator of the main graph: `index` is its place in the file, `name` that of the first tensor it computes.

    `elements` are those of its constant weights; 0 has nothing to store smaller. `stored` says where they are: layers
    that have the same share them, and lose that where their precisions differ.
    """

    index: int
    name: str
    operator: str
    elements: int
    stored: tuple[int, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """How many bytes the weights take as float32."""
        return self.elements * WEIGHT_BITS["float32"] // 8

    def precisions(self, engine: str) -> tuple[str, ...]:
        """Return the precisions this layer can have on an engine (``name==version``), float32 among them."""
        if not self.elements:
            return ("float32", *STATIC)
        return tuple(s for s in WEIGHT_BITS if s in FLOATS or form_of(self.operator, s, engine) == s)


def layers_of(model: ModelView) -> tuple[Layer, ...]:
    """Return the main graph's operators in the file's order, without those that only unpack constants.

    Weights that several layers share are counted with each of them.
    """
    graph = model.subgraphs[0]
    unpackers = {index: graph.operators[index] for index, _ in unpacking(model)}
    unpacked = {operator.outputs[0]: operator.inputs[0] for operator in unpackers.values()}
    found = []
    for index, operator in enumerate(graph.operators):
        if index in unpackers:
            continue
        weights = list(_weights(graph, index, unpacked))
        name = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
        found.append(
            Layer(
                index=index,
                name=name,
                operator=operator.name,
                elements=sum(count for _, count in weights),
                stored=tuple(buffer for buffer, _ in weights),
            )
        )
    return tuple(found)


def _weights(graph: SubgraphView, index: int, unpacked: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Yield each constant weight of an operator: its buffer, and how many elements it has."""
    operator = graph.operators[index]
    for place in WEIGHT_INPUTS.get(operator.name, ()):
        tensor = operator.inputs[place] if place < len(operator.inputs) else -1
        source = tensor
        while source in unpacked:
            source = unpacked[source]
        if source >= 0 and graph.tensors[source].is_constant:
            yield graph.tensors[source].buffer, math.prod(graph.tensors[tensor].shape)
