"""An ONNX graph before conversion: what it takes and gives, and the clean forms the roads start from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edgepack.converters._onnx_float32 import has_other_floats, in_float32
from edgepack.converters._onnx_ml import without_ml_operators
from edgepack.converters._onnx_products import as_products
from edgepack.converters._onnx_recurrent import unrolled
from edgepack.converters._options import check_shape_names, first_line, fixed_shape
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import DTYPES, TensorSpec

__all__ = ["FORMS", "INPUT", "OUTPUT", "Form", "forms", "input_specs", "recurrent_operators", "the_model"]

INPUT, OUTPUT = "edgepack_in_{}", "edgepack_out_{}"
# IR version 4 is the first in which an initializer need not be listed as an input too.
_IR_VERSION = 4
_STANDARD, _OPSET = ("", "ai.onnx"), 13
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
# Of one input they are that input; skl2onnx writes such, and onnx2tf does not know it.
_OF_ANY_NUMBER = frozenset({"Sum", "Mean", "Max", "Min"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of a graph; `model` is None where it could not be made, and `said` why."""

    name: str
    model: Any
    said: str = ""


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


def _prepared(model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
    """Return a copy with fixed shapes, initializers out of the inputs, and names of our own at the edges.

    Converters rename, reorder or choke on names such as ``serving_default_x:0``; with Identity nodes in front and
    behind, what they are given is ``edgepack_in_0`` and so on, and subgraphs need not be touched.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, _IR_VERSION)
    if not any(opset.domain in _STANDARD for opset in copy.opset_import):
        # A graph of another domain's operators alone; ours at its edges are standard ones.
        copy.opset_import.append(onnx.helper.make_opsetid("", _OPSET))
    copy = without_ml_operators(copy)
    graph = copy.graph
    head, tail = [], []
    heads, tails = _true_inputs(copy), list(graph.output)
    for i, (value, spec) in enumerate(zip(heads, inputs, strict=True)):
        head.append(onnx.helper.make_node("Identity", [INPUT.format(i)], [value.name]))
        _set(value, INPUT.format(i), spec.shape)
    for i, (value, spec) in enumerate(zip(tails, outputs, strict=True)):
        tail.append(onnx.helper.make_node("Identity", [value.name], [OUTPUT.format(i)]))
        # What was measured: shapes written for an open batch would contradict the fixed one.
        _set(value, OUTPUT.format(i), spec.shape)
    nodes = list(graph.node)
    for i, node in enumerate(nodes):
        # Messages name nodes; the first output is what a viewer shows of one without a name.
        node.name = node.name or next(filter(None, node.output), "")
        if node.op_type in _OF_ANY_NUMBER and node.domain in _STANDARD and len(node.input) == 1:
            node.op_type = "Identity"
        if node.op_type in _RECURRENT:
            # With one left out, onnx2tf turns what follows into custom operators.
            node.output[:] = [name or f"edgepack_unused_{i}_{k}" for k, name in enumerate(node.output)]
    for field, items in ((graph.input, heads), (graph.node, head + nodes + tail)):
        kept = list(items)
        del field[:]
        field.extend(kept)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(copy)


def _set(value: Any, name: str, shape: Sequence[int]) -> None:
    value.name = name
    value.type.tensor_type.ClearField("shape")
    for size in shape:
        value.type.tensor_type.shape.dim.add().dim_value = size
    value.type.tensor_type.shape.SetInParent()


def forms(
    model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], lacking: Container[str] = ()
) -> Iterator[Form]:
    """Yield the forms of a model that are tried one after the other; one that equals an earlier one is left out.

    Args:
        model: as the user gave it.
        inputs: its inputs, of fixed shape.
        outputs: its outputs, as they were found to be.
        lacking: operators the road lacks: replaced from the start by those the standard defines them by, if it does.

    Raises:
        ConversionError: an operator of classical machine learning has no counterpart.
    """
    start, tail = _prepared(model, inputs, outputs), ""
    if wanted := sorted({node.op_type for node in start.graph.node if node.op_type in lacking}):
        # It gives up where it needs a type that shape inference does not find; the road then says what it lacks.
        with suppress(RuntimeError):
            start = _inlined(start, wanted)
        gone = set(wanted) - {node.op_type for node in start.graph.node}
        tail = f", {', '.join(sorted(gone))} inlined" if gone else ""
    starts = {tail: start}
    if has_other_floats(start):
        starts = {tail + ", in float32": in_float32(start)} | starts
    seen = set()
    for tail, begin in starts.items():
        for name, made in FORMS.items():
            try:
                form = made(begin)
            except Exception as error:  # noqa: BLE001 - a cleaner's own exceptions; the graph may do without it
                yield Form(name=name + tail, model=None, said=first_line(error))
                continue
            mark = _fingerprint(form)
            if mark not in seen:
                seen.add(mark)
                yield Form(name=name + tail, model=form)


def the_model(form: Form) -> Any:
    """Return the form's model.

    Raises:
        ConversionError: it could not be made.
    """
    if form.model is None:
        raise ConversionError(form.said)
    return form.model


def _slimmed(model: Any) -> Any:
    import onnxslim

    return onnxslim.slim(model)


def _simplified(model: Any) -> Any:
    import onnxsim

    return onnxsim.simplify(model)[0]


def _unchanged(model: Any) -> Any:
    return model


def _inlined(model: Any, operators: Sequence[str]) -> Any:
    """Return the model with these of its operators replaced by those the standard defines them by, where it does."""
    import onnx.inliner

    ids = [("", operator) for operator in operators]
    inlined = onnx.inliner.inline_selected_functions(model, ids, inline_schema_functions=True)
    return onnx.shape_inference.infer_shapes(inlined)


def _all_inlined(model: Any) -> Any:
    import onnx.inliner

    inlined = onnx.inliner.inline_selected_functions(model, [], exclude=True, inline_schema_functions=True)
    return _slimmed(onnx.shape_inference.infer_shapes(inlined))


def _unrolled(model: Any) -> Any:
    return _slimmed(unrolled(model)) if recurrent_operators(model.graph) else model


def _multiplied(model: Any) -> Any:
    start = model
    # It fails on some forms of Resize; what it would have made constant may be constant already.
    with suppress(Exception):
        start = _slimmed(model)
    products = as_products(start)
    return model if products is start else _slimmed(products)


FORMS: Mapping[str, Callable[[Any], Any]] = {
    "cleaned by onnxslim": _slimmed,
    "cleaned by onnxsim": _simplified,
    "as it is": _unchanged,
    "with recurrent operators as formulas": _unrolled,
    "with resizing and spectra as products": _multiplied,
    "with its functions inlined": _all_inlined,
}


def _fingerprint(model: Any) -> str:
    """Return a digest that is the same for two graphs whose tensors and nodes differ in their names only."""
    names: dict[str, str] = {"": ""}

    def short(name: str) -> str:
        return names.setdefault(name, str(len(names)))

    digest = hashlib.sha256()
    for tensor in model.graph.initializer:
        copy = type(tensor)()
        copy.CopyFrom(tensor)
        copy.name, copy.doc_string = short(tensor.name), ""
        digest.update(copy.SerializeToString(deterministic=True))
    for node in model.graph.node:
        if node.op_type == "Identity":
            names[node.output[0]] = short(node.input[0])
            continue
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = copy.doc_string = ""
        copy.input[:], copy.output[:] = map(short, node.input), map(short, node.output)
        digest.update(copy.SerializeToString(deterministic=True))
    return digest.hexdigest()
