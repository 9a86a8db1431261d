"""An ONNX graph before conversion: what it takes and gives, and the clean forms the roads start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.converters._options import check_shape_names, fixed_shape
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import DTYPES, TensorSpec

__all__ = ["CLEANERS", "INPUT", "OUTPUT", "input_specs", "prepared", "recurrent_operators"]

INPUT, OUTPUT = "edgepack_in_{}", "edgepack_out_{}"
CLEANERS = ("onnxslim", "onnxsim", "as it is")
# IR version 4 is the first in which an initializer need not be listed as an input too.
_IR_VERSION = 4
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def _true_inputs(model: Any) -> list[Any]:
    initializers = {i.name for i in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initializers]


def _dimensions(value: Any) -> list[int | None] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]


def _dtype(value: Any) -> str:
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ConversionError(
            f"{value.name!r} is a {kind.removesuffix('_type') if kind else 'value of no type'}, no tensor"
        )
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except (KeyError, ValueError, TypeError):
        dtype = "unknown"
    if dtype not in DTYPES:
        name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        raise ConversionError(f"{value.name!r} is of type {name}; known are {', '.join(DTYPES)}")
    return dtype


def input_specs(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[TensorSpec, ...]:
    """Return the inputs that are no initializers, with the batch fixed to 1.

    Raises:
        ConversionError: there is none, one is no tensor of a known type, or has a dimension that is not fixed.
    """
    values = _true_inputs(model)
    if not values:
        raise ConversionError("the model has no input")
    check_shape_names(shapes, [value.name for value in values])
    return tuple(
        TensorSpec(name=v.name, dtype=_dtype(v), shape=fixed_shape(v.name, _dimensions(v), shapes)) for v in values
    )


def recurrent_operators(graph: Any) -> set[str]:
    """Return which of the recurrent operators the graph or one inside it has."""
    found = {node.op_type for node in graph.node} & _RECURRENT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= recurrent_operators(attribute.g)
    return found


def prepared(model: Any, specs: Sequence[TensorSpec]) -> Any:
    """Return a copy with fixed input shapes, initializers out of the inputs, and names of our own at the edges.

    Converters rename, reorder or choke on names such as ``serving_default_x:0``; with Identity nodes in front and
    behind, what they are given is ``edgepack_in_0`` and so on, and subgraphs need not be touched.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, _IR_VERSION)
    graph = copy.graph
    inputs, outputs = _true_inputs(copy), list(graph.output)
    head, tail = [], []
    for i, (value, spec) in enumerate(zip(inputs, specs, strict=True)):
        head.append(onnx.helper.make_node("Identity", [INPUT.format(i)], [value.name]))
        value.name = INPUT.format(i)
        value.type.tensor_type.ClearField("shape")
        for size in spec.shape:
            value.type.tensor_type.shape.dim.add().dim_value = size
        value.type.tensor_type.shape.SetInParent()
    for i, value in enumerate(outputs):
        tail.append(onnx.helper.make_node("Identity", [value.name], [OUTPUT.format(i)]))
        value.name = OUTPUT.format(i)
        # Shapes inferred for an open batch would contradict the fixed one.
        value.type.tensor_type.ClearField("shape")
    nodes = list(graph.node)
    for i, node in enumerate(nodes):
        if node.op_type in _RECURRENT:
            # With one left out, onnx2tf turns what follows into custom operators.
            node.output[:] = [name or f"edgepack_unused_{i}_{k}" for k, name in enumerate(node.output)]
    for field, items in ((graph.input, inputs), (graph.node, head + nodes + tail)):
        kept = list(items)
        del field[:]
        field.extend(kept)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(copy)


def cleaned(model: Any, cleaner: str) -> Any:
    """Return what the tool `cleaner`, one of `CLEANERS`, makes of a prepared model."""
    if cleaner == "onnxslim":
        import onnxslim

        return onnxslim.slim(model)
    if cleaner == "onnxsim":
        import onnxsim

        return onnxsim.simplify(model)[0]
    return model
