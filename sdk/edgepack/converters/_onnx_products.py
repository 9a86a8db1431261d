"""ONNX operators that are products with a constant matrix, written as such: converters know few of their modes.

    y = Resize(x [1,3,32,32], sizes [1,3,64,48])  ->  y = MatMul(rows [64,32], MatMul(x, columns [32,48]))
    y = Resize(x, mode nearest)                   ->  y = Gather(x, which rows), and so for columns
    y = DFT(x [1,64,1])                           ->  y = MatMul(x, basis [64,2*33])
    y = STFT(x [1,512,1], window)                 ->  y = MatMul(frames of x, windowed basis)

A matrix is what onnxruntime gives for unit vectors, so that every mode is the one it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["as_products"]

# Of a matrix, and of the unit vectors it is found with: 2,896 of them.
_ELEMENTS = 1 << 23
# The first operator sets in which Resize has its present inputs, and DFT its axis as one.
_RESIZE, _AXIS_IS_INPUT = 11, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A node to rewrite, with the shapes and constants that are known; `nodes` and `constants` are written for it."""

    node: Any
    opset: int
    shapes: Mapping[str, tuple[int, ...]]
    known: Mapping[str, Array]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def given(self, i: int) -> Array | None:
        """Return one input's constant value; None without the input, or where it is none."""
        return self.known.get(self.node.input[i]) if len(self.node.input) > i else None

    def is_fixed(self) -> bool:
        """Return whether every input but the first is a constant."""
        return all(name in self.known for name in self.node.input[1:] if name)

    def attribute(self, name: str, default: Any = None) -> Any:
        import onnx

        return next((onnx.helper.get_attribute_value(a) for a in self.node.attribute if a.name == name), default)

    def probe(self, x: Array, inputs: Sequence[Array | None], **changed: Any) -> Array:
        """Return what onnxruntime gives for `x` and constants; None stands for one left out, also of an attribute."""
        import onnx
        import onnxruntime

        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute} | changed
        given = {f"c{i}": value for i, value in enumerate(inputs) if value is not None}
        names = ["x", *(f"c{i}" if value is not None else "" for i, value in enumerate(inputs))]
        node = onnx.helper.make_node(
            self.node.op_type, names, ["y"], **{k: v for k, v in attributes.items() if v is not None}
        )
        graph = onnx.helper.make_graph(
            [node],
            "probe",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(value, name) for name, value in given.items()],
        )
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        return np.asarray(session.run(None, {"x": x})[0])

    def constant(self, value: Array) -> str:
        import onnx

        name = f"{self.node.output[0]}_product_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def write(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Return the output of a new node, which is called like the one it stands for: messages name that."""
        import onnx

        name = f"{self.node.output[0]}_as_product_{len(self.nodes)}"
        made = onnx.helper.make_node(operator, list(inputs), [name], name=self.node.name, **attributes)
        self.nodes.append(made)
        return name

    def shaped(self, value: str, shape: Sequence[int]) -> str:
        return self.write("Reshape", value, self.constant(np.array(shape, np.int64)))


def as_products(model: Any) -> Any:
    """Return the model with such operators written as products; the model itself if there is none that can be.

    Their parameters have to be constants and their shapes known, as they are in a cleaned graph of fixed shapes.
    """
    import onnx

    if not any(node.op_type in _REWRITINGS and not node.domain for node in model.graph.node):
        return model
    copy = onnx.shape_inference.infer_shapes(model)
    graph = copy.graph
    known = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    shapes = {v.name: _shape(v) for v in (*graph.value_info, *graph.input, *graph.output) if _is_known(v)}
    opset = next(o.version for o in copy.opset_import if o.domain in ("", "ai.onnx"))
    nodes, changed = [], False
    for node in graph.node:
        place = _Place(node=node, opset=opset, shapes=shapes, known=known)
        rewrite = _REWRITINGS.get(node.op_type) if not node.domain else None
        result = rewrite(place) if rewrite and node.input[0] in shapes and node.output[0] in shapes else None
        if result is None:
            nodes.append(node)
            continue
        changed = True
        last = onnx.helper.make_node("Identity", [result], [node.output[0]], name=node.name)
        nodes += [*place.nodes, last]
        graph.initializer.extend(place.constants)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(copy) if changed else model


def _is_known(value: Any) -> bool:
    import onnx

    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    return (
        tensor.elem_type == onnx.TensorProto.FLOAT
        and tensor.HasField("shape")
        and all(d.HasField("dim_value") and d.dim_value > 0 for d in dims)
    )


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(d.dim_value) for d in value.type.tensor_type.shape.dim)


def _unit(size: int) -> Array:
    return np.eye(size, dtype=np.float32)


def _along(place: _Place, x: str, rank: int, axis: int, matrix: Array) -> str:
    """Return `x` of this rank with its axis multiplied by `matrix`, [before, behind]."""
    if ((matrix == 0) | (matrix == 1)).all() and (matrix.sum(axis=0) == 1).all():
        return place.write("Gather", x, place.constant(matrix.argmax(axis=0)), axis=axis)
    if axis == rank - 1:
        return place.write("MatMul", x, place.constant(matrix))
    if axis == rank - 2:
        return place.write("MatMul", place.constant(matrix.T), x)
    order = [*(i for i in range(rank) if i != axis), axis]
    turned = place.write("Transpose", x, perm=order)
    product = place.write("MatMul", turned, place.constant(matrix))
    return place.write("Transpose", product, perm=np.argsort(order).tolist())


def _resize(place: _Place) -> str | None:
    before, behind = place.shapes[place.node.input[0]], place.shapes[place.node.output[0]]
    rank = len(before)
    axes = [axis % rank for axis in place.attribute("axes", range(rank))]
    roi, scales, sizes = (place.given(i) for i in (1, 2, 3))
    crops = place.attribute("coordinate_transformation_mode") == b"tf_crop_and_resize"
    scales = None if scales is None or not scales.size else scales
    if place.opset < _RESIZE or (scales is None) == (sizes is None):
        return None
    if crops and (roi is None or place.attribute("extrapolation_value", 0.0) != 0):
        return None
    kept = place.attribute("keep_aspect_ratio_policy", b"stretch")
    if sizes is not None and kept != b"stretch":
        ratios = [size / before[axis] for size, axis in zip(sizes, axes, strict=True)]
        scales, sizes = np.full(len(axes), max(ratios) if kept == b"not_smaller" else min(ratios)), None
    x = str(place.node.input[0])
    for i, axis in enumerate(axes):
        n, m = before[axis], behind[axis]
        if n == m and not crops and (scales is None or scales[i] == 1):
            continue
        if n * max(n, m) > _ELEMENTS:
            return None
        # One unit vector a row, and the axis in the third place, where every mode takes it.
        region = None if roi is None or not crops else [0, 0, roi[i], 0, 1, 1, roi[i + len(axes)], 1]
        inputs = [None if region is None else np.array(region, np.float32)]
        inputs += [None, np.array([n, 1, m, 1])] if scales is None else [np.array([1, 1, scales[i], 1], np.float32)]
        matrix = place.probe(_unit(n).reshape(n, 1, n, 1), inputs, axes=None, keep_aspect_ratio_policy=None)
        if matrix.size != n * m:
            return None
        x = _along(place, x, rank, axis, matrix.reshape(n, m))
    return x


def _dft(place: _Place) -> str | None:
    before, behind = place.shapes[place.node.input[0]], place.shapes[place.node.output[0]]
    rank, has_input = len(before), place.opset >= _AXIS_IS_INPUT
    told = place.given(2) if has_input else place.attribute("axis", 1)
    axis = int(np.asarray(-2 if told is None else told).reshape(())) % rank
    units, wide = before[axis] * before[-1], behind[axis] * behind[-1]
    if not place.is_fixed() or units * max(units, wide) > _ELEMENTS or axis == rank - 1:
        return None
    unit = _unit(units).reshape(units, before[axis], before[-1])
    inputs, attributes = ([place.given(1), np.array(1)], {}) if has_input else ([place.given(1)], {"axis": 1})
    basis = place.probe(unit, inputs, **attributes).reshape(units, wide)
    order = [*(i for i in range(rank - 1) if i != axis), axis, rank - 1]
    others = [before[i] for i in order[:-2]]
    x = place.write("Transpose", place.node.input[0], perm=order)
    product = place.write("MatMul", place.shaped(x, [*others, units]), place.constant(basis))
    shaped = place.shaped(product, [*others, behind[axis], behind[-1]])
    return place.write("Transpose", shaped, perm=np.argsort(order).tolist())


def _stft(place: _Place) -> str | None:
    before, behind = place.shapes[place.node.input[0]], place.shapes[place.node.output[0]]
    step, window, told = (place.given(i) for i in (1, 2, 3))
    length = int(told.reshape(())) if told is not None else 0 if window is None else window.size
    units, wide = length * before[-1], behind[2] * 2
    if not place.is_fixed() or step is None or not units or units * max(units, wide) > _ELEMENTS:
        return None
    basis = place.probe(_unit(units).reshape(units, length, before[-1]), [step, window, told]).reshape(units, wide)
    index = np.arange(behind[1])[:, None] * int(step.reshape(())) + np.arange(length)
    taken = place.write("Gather", place.node.input[0], place.constant(index), axis=1)
    frames = place.shaped(taken, [before[0], behind[1], units])
    return place.shaped(place.write("MatMul", frames, place.constant(basis)), behind)


_REWRITINGS: Mapping[str, Callable[[_Place], str | None]] = {"DFT": _dft, "Resize": _resize, "STFT": _stft}
