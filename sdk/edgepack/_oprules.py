"""Which version of an operator a use of it needs: the rules behind `edgepack.opversions`.

They are facts about kernels as LiteRT's converter states them (``tools/versioning/op_version.cc``, read in August
2026). Here each feature an operator uses asks for a version and the highest wins, where the converter returns at its
first match; so an operator with two features can be given a higher version than the converter would, never a lower
one. What the converter has no rule for, because it makes no such model, follows what engines were measured to do.
One exception on purpose: weights with a single scale are not called per-channel, however many channels there are,
because kernels before that version compute them correctly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgepack.flatbuffer import OperatorView, SubgraphView, TensorView

__all__ = ["needed_version"]

_INT32 = 2  # TensorType.INT32 of the schema
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2")


def _float8(version: int) -> dict[str, int]:
    return dict.fromkeys(_FLOAT8, version)


_INT8 = {"int8": 2}
_INT8_INT16 = {"int8": 2, "int16": 3}
_BINARY_RANK5 = {"int8": 2, "int16": 4}
_PAD = {"int8": 2, "int16": 3, "bool": 5, **_float8(6)}
_BATCH_SPACE = {"int8": 2, "int16": 4}

# (operator, index of the deciding input) -> version each type needs; types not listed need version 1.
_BY_INPUT_TYPE: dict[tuple[str, int], dict[str, int]] = {
    ("ABS", 0): {"int8": 2, "uint8": 2, "int32": 5},
    ("ADD", 0): {"int8": 2, "int64": 4, "float16": 6},
    ("ARG_MAX", 0): {"int8": 2, "bool": 3},
    ("ARG_MIN", 0): {"int8": 2, "bool": 3},
    ("AVERAGE_POOL_2D", 0): _INT8_INT16,
    ("BATCH_MATMUL", 0): _INT8_INT16,
    ("BATCH_TO_SPACE_ND", 0): _BATCH_SPACE,
    ("BROADCAST_TO", 0): {"int8": 3, "int16": 3, **_float8(4)},
    ("CONCATENATION", 0): {"int8": 2, "int16": 3, "uint32": 4, "int4": 5, "float16": 6, **_float8(7)},
    ("COS", 0): {"float16": 2},
    ("DEPTH_TO_SPACE", 0): _INT8,
    ("DEQUANTIZE", 0): {
        "int8": 2, "int16": 3, "float16": 3, "int4": 6, "int2": 7, "uint4": 8, **_float8(9),
    },
    ("DYNAMIC_UPDATE_SLICE", 0): {"float16": 3, "int16": 4, "int4": 5, "bfloat16": 6},
    ("DYNAMIC_UPDATE_SLICE", 2): {"int64": 2},
    ("EMBEDDING_LOOKUP", 1): {"int4": 4, "int2": 5},
    ("EQUAL", 0): {"int8": 2, "string": 3, "int16": 5},
    ("EXP", 0): {"int8": 2, "int16": 2},
    ("FILL", 1): {"bool": 2, "string": 2, "int8": 3, "int16": 3, "float16": 4, **_float8(5)},
    ("FLOOR_DIV", 0): {"float32": 2, "int8": 3, "int16": 3},
    ("FLOOR_MOD", 0): {"int8": 2, "int16": 2},
    ("GATHER", 0): {"int8": 2, "bool": 3, "int16": 4, "int4": 7, **_float8(8)},
    ("GATHER", 1): {"int16": 6},
    ("GATHER_ND", 0): {"string": 2, "int16": 3, "bool": 5, **_float8(6)},
    ("GATHER_ND", 1): {"int16": 4},
    ("GELU", 0): {"int8": 2, "uint8": 2, "float16": 3},
    ("GREATER", 0): _INT8,
    ("GREATER_EQUAL", 0): _INT8_INT16,
    ("L2_NORMALIZATION", 0): _INT8,
    ("LEAKY_RELU", 0): {"int16": 2},
    ("LESS", 0): _INT8_INT16,
    ("LESS_EQUAL", 0): _INT8,
    ("LOG", 0): {"int8": 2, "int16": 2},
    ("LOGISTIC", 0): _INT8_INT16,
    ("LOG_SOFTMAX", 0): _INT8,
    ("MAXIMUM", 0): _BINARY_RANK5,
    ("MAX_POOL_2D", 0): _INT8_INT16,
    ("MEAN", 0): _INT8_INT16,
    ("MINIMUM", 0): _BINARY_RANK5,
    ("MIRROR_PAD", 0): _INT8_INT16,
    ("MUL", 0): {"int8": 2, "int16": 4, "int64": 5, "complex64": 6, "uint32": 7, "float16": 8},
    ("NOT_EQUAL", 0): {"int8": 2, "string": 3, "int16": 4},
    ("PACK", 0): {"int8": 2, "int16": 3, "uint32": 4, **_float8(5)},
    ("PAD", 0): _PAD,
    ("PADV2", 0): _PAD,
    ("RANGE", 0): {"int64": 2},
    ("REDUCE_MAX", 0): _INT8_INT16,
    ("REDUCE_MIN", 0): _INT8_INT16,
    ("REDUCE_PROD", 0): {"int8": 2, "int16": 2},
    ("RELU", 0): {"int8": 2, "uint8": 2, "int16": 3},
    ("RELU6", 0): _INT8_INT16,
    ("RESIZE_BILINEAR", 0): {"int8": 2, "int16": 4},
    ("RESIZE_NEAREST_NEIGHBOR", 0): {"int8": 2, "int16": 4},
    ("REVERSE_V2", 0): {"bool": 2, "int8": 3, **_float8(4)},
    ("RSQRT", 0): _INT8_INT16,
    ("SELECT", 0): {"int8": 2, "uint32": 4},
    ("SELECT_V2", 0): {"uint32": 2},
    ("SIGN", 0): {"int32": 2},
    ("SIN", 0): {"float16": 2},
    ("SLICE", 0): {"int8": 2, "string": 3, "int16": 4, "uint32": 6, "int4": 7, "float16": 8},
    ("SOFTMAX", 0): {"int8": 2, "int16": 3, "float16": 4},
    ("SPACE_TO_BATCH_ND", 0): _BATCH_SPACE,
    ("SPACE_TO_DEPTH", 0): _INT8,
    ("SPARSE_TO_DENSE", 2): {"int64": 2, "int8": 3, "uint8": 3},
    ("SPLIT", 1): {"int8": 2, "int32": 3, "int16": 4, **_float8(5)},
    ("SPLIT_V", 0): {"int8": 2, **_float8(3)},
    ("SQRT", 0): {"int8": 2, "int16": 2},
    ("SQUARED_DIFFERENCE", 0): _INT8,
    ("SQUEEZE", 0): {"string": 2},
    ("STRIDED_SLICE", 0): {"int8": 2, "bool": 3, "string": 5, "uint32": 7},
    ("SUB", 0): {"int8": 2, "int64": 4},
    ("SUM", 0): _INT8,
    ("SVDF", 0): {"int8": 3},
    ("TANH", 0): _INT8_INT16,
    ("TILE", 0): {"string": 2, "int8": 3},
    ("TOPK_V2", 0): _INT8_INT16,
    ("TRANSPOSE", 0): {"int8": 2, "bool": 3, "int16": 5, "int4": 7, "bfloat16": 8, "float16": 9},
    ("TRANSPOSE_CONV", 1): _INT8,
    ("UNPACK", 0): {
        "int8": 2, "uint8": 2, "bool": 3, "int16": 4, "float16": 5, "bfloat16": 5, **_float8(6),
    },
}  # fmt: skip

# (operator) -> (rank of input 0 above which, version needed), any number of steps.
_BY_RANK: dict[str, tuple[tuple[int, int], ...]] = {
    "PAD": ((4, 4),),
    "PADV2": ((4, 4),),
    "SLICE": ((4, 5),),
    "STRIDED_SLICE": ((4, 4),),
    "TRANSPOSE": ((4, 4), (5, 6), (6, 8)),
}
# Operators that broadcast two inputs of different shape, above four dimensions only from this version on.
_BROADCAST_RANK5 = {"DIV": 2, "MAXIMUM": 3, "MINIMUM": 3, "SUB": 3}

_CAST = (
    (("uint32",), 2), (("int8",), 3), (("uint16",), 4), (("float16", "float64"), 5), (("int4",), 6),
    (("bfloat16",), 7), (("int2", "uint4"), 8), (_FLOAT8, 9),
)  # fmt: skip


class _Operands:
    """One operator with its tensors at hand; a missing one has type ""."""

    def __init__(self, graph: SubgraphView, operator: OperatorView) -> None:
        self.inputs = graph.operands(operator.inputs)
        self.outputs = graph.operands(operator.outputs)
        self._options = operator.options

    def input(self, index: int) -> TensorView | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def type(self, index: int) -> str:
        tensor = self.input(index)
        return "" if tensor is None else tensor.dtype

    def output_type(self, index: int = 0) -> str:
        tensor = self.outputs[index] if index < len(self.outputs) else None
        return "" if tensor is None else tensor.dtype

    def rank(self, index: int = 0) -> int:
        tensor = self.input(index)
        return 0 if tensor is None else len(tensor.shape)

    def has_int32_bias_type(self) -> bool:
        # Int64 is what int16 kernels took before the option existed, and the converter now spells it out.
        return bool(self.option("quantizedBiasType") == _INT32)

    @staticmethod
    def scale(tensor: TensorView | None) -> float:
        return tensor.scales[0] if tensor is not None and tensor.scales else 0.0

    def broadcasts_above_rank(self, rank: int) -> bool:
        x, y = self.input(0), self.input(1)
        return x is not None and y is not None and x.shape != y.shape and max(len(x.shape), len(y.shape)) > rank

    def option(self, name: str) -> Any:
        return getattr(self._options, name, 0)

    def hybrid(self, weights: int) -> bool:
        """Float activations with int8 weights: the kernel quantizes the activations as they come."""
        return self.type(weights) == "int8" and self.output_type() == "float32"

    def per_channel(self, index: int, dimension: int) -> bool:
        tensor = self.input(index)
        if tensor is None or len(tensor.scales) < 2 or not -len(tensor.shape) <= dimension < len(tensor.shape):
            return False
        return len(tensor.scales) == tensor.shape[dimension]


# The converter has no rule for int4, int2 or blocks beside float activations. These are what engines have that
# compute them right (tools/prediction_matrix); older ones take the file and compute something else. Of
# DEPTHWISE_CONV_2D both have v7: no version tells them apart.
_PACKED = ("int4", "int2")
_HYBRID_PACKED_CONV_2D = 8
_HYBRID_PACKED_DEPTHWISE = 7
_HYBRID_INT4_DENSE, _BLOCKWISE_DENSE = 12, 14


def _conv_2d(o: _Operands) -> int:
    weights, version = o.type(1), 1
    if o.type(0) == "float32" and o.hybrid(1):
        version = 5 if o.per_channel(1, 0) else 2
    elif o.type(0) == "float32" and weights in _PACKED:
        version = _HYBRID_PACKED_CONV_2D
    elif o.type(0) == "int8":
        version = {"int8": 3, "int4": 7}.get(weights, 1)
    elif o.type(0) == "int16":
        version = 8 if o.has_int32_bias_type() else 4
    x, w = o.input(0), o.input(1)
    grouped = x and w and len(x.shape) == len(w.shape) == 4 and x.shape[3] != w.shape[3]
    return max(version, 6 if grouped else 1)


def _depthwise_conv_2d(o: _Operands) -> int:
    version = 1
    if o.type(0) == "float32" and o.hybrid(1):
        version = 6 if o.per_channel(1, 3) else 4
    elif o.type(0) == "float32" and o.type(1) in _PACKED:
        version = _HYBRID_PACKED_DEPTHWISE
    elif o.type(0) == "int8":
        version = {"int8": 3, "int4": 7}.get(o.type(1), 1)
    elif o.type(0) == "int16":
        version = 5
    dilated = o.option("dilationWFactor") > 1 or o.option("dilationHFactor") > 1
    return max(version, 2 if dilated else 1)


def _fully_connected(o: _Operands) -> int:
    activations, weights = o.type(0), o.type(1)
    needs = [1]
    if weights == "int2":
        needs.append(14)
    if activations == "int16":
        needs.append({"int16": 7, "int4": 13}.get(weights, 7))
        needs.append(11 if weights == "int8" and o.has_int32_bias_type() else 1)
    if activations == "int8":
        needs.append({"int8": 4, "int4": 10}.get(weights, 1))
    if activations == "float32" and weights in ("int8", "int4"):
        needs.append(9 if o.option("asymmetricQuantizeInputs") else 3)
        needs.append(_HYBRID_INT4_DENSE if weights == "int4" or o.per_channel(1, 0) else 1)
    tensor = o.input(1)
    needs.append(_BLOCKWISE_DENSE if tensor is not None and tensor.blockwise else 1)
    needs.append(8 if tensor is not None and tensor.sparse else 1)
    needs.append(6 if len(o.inputs) == 2 else 1)
    needs.append(5 if o.option("keepNumDims") else 1)
    needs.append(2 if o.option("weightsFormat") else 1)
    return max(needs)


def _transpose_conv(o: _Operands) -> int:
    needs = [5 if o.type(2) == "int16" and o.has_int32_bias_type() else 1]
    needs.append(4 if o.option("fusedActivationFunction") else 1)
    needs.append(3 if o.type(3) else 1)
    return max(needs)


def _mul(o: _Operands) -> int:
    x, y, z = o.scale(o.input(0)), o.scale(o.input(1)), o.scale(o.outputs[0] if o.outputs else None)
    if x and y and z and x * y >= z:
        return 3
    return 7 if o.type(0) == "int16" and not x else 1


def _add(o: _Operands) -> int:
    x = o.input(0)
    if x is None or x.dtype != "int16":
        return 1
    if not x.is_quantized:
        return 5
    return 1 if o.option("potScaleInt16") else 3


def _sub(o: _Operands) -> int:
    return 5 if o.type(0) == "int16" and o.output_type() == "int16" and not o.option("potScaleInt16") else 1


def _strided_slice(o: _Operands) -> int:
    if o.option("offset"):
        return 8
    return 6 if o.option("ellipsisMask") or o.option("newAxisMask") else 1


def _dequantize(o: _Operands) -> int:
    x = o.input(0)
    return 5 if x and x.dtype == "int8" and o.per_channel(0, x.quantized_dimension) else 1


def _quantize(o: _Operands) -> int:
    types, z = {o.type(0), o.output_type()}, o.outputs[0] if o.outputs else None
    needs = [1, 5 if "uint4" in types else 1, 4 if "int4" in types else 1, 6 if "int2" in types else 1]
    needs.append(2 if o.output_type() == "int16" else 1)
    needs.append(3 if z is not None and len(z.scales) > 1 else 1)
    return max(needs)


def _cast(o: _Operands) -> int:
    types = {o.type(0), o.output_type()}
    return max([1, *(version for names, version in _CAST if types & set(names))])


def _lstm(o: _Operands) -> int:
    if o.option("kernelType") == 1:
        return 2
    return _sequence_lstm(o, hybrid=3)


def _sequence_lstm(o: _Operands, hybrid: int = 2) -> int:
    needs = [1, 4 if o.option("diagonalRecurrentTensors") else 1]
    if o.type(0) == "int16" and o.type(2) == "int8":
        needs.append(5)
    if o.type(0) == "float32" and o.hybrid(2):
        needs.append(hybrid + 1 if o.option("asymmetricQuantizeInputs") else hybrid)
    return max(needs)


def _bidirectional_lstm(o: _Operands) -> int:
    if not (o.type(0) == "float32" and o.hybrid(2)):
        return 1
    return 3 if o.option("asymmetricQuantizeInputs") else 2


def _rnn(o: _Operands) -> int:
    if not o.hybrid(1):
        return 1
    return 3 if o.option("asymmetricQuantizeInputs") else 2


def _svdf(o: _Operands) -> int:
    if not (o.type(0) == "float32" and o.hybrid(1)):
        return 1
    return 4 if o.option("asymmetricQuantizeInputs") else 2


def _batch_matmul(o: _Operands) -> int:
    return 4 if o.type(0) == "float32" and o.hybrid(1) and o.option("asymmetricQuantizeInputs") else 1


def _embedding_lookup(o: _Operands) -> int:
    return 4 if o.per_channel(1, 0) else 1


def _abs(o: _Operands) -> int:
    x = o.input(0)
    if x is None or x.dtype != "int16":
        return 1
    return 3 if x.is_quantized else 4


def _resize(o: _Operands) -> int:
    return 3 if o.option("halfPixelCenters") else 1


def _resize_nearest(o: _Operands) -> int:
    return 3 if o.option("halfPixelCenters") or o.option("alignCorners") else 1


_RULES: dict[str, Callable[[_Operands], int]] = {
    "ABS": _abs,
    "ADD": _add,
    "BATCH_MATMUL": _batch_matmul,
    "BATCH_TO_SPACE_ND": lambda o: 1 if o.rank() == 4 else 3,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _bidirectional_lstm,
    "BIDIRECTIONAL_SEQUENCE_RNN": _rnn,
    "BROADCAST_TO": lambda _: 2,
    "CAST": _cast,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "FAKE_QUANT": lambda o: 2 if o.option("narrowRange") else 1,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": lambda o: 5 if o.option("batchDims") else 1,
    "LSTM": _lstm,
    "MUL": _mul,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "RNN": _rnn,
    "SELECT": lambda o: 3 if 5 in (o.rank(0), o.rank(1), o.rank(2)) else 1,
    "SPACE_TO_BATCH_ND": lambda o: 1 if o.rank() == 4 else 3,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _sub,
    "SVDF": _svdf,
    "TOPK_V2": lambda o: 3 if "int16" in (o.type(1), o.output_type(1)) else 1,
    "TRANSPOSE_CONV": _transpose_conv,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
    "WHERE": lambda o: 1 if o.type(0) == "bool" else 2,
}


def needed_version(graph: SubgraphView, operator: OperatorView) -> int:
    """Return the lowest version whose kernel computes this operator on these tensors."""
    operands = _Operands(graph, operator)
    needs = [1]
    for index in range(len(operator.inputs)):
        needs.append(_BY_INPUT_TYPE.get((operator.name, index), {}).get(operands.type(index), 1))
    rank = operands.rank()
    needs.extend(version for above, version in _BY_RANK.get(operator.name, ()) if rank > above)
    if operator.name in _BROADCAST_RANK5 and operands.broadcasts_above_rank(4):
        needs.append(_BROADCAST_RANK5[operator.name])
    if operator.name in _RULES:
        needs.append(_RULES[operator.name](operands))
    return max(needs)
