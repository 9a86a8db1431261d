"""A TensorFlow graph of float64 as one of float32: TFLite has float64 tensors, and hardly an operator for them."""

from __future__ import annotations

from typing import Any

__all__ = ["in_float32"]


def in_float32(frozen: Any) -> Any:
    """Return a frozen function with every float64 in it made float32; the function itself where there is none.

    ::

        x float64 -> MatMul(float64) -> y float64      =>      x float32 -> MatMul(float32) -> y float32
    """
    import tensorflow as tf
    from tensorflow.python.eager.wrap_function import function_from_graph_def

    graph = frozen.graph.as_graph_def()
    if not any(_is_double(node) for holder in (graph, *graph.library.function) for node in _nodes(holder)):
        return frozen
    for function in graph.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            if argument.type == tf.float64.as_datatype_enum:
                argument.type = tf.float32.as_datatype_enum
    for holder in (graph, *graph.library.function):
        for node in _nodes(holder):
            _narrow(node)
    narrowed = function_from_graph_def(graph, [t.name for t in frozen.inputs], [t.name for t in frozen.outputs])
    for tensor, old in zip(narrowed.inputs, frozen.inputs, strict=True):
        tensor.set_shape(old.shape)
    return narrowed


def _nodes(holder: Any) -> Any:
    return holder.node if hasattr(holder, "node") else holder.node_def


def _is_double(node: Any) -> bool:
    import tensorflow as tf

    double = tf.float64.as_datatype_enum
    return any(value.type == double or double in value.list.type for value in node.attr.values())


def _narrow(node: Any) -> None:
    import numpy as np
    import tensorflow as tf

    double, single = tf.float64.as_datatype_enum, tf.float32.as_datatype_enum
    for value in node.attr.values():
        if value.type == double:
            value.type = single
        if value.tensor.dtype == double:
            content = tf.make_ndarray(value.tensor)
            # What is no float32 becomes infinite, and parity judges that.
            with np.errstate(over="ignore"):
                value.tensor.CopyFrom(tf.make_tensor_proto(content.astype(np.float32), shape=content.shape))
        types = [single if kind == double else kind for kind in value.list.type]
        if types != list(value.list.type):
            value.list.type[:] = types
