"""LSTM, GRU and RNN of an ONNX graph as their formulas, step by step: for converters that know no such operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["unrolled"]

# More steps than that make a graph no device wants.
_MOST_STEPS = 256
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}
# Activations that are an ONNX operator, and how its attributes alpha and beta are called and preset there.
_OPERATORS: Mapping[str, Mapping[str, float]] = {
    "Sigmoid": {},
    "Tanh": {},
    "Relu": {},
    "Softsign": {},
    "Softplus": {},
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0},
}


def unrolled(model: Any) -> Any:
    """Return a copy without the recurrent operators whose shapes are known; others stay as they are."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    shapes = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*graph.input, *graph.value_info, *graph.output)
    } | {i.name: tuple(i.dims) for i in graph.initializer}
    lengths = {
        i.name: tuple(int(v) for v in onnx.numpy_helper.to_array(i).ravel())
        for i in graph.initializer
        if i.data_type == onnx.TensorProto.INT32
    }
    nodes = []
    for i, node in enumerate(list(graph.node)):
        builder = _Builder(prefix=f"edgepack_unrolled_{i}")
        fits = node.op_type in _GATES and _unroll(node, shapes, lengths, builder)
        nodes += builder.nodes if fits else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(copy)


@dataclass
class _Builder:
    """Nodes in the making; each call of `add` names its output."""

    prefix: str
    nodes: list[Any] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        import onnx

        output = output or f"{self.prefix}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values: object, kind: str) -> str:
        import numpy as np
        import onnx

        return self.add("Constant", value=onnx.numpy_helper.from_array(np.array(values, kind)))

    def cut(self, tensor: str, axis: int, start: int, end: int) -> str:
        bounds = [self.constant([v], "int64") for v in (start, end, axis)]
        return self.add("Slice", tensor, *bounds)

    def reshaped(self, tensor: str, *shape: int) -> str:
        return self.add("Reshape", tensor, self.constant(shape, "int64"))

    def transposed(self, tensor: str) -> str:
        return self.add("Transpose", tensor, perm=[1, 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """One direction of one operator: weights [features, gates * hidden], and the state it starts with."""

    kind: str
    builder: _Builder
    hidden: int
    activations: tuple[Callable[[str], str], ...]
    weights: str
    recurrence: str
    biases: tuple[str, str] | None
    peepholes: tuple[str, str, str] | None
    linear_before_reset: bool
    input_forget: bool
    clip: float


def _unroll(
    node: Any, shapes: Mapping[str, tuple[int, ...]], lengths: Mapping[str, tuple[int, ...]], b: _Builder
) -> bool:
    """Add to `b` what the node computes; return whether that was possible."""
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = [*node.input, *[""] * (8 - len(node.input))]
    shape = shapes.get(inputs[0], ())
    batch_first = attributes.get("layout", 0) == 1
    directions = shapes.get(inputs[1], (0,))[0]
    if len(shape) != 3 or 0 in shape or directions not in (1, 2):
        return False
    batch, steps = (shape[0], shape[1]) if batch_first else (shape[1], shape[0])
    if steps > _MOST_STEPS or (inputs[4] and lengths.get(inputs[4], ()) != (steps,) * batch):
        return False
    hidden = int(attributes.get("hidden_size", 0)) or shapes[inputs[2]][-1]
    x = b.add("Transpose", inputs[0], perm=[1, 0, 2]) if batch_first else inputs[0]
    rows = [b.reshaped(b.cut(x, 0, t, t + 1), batch, shape[2]) for t in range(steps)]
    initial = [
        b.add("Transpose", name, perm=[1, 0, 2]) if name and batch_first else name for name in (inputs[5], inputs[6])
    ]
    results = []
    for d in range(directions):
        made = _activations(node.op_type, attributes, d, b)
        if made is None:
            return False
        cell = _cell(node.op_type, inputs, attributes, (d, hidden, made), b)
        backwards = d == 1 or attributes.get("direction", b"forward") == b"reverse"
        zero = b.constant([[0.0] * hidden] * batch, "float32")
        h, c = (b.reshaped(b.cut(n, 0, d, d + 1), batch, hidden) if n else zero for n in initial)
        outs = []
        for row in reversed(rows) if backwards else rows:
            h, c = _step(cell, row, h, c)
            outs.append(h)
        results.append((outs[::-1] if backwards else outs, h, c))
    _give(node, results, (batch, hidden, batch_first), b)
    return True


def _give(node: Any, results: list[tuple[list[str], str, str]], form: tuple[int, int, bool], b: _Builder) -> None:
    """Name the outputs: Y [steps, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]."""
    batch, hidden, batch_first = form
    names = [*node.output, *[""] * (3 - len(node.output))]
    if names[0]:
        steps = [
            b.add("Concat", *(b.reshaped(outs[t], 1, 1, batch, hidden) for outs, _, _ in results), axis=1)
            for t in range(len(results[0][0]))
        ]
        whole = b.add("Concat", *steps, axis=0)
        b.add("Transpose", whole, output=names[0], perm=[2, 0, 1, 3] if batch_first else [0, 1, 2, 3])
    for name, place in ((names[1], 1), (names[2], 2)):
        if name:
            last = b.add("Concat", *(b.reshaped(str(r[place]), 1, batch, hidden) for r in results), axis=0)
            b.add("Transpose", last, output=name, perm=[1, 0, 2] if batch_first else [0, 1, 2])


def _activations(
    kind: str, attributes: Mapping[str, Any], direction: int, b: _Builder
) -> tuple[Callable[[str], str], ...] | None:
    count = len(_ACTIVATIONS[kind])
    names = [n.decode() for n in attributes.get("activations", ())] or [*_ACTIVATIONS[kind]] * 2
    given = {key: list(attributes.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
    made: list[Callable[[str], str]] = []
    for i, name in enumerate(names):
        known = {operator.lower(): operator for operator in _OPERATORS}.get(name.lower())
        if known is None:
            return None
        # Each activation that has an alpha takes the next of the list.
        values = {k: given[k].pop(0) if given[k] else preset for k, preset in _OPERATORS[known].items()}
        if i // count == direction or (direction == 0 and len(names) == count):

            def activation(x: str, operator: str = known, values: Mapping[str, Any] = values) -> str:
                return b.add(operator, x, **values)

            made.append(activation)
    return tuple(made) if len(made) == count else None


def _cell(
    kind: str, inputs: list[str], attributes: Mapping[str, Any], part: tuple[int, int, Any], b: _Builder
) -> _Cell:
    d, hidden, activations = part
    width = _GATES[kind] * hidden

    def flat(name: str, start: int, end: int) -> str:
        return b.cut(b.add("Squeeze", b.cut(name, 0, d, d + 1), b.constant([0], "int64")), 0, start, end)

    def matrix(name: str) -> str:
        return b.transposed(b.add("Squeeze", b.cut(name, 0, d, d + 1), b.constant([0], "int64")))

    peepholes = kind == "LSTM" and inputs[7]
    return _Cell(
        kind=kind,
        builder=b,
        hidden=hidden,
        activations=activations,
        weights=matrix(inputs[1]),
        recurrence=matrix(inputs[2]),
        biases=(flat(inputs[3], 0, width), flat(inputs[3], width, 2 * width)) if inputs[3] else None,
        peepholes=(
            flat(inputs[7], 0, hidden), flat(inputs[7], hidden, 2 * hidden), flat(inputs[7], 2 * hidden, 3 * hidden),
        ) if peepholes else None,
        linear_before_reset=bool(attributes.get("linear_before_reset", 0)),
        input_forget=bool(attributes.get("input_forget", 0)),
        clip=float(attributes.get("clip", 0.0)),
    )  # fmt: skip


def _step(cell: _Cell, x: str, h: str, c: str) -> tuple[str, str]:
    b = cell.builder
    wx = b.add("MatMul", x, cell.weights)
    if cell.biases:
        wx = b.add("Add", wx, cell.biases[0])
    if cell.kind == "GRU":
        return _gru_step(cell, wx, h), c
    sums = b.add("Add", wx, b.add("MatMul", h, cell.recurrence))
    if cell.biases:
        sums = b.add("Add", sums, cell.biases[1])
    return (cell.activations[0](_clipped(cell, sums)), c) if cell.kind == "RNN" else _lstm_step(cell, sums, c)


def _clipped(cell: _Cell, x: str) -> str:
    b = cell.builder
    return b.add("Clip", x, *(b.constant(v, "float32") for v in (-cell.clip, cell.clip))) if cell.clip else x


def _part(cell: _Cell, x: str, place: int) -> str:
    return cell.builder.cut(x, 1, place * cell.hidden, (place + 1) * cell.hidden)


def _lstm_step(cell: _Cell, sums: str, c: str) -> tuple[str, str]:
    b = cell.builder
    f, g, h = cell.activations

    def gate(place: int, peephole: int, state: str) -> str:
        x = _part(cell, sums, place)
        if cell.peepholes:
            x = b.add("Add", x, b.add("Mul", cell.peepholes[peephole], state))
        return f(_clipped(cell, x))

    into = gate(0, 0, c)
    forget = b.add("Sub", b.constant(1.0, "float32"), into) if cell.input_forget else gate(2, 2, c)
    new = b.add("Mul", into, g(_clipped(cell, _part(cell, sums, 3))))
    state = b.add("Add", b.add("Mul", forget, c), new)
    return b.add("Mul", gate(1, 1, state), h(state)), state


def _gru_step(cell: _Cell, wx: str, h: str) -> str:
    b = cell.builder
    f, g = cell.activations
    hidden = cell.hidden

    def recurrent(state: str, start: int, end: int) -> str:
        value = b.add("MatMul", state, b.cut(cell.recurrence, 1, start * hidden, end * hidden))
        if cell.biases:
            value = b.add("Add", value, b.cut(cell.biases[1], 0, start * hidden, end * hidden))
        return value

    rh = recurrent(h, 0, 2)
    update, reset = (f(_clipped(cell, b.add("Add", _part(cell, wx, i), _part(cell, rh, i)))) for i in (0, 1))
    if cell.linear_before_reset:
        inner = b.add("Mul", reset, recurrent(h, 2, 3))
    else:
        inner = recurrent(b.add("Mul", reset, h), 2, 3)
    new = g(_clipped(cell, b.add("Add", _part(cell, wx, 2), inner)))
    keep = b.add("Mul", update, h)
    return b.add("Add", b.add("Mul", b.add("Sub", b.constant(1.0, "float32"), update), new), keep)
