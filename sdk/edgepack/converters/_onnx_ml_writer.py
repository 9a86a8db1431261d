"""Nodes written in place of one: its inputs and attributes, new constants and nodes, and how rewritings end."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.errors import ConversionError
from edgepack_runtime.tensors import Array

__all__ = ["Site", "class_outputs", "in_place_of", "post_transform"]

# From this opset on, reductions other than the sum take their axes as an input.
_AXES_ARE_INPUTS = 18


class Site:
    """The place of the node that is being rewritten, in a graph; nodes are collected until they are `taken`."""

    def __init__(self, model: Any, opset: int) -> None:
        import onnx

        self._onnx, self._graph, self._opset = onnx, model.graph, opset
        self._nodes: list[Any] = []
        self._count = len(model.graph.initializer) + len(model.graph.node)
        self._node: Any = None
        self._attributes: dict[str, Any] = {}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._values = {v.name: v.type.tensor_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
        self._constants = {i.name: i for i in model.graph.initializer}

    def at(self, node: Any) -> Site:
        """Return this, for `node`."""
        self._node = node
        self._attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        return self

    def taken(self) -> list[Any]:
        """Return the nodes that were written, and forget them."""
        nodes, self._nodes = self._nodes, []
        return nodes

    @property
    def name(self) -> str:
        """The node's name for messages: its own, or its operator and first output."""
        return str(self._node.name or f"{self._node.op_type} of {self._node.output[0]}")

    @property
    def count(self) -> int:
        """How many inputs the node has."""
        return len(self._node.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the node's outputs."""
        return tuple(self._node.output)

    def input(self, i: int) -> str:
        """Return the name of one input."""
        return str(self._node.input[i])

    def floats(self, i: int) -> str:
        """Return one input as float32, which most of these operators compute in whatever they are given."""
        name = self.input(i)
        known = self._values.get(name)
        is_float = known is not None and known.elem_type == self._onnx.TensorProto.FLOAT
        return name if is_float else self.cast(name, "FLOAT")

    def rank(self, name: str) -> int:
        """Return how many dimensions a value has; two, as these operators' outputs have, where nothing tells."""
        if name in self._constants:
            return len(self._constants[name].dims)
        known = self._values.get(name)
        return 2 if known is None or not known.HasField("shape") else len(known.shape.dim)

    def width(self, i: int, default: int) -> int:
        """Return how many columns one input has, `default` where nothing tells."""
        known = self._values.get(self.input(i))
        dims = known.shape.dim if known is not None and known.HasField("shape") else ()
        return int(dims[-1].dim_value) if dims and dims[-1].HasField("dim_value") else default

    def is_one_row(self) -> bool:
        """Return whether the first input has one row, as far as is known: a device's batch is 1."""
        known = self._values.get(self.input(0))
        dims = known.shape.dim if known is not None and known.HasField("shape") else ()
        return not dims or not dims[0].HasField("dim_value") or (len(dims) == 2 and dims[0].dim_value == 1)

    def has(self, attribute: str) -> bool:
        """Return whether the node has an attribute, and something in it."""
        found = self._attributes.get(attribute)
        return found is not None and not (isinstance(found, (list, tuple)) and not found)

    def number(self, attribute: str, default: float) -> float:
        """Return an attribute that is a number."""
        return float(self._attributes.get(attribute, default))

    def text(self, attribute: str, default: str) -> str:
        """Return an attribute that is a text."""
        found = self._attributes.get(attribute, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def texts(self, attribute: str) -> list[str]:
        """Return an attribute that is a list of texts."""
        return [item.decode() for item in self._attributes.get(attribute, ())]

    def array(self, attribute: str, dtype: Any) -> Array:
        """Return an attribute that is a list of numbers, or the tensor that stands for it; empty without it."""
        found = self._attributes.get(attribute)
        if found is None and (tensor := self._attributes.get(f"{attribute}_as_tensor")) is not None:
            found = self._onnx.numpy_helper.to_array(tensor)
        return np.asarray([] if found is None else found, dtype=dtype)

    def labels(self) -> Array:
        """Return the classes a classifier tells, as whole numbers.

        Raises:
            ConversionError: they are texts.
        """
        if self.has("classlabels_strings"):
            shown = ", ".join(self.texts("classlabels_strings")[:10])
            raise ConversionError(
                f"node {self.name!r} gives its classes as texts ({shown}), which TFLite does not have",
                hint="export it with whole numbers for classes, or from the scikit-learn file itself",
            )
        return self.array("classlabels_ints" if self.has("classlabels_ints") else "classlabels_int64s", np.int64)

    def constant(self, value: Array) -> str:
        """Return the name of a new constant."""
        self._count += 1
        name = f"edgepack_ml_constant_{self._count}"
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def whole(self, *values: int) -> str:
        """Return the name of a new constant vector of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def real(self, *values: float) -> str:
        """Return the name of a new constant vector of float32."""
        return self.constant(np.array(values, np.float32))

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Return the name of the output of a new node."""
        self._count += 1
        name = f"edgepack_ml_{self._count}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def named(self, value: str, output: str) -> None:
        """Give a value the name of one of the node's outputs."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [output], name=f"{output}_named"))

    def cast(self, value: str, dtype: str) -> str:
        """Return a value in another type, one of ONNX's names."""
        return self.node("Cast", value, to=getattr(self._onnx.TensorProto, dtype))

    def flat(self, value: str) -> str:
        """Return a value as a vector."""
        return self.node("Reshape", value, self.whole(-1))

    def argmax(self, scores: str) -> str:
        """Return the index of the largest of each row, a vector."""
        return self.node("ArgMax", scores, axis=1, keepdims=0)

    def reduce(self, operator: str, value: str) -> str:
        """Return a value reduced over its last axis, which is kept as 1."""
        if operator == "ReduceSum" or self._opset >= _AXES_ARE_INPUTS:
            return self.node(operator, value, self.whole(-1), keepdims=1)
        return self.node(operator, value, axes=[-1], keepdims=1)


def in_place_of(site: Site, value: str) -> None:
    """Make `value` the node's first output."""
    site.named(value, site.outputs[0])


def post_transform(site: Site, scores: str) -> str:
    """Return the scores [n, k] behind the node's ``post_transform``.

    Raises:
        ConversionError: it is one of those nothing we know of writes.
    """
    kind = site.text("post_transform", "NONE")
    if kind == "NONE":
        return scores
    if kind == "SOFTMAX":
        return site.node("Softmax", scores, axis=1)
    if kind == "LOGISTIC":
        return site.node("Sigmoid", scores)
    raise ConversionError(f"node {site.name!r}: post_transform {kind}")


def class_outputs(site: Site, index: str, scores: str) -> None:
    """Make the class at `index`, a vector, and the scores [n, k] the two outputs of a classifier.

    Raises:
        ConversionError: its classes are texts.
    """
    outputs, labels = site.outputs, site.labels()
    if outputs[0]:
        plain = np.array_equal(labels, np.arange(labels.size))
        site.named(index if plain else site.node("Gather", site.constant(labels), index, axis=0), outputs[0])
    if len(outputs) > 1 and outputs[1]:
        site.named(scores, outputs[1])
