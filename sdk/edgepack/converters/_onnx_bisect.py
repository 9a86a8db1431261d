"""The first node of an ONNX graph that a road gets wrong: its outputs become the graph's, the road starts anew."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.converters._bisect import EQUAL, Layer, first_differing, said_by
from edgepack.converters._onnx_reference import Attempt, Source, Tool, travelled
from edgepack.dataset import take_samples
from edgepack.errors import ConversionError
from edgepack.model import Divergence
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

__all__ = ["first_wrong_node"]

_SAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What is the same for every piece; `values` are onnxruntime's of every tensor there is, [n, ...] by name."""

    source: Source
    feeds: Mapping[str, Array]
    values: Mapping[str, Array]
    attempts: Callable[[Source], Iterable[Attempt]]
    tool: Tool
    scratch: Path


def first_wrong_node(
    source: Source, attempts: Callable[[Source], Iterable[Attempt]], tool: Tool, scratch: Path
) -> Divergence:
    """Return which node differs first, on a few samples, and if those agree on the edge cases.

    Args:
        source: the model and its samples; half of the edge cases are shaken ones.
        attempts: what the road tries for a model.
        tool: the road.
        scratch: a private folder.

    Raises:
        ConversionError: onnxruntime does not give what is inside the graph.
    """
    count, edges = len(next(iter(source.feeds.values()))), source.edges
    samples = [np.unique(np.linspace(0, count - edges - 1, min(count - edges, _SAMPLES)).astype(int))]
    if edges:
        samples.append(np.arange(count - edges, count - edges // 2))
    for index in samples:
        feeds = take_samples(source.feeds, index)
        search = _Search(
            source=source,
            feeds=feeds,
            values=_values(source, feeds),
            attempts=attempts,
            tool=tool,
            scratch=scratch,
        )
        for output in source.outputs:
            nodes = [n for n in _ancestors(source.model.graph, [output.name]) if _outputs(n, search.values)]
            layers = [Layer(name=_name(node), operator=node.op_type) for node in nodes]
            found = first_differing(layers, partial(_said_at, search, nodes))
            if found is not None:
                return found
    return EQUAL


def _name(node: Any) -> str:
    return str(node.name or next(name for name in node.output if name))


def _said_at(search: _Search, nodes: Sequence[Any], i: int) -> str:
    return _said(search, _outputs(nodes[i], search.values))


def _values(source: Source, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return onnxruntime's value of every tensor in the graph, [n, *shape], where it is one of a known type."""
    import onnx
    import onnxruntime

    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
        rows = [
            session.run(names, {spec.name: np.asarray(feeds[spec.name][i]) for spec in source.inputs})
            for i in range(len(next(iter(feeds.values()))))
        ]
    except Exception as error:
        raise ConversionError(f"onnxruntime gives no intermediate values: {error}") from error
    values = {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        known = all(isinstance(v, np.ndarray) and str(v.dtype) in DTYPES for v in column)
        if known and len({v.shape for v in column}) == 1:
            values[name] = np.stack(column)
    return values


def _outputs(node: Any, values: Mapping[str, Array]) -> list[str]:
    return [name for name in node.output if name in values and values[name].size]


def _inner_names(node: Any) -> set[str]:
    """Return what a node reads, also inside its own graphs."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                names |= _inner_names(inner)
    return names


def _ancestors(graph: Any, names: Sequence[str]) -> list[Any]:
    """Return the nodes on which `names` depend, in the graph's order."""
    needed, kept = set(names), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= _inner_names(node)
    return kept[::-1]


def _said(search: _Search, names: Sequence[str]) -> str:
    """Return how far the network up to the tensors `names` is off once converted; '' if it is equal."""
    piece = _piece(search, names)
    if not piece.inputs:
        return ""
    folder = tempfile.mkdtemp(dir=search.scratch)
    try:
        travelled(piece, search.attempts(piece), search.tool, Path(folder))
    except ConversionError as error:
        return said_by(error)
    return ""


def _piece(search: _Search, names: Sequence[str]) -> Source:
    import onnx

    source, model = search.source, onnx.ModelProto()
    model.CopyFrom(source.model)
    nodes = _ancestors(model.graph, names)
    read = {name for node in nodes for name in _inner_names(node)}
    specs = [
        TensorSpec(name=name, dtype=str(search.values[name].dtype), shape=search.values[name].shape[1:])
        for name in names
    ]
    kept = {
        "node": nodes,
        "input": [value for value in model.graph.input if value.name in read],
        "initializer": [tensor for tensor in model.graph.initializer if tensor.name in read],
        "output": [
            onnx.helper.make_tensor_value_info(
                spec.name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape
            )
            for spec in specs
        ],
    }
    for field, items in kept.items():
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(copies)
    inputs = tuple(spec for spec in source.inputs if spec.name in read)
    return Source(
        model=model,
        inputs=inputs,
        outputs=tuple(specs),
        feeds={spec.name: search.feeds[spec.name] for spec in inputs},
        reference={name: search.values[name] for name in names},
        limit=source.limit,
    )
