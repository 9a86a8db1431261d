"""A TFLite file's interface: which tensor is which input or output of the source, by name, order and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.converters._edges import NOWHERE, Port, entered, left
from edgepack.errors import ConversionError
from edgepack.opversions import BUILT_IN_CUSTOM
from edgepack_runtime.tensors import TensorSpec

__all__ = [
    "SIGNATURE_KEY",
    "Port",
    "check_inputs",
    "custom_operators",
    "fitted_ports",
    "in_order",
    "refuse_foreign_operators",
    "signature_entries",
    "with_fixed_batch",
    "with_signature",
]

SIGNATURE_KEY = "serving_default"
# What a file may compute in, by the source's type.
_COMPUTED_IN = {
    "float16": ("float32",),
    "float64": ("float32",),
    "int8": ("int32",),
    "uint8": ("int32",),
    "int16": ("int32",),
    "bool": ("int32",),
    "int64": ("int32",),
}
_STATE_OPERATORS = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})


def _schema() -> Any:
    """Return the TFLite schema of whichever package this environment has."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        from tensorflow.lite.python import schema_py_generated as schema
    return schema


def with_signature(data: bytes, inputs: Sequence[Port], outputs: Sequence[Port]) -> bytes:
    """Return the file with one signature, ``serving_default``, of `inputs` and `outputs` in that order.

    The graph's own inputs and outputs get the same order and names, and operators where layout, shape or dtype is not
    the source's.
    """
    import flatbuffers

    schema = _schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    sources = [entered(schema, model, port) for port in inputs]
    graph.inputs = sources
    results = [left(schema, model, port) for port in outputs]
    graph.outputs = results
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE_KEY
    signature.subgraphIndex = 0
    signature.inputs = [_entry(schema, p.name, t) for p, t in zip(inputs, sources, strict=True)]
    signature.outputs = [_entry(schema, p.name, t) for p, t in zip(outputs, results, strict=True)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _entry(schema: Any, name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


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
        if custom in BUILT_IN_CUSTOM:
            continue
        if name == "CUSTOM" or custom:
            kind = "TensorFlow (Flex)" if custom.startswith("Flex") else "custom"
            raise ConversionError(
                f"the model needs the {kind} operator {custom.removeprefix('Flex')!r}{_place(model, i)}, "
                "which tflite-runtime and ai-edge-litert do not have",
                hint="replace it by standard operators in the source model",
            )
        if name in _STATE_OPERATORS and not stateful:
            raise ConversionError(f"the model keeps state between calls ({name}), which a conversion would lose")


def _place(model: Any, code: int) -> str:
    """Return where an operator code is first used, as the name of what it gives: TFLite's operators have none."""
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            if operator.OpcodeIndex() == code and operator.OutputsLength():
                name = graph.Tensors(operator.Outputs(0)).Name() or b""
                return f" (it gives {name.decode('utf-8', 'replace')!r})" if name else ""
    return ""


def custom_operators(data: bytes) -> list[str]:
    """Return the names of the operators in the file that are none of TFLite's own."""
    model = _schema().Model.GetRootAs(data, 0)
    codes = (model.OperatorCodes(i).CustomCode() for i in range(model.OperatorCodesLength()))
    return [code.decode("utf-8", "replace") for code in codes if code]


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


def check_inputs(data: bytes, specs: Sequence[TensorSpec]) -> None:
    """Refuse a file whose first graph's inputs are not `specs`.

    Raises:
        ConversionError: a dtype or shape is another one.
    """
    schema = _schema()
    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    for i, spec in enumerate(specs):
        found = _spec(schema, graph.Tensors(graph.Inputs(i)), spec.name)
        if found != TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape):
            raise ConversionError(f"input {found} came out, the source has {spec}")


def _spec(schema: Any, tensor: Any, name: str) -> TensorSpec:
    names = {v: k.lower() for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    return TensorSpec(name=name, dtype=names.get(tensor.Type(), "unknown"), shape=shape)


def fitted_ports(data: bytes, specs: Sequence[tuple[str, TensorSpec]], found: Mapping[str, int]) -> list[Port]:
    """Return ports that give the file the source's dtypes and shapes where that is a matter of its edges.

    That is where the source has a scalar and the file one element, and where the file computes in a wider or the
    usual type, which is narrower for int64 and float64. An input that no output depends on is an input all the same.

    Args:
        data: the TFLite file.
        specs: our name in the file, and what the source has.
        found: the file's tensors by our name.
    """
    schema = _schema()
    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    ports = []
    for ours, spec in specs:
        if ours not in found:
            ports.append(Port(name=spec.name, tensor=NOWHERE, dtype=spec.dtype, shape=spec.shape))
            continue
        inner = _spec(schema, graph.Tensors(found[ours]), spec.name)
        ports.append(
            Port(
                name=spec.name,
                tensor=found[ours],
                dtype=spec.dtype if inner.dtype in _COMPUTED_IN.get(spec.dtype, ()) else "",
                shape=() if spec.shape == () and inner.shape == (1,) else None,
            )
        )
    return ports
