"""Float16 constants, float32 arithmetic: half the size, next to no loss, no calibration.

::

    w(f32) -> CONV_2D   =>   w(f16) -> DEQUANTIZE -> w(f32) -> CONV_2D

This is the form TensorFlow's converter writes. Engines unpack the constants when the model is loaded (XNNPACK into
its own packed copy), so memory while running is that of float32. A convolution's bias goes with its weights, however
small it is: ai-edge-litert 1.1 to 1.3 read a float32 bias beside float16 weights as if it were float16 too (measured:
CONV_2D gives wrong numbers without a word, DEPTHWISE_CONV_2D does not load).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.opversions import stamp
from edgepack.passes._quantizer import check_signature, describe_weights, load_source, read_options
from edgepack.schemes import scheme_of
from edgepack_runtime.tensors import Array

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`min_elements`: smaller constants stay float32, as the extra operator would take more than it saves."""

    min_elements: int = 128


def run(request: PassRequest) -> PassResult:
    """Return the model with its float constants stored as float16.

    Raises:
        PassError: an option is wrong, the model is quantized already, or nothing is large enough to convert.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    check_signature(read_model(request.model))
    if scheme_of(request.model) == SCHEME:
        return PassResult(
            model=stamp(request.model), tool="edgepack", notes=("the source's weights are float16 already",)
        )
    source = load_source(request)
    model = edit.unpack(source.data)
    notes: list[str] = []
    for graph in model.subgraphs:
        notes.extend(_convert(model, graph, options.min_elements))
    data = stamp(edit.pack(model))
    count, weight_notes = describe_weights(data, "float16")
    if not count:
        raise PassError(
            f"no weights were converted: {'; '.join((*weight_notes[1:], *notes))}",
            hint=f"constants of fewer than {options.min_elements} elements stay float32",
        )
    return PassResult(model=data, tool="edgepack", notes=(*source.notes, *weight_notes, *notes))


def _convert(model: Any, graph: Any, min_elements: int) -> list[str]:
    """Put a DEQUANTIZE behind each large float32 constant of a graph; return what had to stay."""
    from ai_edge_litert import schema_py_generated as schema

    kept, unpacking = [], []
    outputs = {int(i) for i in graph.outputs}
    biases = _biases(model, graph, min_elements)
    for index in range(len(graph.tensors)):
        tensor = graph.tensors[index]
        if tensor.type != schema.TensorType.FLOAT32 or tensor.sparsity is not None or index in outputs:
            continue
        value = edit.constant(model, tensor, "float32")
        if value is None or (value.size < min_elements and index not in biases):
            continue
        if not _fits(value):
            kept.append(f"kept float32: {tensor.name.decode()} has values float16 cannot hold")
            continue
        unpacked = schema.TensorT(
            name=tensor.name + b"_float32", shape=list(tensor.shape), type=schema.TensorType.FLOAT32, buffer=0
        )
        tensor.type = schema.TensorType.FLOAT16
        tensor.buffer = edit.add_buffer(model, value.astype(np.float16).tobytes())
        graph.tensors.append(unpacked)
        _redirect(graph, index, len(graph.tensors) - 1)
        unpacking.append(
            schema.OperatorT(opcodeIndex=_dequantize_code(model), inputs=[index], outputs=[len(graph.tensors) - 1])
        )
    graph.operators = [*unpacking, *graph.operators]
    edit.drop_unused_buffers(model)
    return kept


def _biases(model: Any, graph: Any, min_elements: int) -> set[int]:
    """Return the biases of the convolutions whose weights are converted; one that others use too is doubled."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    converted, others = [], set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        weights = None
        if max(code.builtinCode, code.deprecatedBuiltinCode) in wanted and len(operator.inputs) > 2:
            tensor = graph.tensors[operator.inputs[1]]
            weights = edit.constant(model, tensor, "float32") if tensor.type == schema.TensorType.FLOAT32 else None
        if weights is not None and weights.size >= min_elements and _fits(weights) and operator.inputs[2] >= 0:
            converted.append(operator)
        else:
            others |= {int(i) for i in operator.inputs}
    for operator in converted:
        bias = int(operator.inputs[2])
        if bias in others:
            graph.tensors.append(copy.copy(graph.tensors[bias]))
            graph.tensors[-1].name += f"_{len(graph.tensors)}".encode()
            operator.inputs = [*operator.inputs[:2], len(graph.tensors) - 1, *operator.inputs[3:]]
    return {int(operator.inputs[2]) for operator in converted}


def _fits(value: Array) -> bool:
    return bool(np.isfinite(value).all() and np.abs(value).max() <= np.finfo(np.float16).max)


def _redirect(graph: Any, old: int, new: int) -> None:
    for operator in graph.operators:
        operator.inputs = [new if i == old else i for i in operator.inputs]


def _dequantize_code(model: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    wanted = schema.BuiltinOperator.DEQUANTIZE
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=wanted, builtinCode=wanted, version=1))
    return len(model.operatorCodes) - 1
