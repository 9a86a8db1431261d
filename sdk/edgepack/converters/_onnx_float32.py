"""An ONNX graph of float16 or float64 as one of float32, which is what TFLite's kernels compute in."""

from __future__ import annotations

from typing import Any

__all__ = ["has_other_floats", "in_float32"]


def has_other_floats(model: Any) -> bool:
    """Return whether a float16 or float64 tensor is anywhere in the model."""
    before = model.SerializeToString(deterministic=True)
    return bool(in_float32(model).SerializeToString(deterministic=True) != before)


def in_float32(model: Any) -> Any:
    """Return a copy that computes in float32; its inputs and outputs are of float32 too.

    A number that float32 does not hold becomes another one, or infinity: the outputs are compared afterwards.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _turn_graph(copy.graph)
    for function in copy.functions:
        _turn_nodes(function.node)
    return copy


def _others() -> tuple[int, ...]:
    import onnx

    return (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def _turn_graph(graph: Any) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if tensor.elem_type in _others():
            tensor.elem_type = 1
    for tensor in graph.initializer:
        _turn_tensor(tensor)
    _turn_nodes(graph.node)


def _turn_nodes(nodes: Any) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype", "stash_type") and attribute.i in _others():
                attribute.i = 1
            if attribute.HasField("t"):
                _turn_tensor(attribute.t)
            if attribute.HasField("g"):
                _turn_graph(attribute.g)


def _turn_tensor(tensor: Any) -> None:
    import numpy as np
    import onnx

    if tensor.data_type in _others():
        with np.errstate(over="ignore"):
            value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
