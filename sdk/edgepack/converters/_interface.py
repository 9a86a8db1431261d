"""A TFLite file's interface: which tensor is which input or output of the source, by name, order and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.errors import ConversionError

__all__ = [
    "SIGNATURE_KEY",
    "Port",
    "in_order",
    "refuse_foreign_operators",
    "signature_entries",
    "with_fixed_batch",
    "with_signature",
]

SIGNATURE_KEY = "serving_default"
_STATE_OPERATORS = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """The source's name for the tensor `tensor` of the file.

    A `permutation` other than () says how to get the source's layout from the tensor's, as for numpy.transpose.
    """

    name: str
    tensor: int
    permutation: tuple[int, ...] = ()


def _schema() -> Any:
    """Return the TFLite schema of whichever package this environment has."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        from tensorflow.lite.python import schema_py_generated as schema
    return schema


def with_signature(data: bytes, inputs: Sequence[Port], outputs: Sequence[Port]) -> bytes:
    """Return the file with one signature, ``serving_default``, of `inputs` and `outputs` in that order.

    The graph's own inputs and outputs get the same order and names; an output of another layout gets a TRANSPOSE::

        CONV_2D -> [1,24,24,5]            ->   CONV_2D -> [1,24,24,5] -> TRANSPOSE(0,3,1,2) -> mask [1,5,24,24]
    """
    import flatbuffers

    schema = _schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    for port in inputs:
        graph.tensors[port.tensor].name = port.name
    results = [
        _transposed(schema, model, port) if port.permutation else _named_output(graph, port) for port in outputs
    ]
    graph.inputs = [port.tensor for port in inputs]
    graph.outputs = results
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE_KEY
    signature.subgraphIndex = 0
    signature.inputs = [_entry(schema, port.name, port.tensor) for port in inputs]
    signature.outputs = [_entry(schema, p.name, t) for p, t in zip(outputs, results, strict=True)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _entry(schema: Any, name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def _named_output(graph: Any, port: Port) -> int:
    # A tensor can be input and output at once: it keeps the input's name, the signature tells the two apart.
    if port.tensor not in list(graph.inputs):
        graph.tensors[port.tensor].name = port.name
    return port.tensor


def _transposed(schema: Any, model: Any, port: Port) -> int:
    import numpy as np

    graph = model.subgraphs[0]
    source = graph.tensors[port.tensor]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array(port.permutation, "<i4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    order = schema.TensorT()
    order.name = f"{port.name}/layout"
    order.type, order.shape = schema.TensorType.INT32, [len(port.permutation)]
    order.buffer = len(model.buffers) - 1
    result = schema.TensorT()
    result.name, result.type, result.buffer = port.name, source.type, 0
    result.shape = [int(source.shape[axis]) for axis in port.permutation]
    result.quantization = source.quantization
    graph.tensors += [order, result]
    operator = schema.OperatorT()
    operator.opcodeIndex = _transpose_opcode(schema, model, rank=len(port.permutation))
    operator.inputs = [port.tensor, len(graph.tensors) - 2]
    operator.outputs = [len(graph.tensors) - 1]
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _transpose_opcode(schema: Any, model: Any, *, rank: int) -> int:
    transpose = schema.BuiltinOperator.TRANSPOSE
    # op_version.cc: five dimensions need version 4, six version 6.
    version = 6 if rank > 5 else 4 if rank > 4 else 1
    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == transpose:
            code.version = max(code.version, version)
            return i
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = transpose
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def refuse_foreign_operators(data: bytes, *, stateful: bool = False) -> None:
    """Refuse operators that no device's interpreter has, and variables without content.

    Args:
        data: the TFLite file.
        stateful: the source is a TFLite file that keeps state between calls on purpose.

    Raises:
        ConversionError: there is one; the message names it.
    """
    schema = _schema()
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    model = schema.Model.GetRootAs(data, 0)
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "an unknown operator")
        custom = (code.CustomCode() or b"").decode("utf-8", "replace")
        if name == "CUSTOM" or custom:
            if custom.startswith("ONNX_"):
                raise ConversionError(f"onnx2tf has no TFLite operators for the ONNX operator {custom[5:]!r} here")
            kind = "TensorFlow (Flex)" if custom.startswith("Flex") else "custom"
            raise ConversionError(
                f"the model needs the {kind} operator {custom.removeprefix('Flex')!r}, "
                "which tflite-runtime and ai-edge-litert do not have",
                hint="replace it by standard operators in the source model",
            )
        if name in _STATE_OPERATORS and not stateful:
            raise ConversionError(f"the model keeps state between calls ({name}), which a conversion would lose")


def with_fixed_batch(data: bytes) -> bytes:
    """Return the file with every open dimension fixed to the size it has by default, 1 for a batch."""
    import flatbuffers

    schema = _schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.shapeSignature = None
            if tensor.shape is not None:
                tensor.shape = [max(1, int(d)) for d in tensor.shape]
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def signature_entries(data: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """Return the tensors of the file's first signature by name: inputs and outputs; empty if it has none."""
    model = _schema().Model.GetRootAs(data, 0)
    if model.SignatureDefsLength() == 0:
        return {}, {}
    signature = model.SignatureDefs(0)
    return (
        {e.Name().decode(): e.TensorIndex() for e in map(signature.Inputs, range(signature.InputsLength()))},
        {e.Name().decode(): e.TensorIndex() for e in map(signature.Outputs, range(signature.OutputsLength()))},
    )


def in_order(wanted: Sequence[tuple[str, str]], found: Mapping[str, int], what: str) -> list[Port]:
    """Return ports for `wanted`, pairs of our name in the file and the source's name.

    Raises:
        ConversionError: the converter dropped one.
    """
    for ours, name in wanted:
        if ours not in found:
            raise ConversionError(f"the converter dropped {what} {name!r}: no output depends on it")
    return [Port(name=name, tensor=found[ours]) for ours, name in wanted]
