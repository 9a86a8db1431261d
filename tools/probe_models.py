"""Make `edgepack_runtime/probe_models.bin`: the models by which `edgepack-device probe` learns what works there.

::

    python -m tools.probe_models runtime/edgepack_runtime/probe_models.bin

One convolution and one dense layer in each quantization, with float inputs and outputs. The answers are computed
here, by plain float64 arithmetic on the weights that the quantized ones stand for: no engine has a say in them.
Weights are integers times a power of two, so that every form of a model holds exactly the same ones; from channel to
channel the power differs, so that a kernel which takes the first channel's for all of them is far off.

The file is zlib of one line of JSON, ``[[name, tolerance, length of the model, number of answers], ...]``, a line
feed, the models one after another, and their answers in float32 (little-endian) one after another.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepack.flatbuffer import read_model
from edgepack.opversions import required_versions
from edgepack_runtime.probing import probe_input
from edgepack_runtime.tensors import Array

FLOAT32, FLOAT16, INT8, INT16, INT4, INT2, INT32, INT64 = (
    getattr(schema.TensorType, name)
    for name in ("FLOAT32", "FLOAT16", "INT8", "INT16", "INT4", "INT2", "INT32", "INT64")
)
CONV, DENSE = "CONV_2D", "FULLY_CONNECTED"
INPUT = {CONV: (1, 6, 6, 3), DENSE: (1, 24)}
WEIGHTS = {CONV: (4, 3, 3, 3), DENSE: (6, 24)}
# What an engine may be off by, as a share of the largest answer.
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "dynamic_range": 0.03, "full_integer": 0.03, "int16x8": 1e-2,
             "int4": 0.03, "int2": 0.03, "weight_only_int8": 1e-2, "weight_only_int4": 1e-2}  # fmt: skip
# How the weights are stored where it is not in eight bits, and the largest of them.
STORED = {"int4": INT4, "weight_only_int4": INT4, "int2": INT2}
LARGEST = {INT8: 127, INT4: 7, INT2: 1}
BITS = {INT4: 4, INT2: 2}


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form of layers: its name, whether its operators state the versions they need, and the layers it is for."""

    scheme: str
    layout: str = "per_channel"
    stamped: bool = True
    operators: tuple[str, ...] = (CONV, DENSE)

    def name(self, operator: str) -> str:
        """Return the name that the probe's document has for the model."""
        return "/".join((self.scheme, self.layout, *([] if self.stamped else ["unstamped"]), operator))


FORMS = (
    Form(scheme="float32", layout="plain"),
    Form(scheme="float16", layout="plain"),
    Form(scheme="full_integer"),
    Form(scheme="dynamic_range"),
    Form(scheme="dynamic_range", stamped=False),
    Form(scheme="dynamic_range", layout="per_tensor"),
    Form(scheme="int16x8"),
    Form(scheme="int4"),
    Form(scheme="int2", operators=(DENSE,)),
    Form(scheme="weight_only_int8"),
    Form(scheme="weight_only_int4"),
)


def stored_weights(operator: str, form: Form) -> tuple[Array, Array]:
    """Return the weights as integers, and their scale for each channel."""
    shape = WEIGHTS[operator]
    span = LARGEST[STORED.get(form.scheme, INT8)]
    count = int(np.prod(shape))
    numbers = np.arange(count) * 97 % 251 * (2 * span) // 250 - span
    # Sums that nearly cancel would show the rounding of the activations larger than it is.
    numbers = np.where(numbers < -1, numbers // 3, numbers).reshape(shape)
    steps = np.zeros(shape[0]) if form.layout == "per_tensor" else np.arange(shape[0]) % 3 * 2
    return numbers.astype(np.int64), 2.0 ** (steps - {127: 9, 7: 5, 1: 2}[span])


def answer(operator: str, weights: Array, bias: Array) -> Array:
    """Return what the layer gives for the probe's input, by the definition of the operator in float64."""
    x = probe_input(INPUT[operator]).astype(np.float64)
    if operator == DENSE:
        return x @ weights.T + bias
    side = INPUT[CONV][1] - WEIGHTS[CONV][1] + 1
    y = np.zeros((1, side, side, len(weights)))
    for row in range(side):
        for column in range(side):
            window = x[0, row : row + 3, column : column + 3]
            y[0, row, column] = [(window * one).sum() for one in weights] + bias
    return y


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """Puts the content of buffers where the schema wants it, at multiples of 16; kernels read wrong numbers else."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


class Writer:
    """A TFLite file, tensor by tensor."""

    def __init__(self) -> None:
        self.graph, self.model = schema.SubGraphT(), schema.ModelT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]

    def tensor(self, shape: tuple[int, ...], kind: int, scales: Any = (), zero: int = 0) -> int:
        """Return the index of a new tensor; `scales` of several channels are those of dimension 0."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = str(len(self.graph.tensors)), shape, kind, 0
        if len(scales):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scales, np.float32)
            tensor.quantization.zeroPoint = np.full(len(scales), zero, np.int64)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values: Array, kind: int, scales: Any = ()) -> int:
        """Return the index of a new constant."""
        index = self.tensor(values.shape, kind, scales)
        if kind in BITS:
            bits = BITS[kind]
            parts = values.reshape(-1, 8 // bits) & (1 << bits) - 1
            values = (parts << np.arange(0, 8, bits)).sum(1).astype(np.uint8)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def operator(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """Return the output of a new operator."""
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.graph.operators.append(operator)
        return output

    def written(self, *, stamped: bool) -> bytes:
        """Return the file; operators state the versions they need if they are stamped, else version 1."""
        self.model.version, self.model.subgraphs = 3, [self.graph]
        data = self._packed()
        if stamped:
            for code, version in zip(self.model.operatorCodes, required_versions(read_model(data)), strict=True):
                code.version = version
            data = self._packed()
        return data

    def _packed(self) -> bytes:
        builder = _Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _range_scale(values: Array) -> tuple[float, int]:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = (high - low) / 255
    return scale, round(-128 - low / scale)


def layer(operator: str, form: Form) -> tuple[bytes, Array]:
    """Return a model of one layer, and its answer."""
    numbers, scales = stored_weights(operator, form)
    if form.layout == "per_tensor":
        scales = scales[:1]
    weights = numbers * scales.reshape(-1, *[1] * (numbers.ndim - 1))
    bias = np.arange(len(numbers)) / 4 - 0.5
    wanted = answer(operator, weights, bias)
    made = Writer()
    x = made.tensor(INPUT[operator], FLOAT32)
    if operator == CONV and form.scheme == "float32":
        # The one that is run in a larger size too, to see what threads are worth.
        made.graph.tensors[x].shapeSignature = [1, -1, -1, INPUT[CONV][3]]
    options: Any = schema.Conv2DOptionsT() if operator == CONV else schema.FullyConnectedOptionsT()
    if operator == CONV:
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
        options.dilationHFactor = options.dilationWFactor = 1
    inner, back = x, None
    if form.scheme in ("full_integer", "int16x8"):
        kind, (x_scale, x_zero), (y_scale, y_zero) = (
            INT8,
            _range_scale(probe_input(INPUT[operator])),
            _range_scale(wanted),
        )
        if form.scheme == "int16x8":
            kind, x_zero, y_zero = INT16, 0, 0
            x_scale, y_scale = (float(np.abs(v).max()) / 32767 for v in (probe_input(INPUT[operator]), wanted))
        inner = made.operator("QUANTIZE", [x], made.tensor(INPUT[operator], kind, [x_scale], x_zero))
        back = made.tensor(wanted.shape, kind, [y_scale], y_zero)
        bias_kind, bias_type = (INT32, np.int32) if kind == INT8 else (INT64, np.int64)
        b = made.constant((bias / (x_scale * scales)).round().astype(bias_type), bias_kind, x_scale * scales)
    elif form.scheme == "float16":
        half = made.constant(bias.astype(np.float16), FLOAT16)
        b = made.operator("DEQUANTIZE", [half], made.tensor(bias.shape, FLOAT32))
    else:
        b = made.constant(bias.astype(np.float32), FLOAT32)
    if form.scheme == "float32":
        w = made.constant(weights.astype(np.float32), FLOAT32)
    elif form.scheme == "float16":
        half = made.constant(weights.astype(np.float16), FLOAT16)
        w = made.operator("DEQUANTIZE", [half], made.tensor(weights.shape, FLOAT32))
    else:
        w = made.constant(numbers.astype(np.int8), STORED.get(form.scheme, INT8), scales)
    if form.scheme.startswith("weight_only"):
        w = made.operator("DEQUANTIZE", [w], made.tensor(weights.shape, FLOAT32))
    y = made.tensor(wanted.shape, FLOAT32)
    made.operator(operator, [inner, w, b], y if back is None else back, options)
    if back is not None:
        made.operator("DEQUANTIZE", [back], y)
    made.graph.inputs, made.graph.outputs = [x], [y]
    return made.written(stamped=form.stamped), wanted.astype("<f4")


def layers() -> Iterator[tuple[str, float, bytes, Array]]:
    """Yield each model with its name, its tolerance and its answer."""
    for form in FORMS:
        for operator in form.operators:
            yield form.name(operator), TOLERANCE[form.scheme], *layer(operator, form)


def packed() -> bytes:
    """Return the content of the file."""
    made = list(layers())
    index = json.dumps([[name, tolerance, len(model), wanted.size] for name, tolerance, model, wanted in made])
    content = [index.encode(), b"\n", *(model for _, _, model, _ in made), *(w.tobytes() for *_, w in made)]
    return zlib.compress(b"".join(content), 9)


def main() -> int:
    """Write the file that is named on the command line."""
    data = packed()
    Path(sys.argv[1]).write_bytes(data)
    print(f"{sys.argv[1]}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
