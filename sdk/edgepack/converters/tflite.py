"""TensorFlow Lite files: kept as they are, but for a signature where they have none, and true operator versions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.converters._interface import Port, refuse_foreign_operators, with_fixed_batch, with_signature
from edgepack.converters._options import read_options
from edgepack.converters._parity import run_graph, without_batch
from edgepack.dataset import bind_feeds
from edgepack.errors import ConversionError
from edgepack.model import Conversion, ConversionRequest
from edgepack.opversions import stamp
from edgepack_runtime.tensors import DTYPES, QuantizationParameters, TensorSpec

if TYPE_CHECKING:
    from edgepack.flatbuffer import ModelView, Signature, TensorView

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert"]

FORMATS = ("tflite",)
ROAD = "tflite"
TOOLCHAIN = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`signature_key` names the signature to keep where the file has several, unless all of them are to be kept."""

    signature_key: str = ""
    keep_signatures: bool = False


def convert(request: ConversionRequest) -> Conversion:
    """Return the file, with one signature or all it has, and the outputs of one on the samples.

    A model that keeps state between calls (streaming) sees the samples as one stream, in order.

    Raises:
        SourceModelError: the file is malformed.
        ConversionError: it has several signatures, an open dimension, or operators no device has.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    from edgepack.flatbuffer import read_model

    options = read_options(Options, request.options)
    data = request.source.read_bytes()
    view = read_model(data)
    stateful = any(
        operator.name == "VAR_HANDLE" or any(t.variable for t in graph.tensors)
        for graph, operator in view.operators()
    )
    refuse_foreign_operators(data, stateful=stateful)
    keep = options.keep_signatures and len(view.signatures) > 1
    inputs, outputs, notes = _ports(view, _first_key(view, options.signature_key) if keep else options.signature_key)
    if keep:
        notes = ("the other signatures are kept as they are; all that was measured or proven is of this one",)
    tensors = view.subgraphs[0].tensors
    input_specs = tuple(_spec(port.name, tensors[port.tensor]) for port in inputs)
    feeds = bind_feeds(request.feeds, input_specs, "calibration data")
    # The reference is the file as it was given; what is edited below must compute the same.
    rows = dict(zip(view.subgraphs[0].outputs, run_graph(_interpreter(data), feeds, input_specs), strict=True))
    if any(-1 in tensors[port.tensor].shape_signature for port in inputs):
        data = with_fixed_batch(data)
        notes += ("the batch, left open in the file, is fixed to 1",)
    if not keep and not _has_interface(view, inputs, outputs):
        data = with_signature(data, inputs, outputs)
    if (stamped := stamp(data)) != data:
        data = stamped
        notes += ("operator versions and min_runtime_version were corrected",)
    _interpreter(data)
    reference = {port.name: np.stack([without_batch(v) for v in rows[port.tensor]]) for port in outputs}
    output_specs = tuple(_output_spec(p.name, tensors[p.tensor], rows[p.tensor][0]) for p in outputs)
    notes += _quantization_notes(view)
    if stateful:
        notes += ("the model keeps state between calls: the samples were run as one stream, in order",)
    return Conversion(
        tflite=data,
        inputs=input_specs,
        outputs=output_specs,
        reference=reference,
        tool="none (the source is TFLite)",
        notes=notes,
    )


def _interpreter(data: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=data, num_threads=2)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ConversionError(f"the TFLite interpreter refuses the model: {_first_line(error)}") from error
    return interpreter


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _first_key(view: ModelView, wanted: str) -> str:
    """Return the signature that a device runs where none is named; see `edgepack_runtime.engines.Engine`."""
    keys = sorted(
        (s.key for s in view.signatures if s.subgraph == 0), key=lambda key: (key != "serving_default", key)
    )
    if not keys or wanted not in ("", keys[0]):
        raise ConversionError(
            f"where all signatures are kept, the first one is {', '.join(keys[:1]) or 'missing'}, not {wanted!r}",
            hint="leave signature_key out; the first is of the file's first graph",
        )
    return keys[0]


def _ports(view: ModelView, key: str) -> tuple[tuple[Port, ...], tuple[Port, ...], tuple[str, ...]]:
    """Return inputs and outputs in the graph's order, and what was decided about their names."""
    keys = [signature.key for signature in view.signatures]
    if key and key not in keys:
        raise ConversionError(f"there is no signature {key!r}; the model has {keys}")
    chosen = [s for s in view.signatures if s.key == key] if key else list(view.signatures)
    if len(chosen) > 1:
        raise ConversionError(
            f"the model has {len(chosen)} signatures: {', '.join(keys)}",
            hint="choose one with --signature-key, or keep_signatures",
        )
    graph = view.subgraphs[0]
    if not chosen:
        inputs = _by_tensor_name(graph.inputs, graph.tensors)
        outputs = _by_tensor_name(graph.outputs, graph.tensors)
        return inputs, outputs, ("the file had no signature: its tensors' names are used",)
    signature = chosen[0]
    if signature.subgraph != 0:
        raise ConversionError(f"signature {signature.key!r} is about graph {signature.subgraph}, not the first one")
    dropped = tuple(f"signature {k!r} was left out" for k in keys if k != signature.key)
    return (
        _in_graph_order(signature, "inputs", graph.inputs),
        _in_graph_order(signature, "outputs", graph.outputs),
        dropped,
    )


def _in_graph_order(signature: Signature, which: str, order: tuple[int, ...]) -> tuple[Port, ...]:
    entries: tuple[tuple[str, int], ...] = getattr(signature, which)
    place = {tensor: i for i, tensor in reversed(list(enumerate(order)))}
    if not {tensor for _, tensor in entries} <= place.keys() or (which == "inputs" and len(entries) != len(order)):
        raise ConversionError(f"signature {signature.key!r} does not cover the graph's {which}")
    return tuple(Port(name=n, tensor=t) for n, t in sorted(entries, key=lambda e: place[e[1]]))


def _by_tensor_name(indices: tuple[int, ...], tensors: tuple[TensorView, ...]) -> tuple[Port, ...]:
    names = Counter(tensors[i].name for i in indices)
    return tuple(
        Port(
            name=tensors[i].name if tensors[i].name and names[tensors[i].name] == 1 else f"tensor_{i}",
            tensor=i,
        )
        for i in indices
    )


def _has_interface(view: ModelView, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> bool:
    graph = view.subgraphs[0]
    same = (tuple(p.tensor for p in inputs), tuple(p.tensor for p in outputs)) == (
        graph.inputs,
        graph.outputs,
    )
    return same and [s.key for s in view.signatures] == ["serving_default"]


def _spec(name: str, tensor: TensorView) -> TensorSpec:
    if any(d < 0 for d in tensor.shape_signature[1:]):
        raise ConversionError(
            f"input {name!r} has the shape {['?' if d < 0 else d for d in tensor.shape_signature]}: "
            "a device needs every dimension fixed",
            hint="convert the model again from its source, with fixed shapes",
        )
    return _checked(name, tensor, tuple(max(1, d) for d in tensor.shape))


def _output_spec(name: str, tensor: TensorView, value: Any) -> TensorSpec:
    return _checked(name, tensor, tuple(int(d) for d in value.shape))


def _checked(name: str, tensor: TensorView, shape: tuple[int, ...]) -> TensorSpec:
    if tensor.dtype not in DTYPES:
        raise ConversionError(f"tensor {name!r} is of type {tensor.dtype}; known are {', '.join(DTYPES)}")
    quantization = None
    if tensor.scales:
        quantization = QuantizationParameters(
            scale=tensor.scales, zero_point=tensor.zero_points, quantized_dimension=tensor.quantized_dimension
        )
    return TensorSpec(name=name, dtype=tensor.dtype, shape=shape, quantization=quantization)


def _quantization_notes(view: ModelView) -> tuple[str, ...]:
    weights: Counter[str] = Counter()
    seen = set()
    for graph in view.subgraphs:
        for tensor in graph.tensors:
            stores_numbers = tensor.dtype == "float16" or (tensor.is_quantized and tensor.dtype != "int32")
            if tensor.is_constant and stores_numbers and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                weights[tensor.dtype] += tensor.constant_bytes
    if not weights:
        return ()
    share = ", ".join(f"{size} bytes of {dtype}" for dtype, size in weights.most_common())
    return (f"the source is already quantized: {share} among {view.weight_bytes} bytes of constants",)
