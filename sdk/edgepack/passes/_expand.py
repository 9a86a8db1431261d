"""Constants back to plain float32: what float16 and sparse files must become before they can be quantized.

::

    weights(f16) -> DEQUANTIZE -> CONV_2D            =>   weights(f32) -> CONV_2D
    sparse(f16) -> DENSIFY -> DEQUANTIZE -> CONV_2D  =>   weights(f32) -> CONV_2D

A quantizer looks for constants at an operator's input; behind a DEQUANTIZE it finds none, and leaves the layer as it
is without saying so.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import ModelView, read_model
from edgepack_runtime.tensors import Array

__all__ = ["expand", "unique_names", "unpacking"]

_UNPACKING = ("DEQUANTIZE", "DENSIFY")


def unpacking(view: ModelView) -> list[tuple[int, int]]:
    """Return (operator index, output tensor) of the main graph's operators that only unpack float constants."""
    graph = view.subgraphs[0]
    known: set[int] = set()
    found = []
    for index, operator in enumerate(graph.operators):
        if operator.name not in _UNPACKING or len(operator.inputs) != 1 or len(operator.outputs) != 1:
            continue
        source = graph.tensors[operator.inputs[0]]
        if source.dtype in ("float16", "float32") and (source.is_constant or operator.inputs[0] in known):
            known.add(operator.outputs[0])
            found.append((index, operator.outputs[0]))
    return found


def expand(data: bytes) -> tuple[bytes, int]:
    """Return the model with its float16 and sparse constants as float32, and how many there were.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(data)
    targets = unpacking(view)
    if not targets:
        return data, 0
    values = _computed(data, [tensor for _, tensor in targets])
    model = edit.unpack(data)
    graph = model.subgraphs[0]
    removed = {index for index, _ in targets}
    graph.operators = [o for i, o in enumerate(graph.operators) if i not in removed]
    for index, value in values.items():
        if value.dtype == np.float32:
            graph.tensors[index].buffer = edit.add_buffer(model, value.tobytes())
    _drop_unused_tensors(model)
    return edit.pack(model), sum(v.dtype == np.float32 for v in values.values())


def _computed(data: bytes, tensors: list[int]) -> dict[int, Array]:
    """Return the tensors' content as the reference engine computes it, which needs no inputs but zeros."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with warnings.catch_warnings():
        # It warns that keeping all tensors takes memory; that is what it is here for.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = Interpreter(
            model_content=data,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
    interpreter.allocate_tensors()
    interpreter.invoke()
    return {index: np.array(interpreter.get_tensor(index)) for index in tensors}


def _drop_unused_tensors(model: Any) -> None:
    """Remove tensors of the main graph that nothing refers to, and the content only they had."""
    graph = model.subgraphs[0]
    signatures = [s for s in model.signatureDefs or [] if s.subgraphIndex == 0]
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used.update(operator.inputs, operator.outputs, operator.intermediates or ())
    for signature in signatures:
        used.update(entry.tensorIndex for entry in (*signature.inputs, *signature.outputs))
    kept = sorted(i for i in used if i >= 0)
    new = {old: position for position, old in enumerate(kept)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in kept]
    for holder in (graph, *graph.operators):
        holder.inputs = [new[i] for i in holder.inputs]
        holder.outputs = [new[i] for i in holder.outputs]
    for operator in graph.operators:
        operator.intermediates = [new[i] for i in operator.intermediates or ()] or None
    for signature in signatures:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = new[entry.tensorIndex]
    edit.drop_unused_buffers(model)


def unique_names(data: bytes) -> bytes:
    """Return the model with every tensor's name used once: the quantizer tells tensors apart by name only.

    Signature names, which callers use, are others and stay.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    names = [t.name for g in read_model(data).subgraphs for t in g.tensors]
    model = edit.unpack(data)
    if len(set(names)) == len(names) and all(names):
        return edit.pack(model)
    seen: set[str] = set()
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            base = (tensor.name or b"").decode() or f"tensor_{index}"
            name, count = base, 1
            while name in seen or (name != base and name in names):
                count += 1
                name = f"{base}__{count}"
            seen.add(name)
            tensor.name = name
    return edit.pack(model)
