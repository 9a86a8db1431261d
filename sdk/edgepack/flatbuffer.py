"""A typed, checked view of a TFLite file: what the host needs to know about it, without running it.

`read_model` walks the file with the schema's generated accessors and believes nothing: every index is checked, every
vector's length is counted against the size of the file, and whatever the accessors raise becomes a
`SourceModelError`. The schema itself is `ai_edge_litert.schema_py_generated`, imported when a model is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from edgepack.errors import SourceModelError

__all__ = [
    "ITEM_BITS",
    "MALFORMED",
    "ModelView",
    "OpcodeView",
    "OperatorView",
    "Signature",
    "SubgraphView",
    "TensorView",
    "operator_name",
    "operator_names",
    "read_model",
]

T = TypeVar("T")

# Bits an element takes in memory; types without a fixed size (strings, variants) are missing.
ITEM_BITS = {
    "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "float8_e4m3fn": 8, "float8_e5m2": 8,
    "int64": 64, "int32": 32, "int16": 16, "int8": 8, "int4": 4, "int2": 2,
    "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "uint4": 4,
    "bool": 8, "complex64": 64, "complex128": 128, "resource": 64,
}  # fmt: skip

# What the generated accessors raise on a file that is no model: out of the buffer, not text, negative sizes.
MALFORMED = (
    struct.error,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    KeyError,
    AssertionError,
)

# Options whose fields decide an operator's version; all of them hold scalars, so unpacking one is cheap.
_SCALAR_OPTIONS = (
    "AddOptions", "BatchMatMulOptions", "BidirectionalSequenceLSTMOptions", "BidirectionalSequenceRNNOptions",
    "Conv2DOptions", "DepthwiseConv2DOptions", "FakeQuantOptions", "GatherOptions", "LSTMOptions", "RNNOptions",
    "ResizeBilinearOptions", "ResizeNearestNeighborOptions", "SVDFOptions", "SequenceRNNOptions",
    "StridedSliceOptions", "SubOptions", "TransposeConvOptions", "UnidirectionalSequenceLSTMOptions",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorView:
    """One tensor; `constant_bytes` is 0 for an activation.

    `shape` is what an interpreter allocates unless inputs are resized, `shape_signature` has -1 where it may change.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    constant_bytes: int
    buffer: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    blockwise: bool
    sparse: bool
    variable: bool

    @property
    def is_constant(self) -> bool:
        """Whether the file holds the tensor's content."""
        return self.constant_bytes > 0

    @property
    def is_quantized(self) -> bool:
        """Whether the numbers stored stand for others."""
        return bool(self.scales) or self.blockwise

    @property
    def size_in_memory(self) -> int | None:
        """Bytes the tensor takes at its stored shape, or None for a type without a fixed size."""
        bits = ITEM_BITS.get(self.dtype)
        return None if bits is None else -(-math.prod(self.shape) * bits // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcodeView:
    """One entry of the operator table; an interpreter refuses a file with an unknown one, used or not."""

    name: str
    version: int
    custom_code: str

    def __str__(self) -> str:
        return f"{self.custom_code} (custom)" if self.name == "CUSTOM" else f"{self.name} v{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorView:
    """One operator; -1 in `inputs` is an optional input left out, `options` the schema's ``…OptionsT`` or None."""

    opcode: int
    name: str
    version: int
    custom_code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphView:
    """One graph: the first is the model, others are bodies of control flow."""

    name: str
    tensors: tuple[TensorView, ...]
    operators: tuple[OperatorView, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def operands(self, indices: tuple[int, ...]) -> tuple[TensorView | None, ...]:
        """Return the tensors of an operator's `inputs` or `outputs`, None for one left out."""
        return tuple(self.tensors[i] if i >= 0 else None for i in indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One SignatureDef: (name, tensor index) of inputs and outputs, in the file's order."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """What a TFLite file says about itself."""

    file_bytes: int
    description: str
    min_runtime_version: str
    opcodes: tuple[OpcodeView, ...]
    subgraphs: tuple[SubgraphView, ...]
    signatures: tuple[Signature, ...]
    has_external_buffers: bool

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants, each buffer counted once however many tensors share it."""
        sizes = {t.buffer: t.constant_bytes for g in self.subgraphs for t in g.tensors}
        return sum(sizes.values())

    @property
    def is_dynamic(self) -> bool:
        """Whether some tensor's shape may change at run time."""
        return any(-1 in t.shape_signature for g in self.subgraphs for t in g.tensors)

    def operators(self) -> Iterator[tuple[SubgraphView, OperatorView]]:
        """Yield every operator of every graph with its graph."""
        for graph in self.subgraphs:
            for operator in graph.operators:
                yield graph, operator


@cache
def _names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {v: k for k, v in vars(getattr(schema, enum)).items() if not k.startswith("_")}


def operator_name(code: int) -> str:
    """Return the builtin operator's name, e.g. ``CONV_2D``; ``BUILTIN_999`` for one this schema does not know."""
    return _names("BuiltinOperator").get(code, f"BUILTIN_{code}")


def operator_names() -> frozenset[str]:
    """Return the names of all builtin operators."""
    return frozenset(_names("BuiltinOperator").values())


def read_model(data: bytes) -> ModelView:
    """Return what the file says.

    Raises:
        SourceModelError: the bytes are no TFLite model, are cut short or contradict themselves.
    """
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise SourceModelError(f"not a TFLite model: no 'TFL3' at byte 4 of {len(data)} bytes")
    try:
        return _Reader(data).model()
    except MALFORMED as e:
        raise SourceModelError(f"the TFLite file is truncated or malformed ({type(e).__name__}: {e})") from e
    except MemoryError:
        raise SourceModelError("the TFLite file is malformed: a length in it exceeds the machine's memory") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.data = data
        self.schema = schema
        # Vectors of an honest file do not overlap, so all elements together fit into it. Without this, a small
        # file whose entries all point at one long vector takes hours to read.
        self.elements_left = len(data)
        self.buffer_sizes: tuple[int, ...] = ()
        self.has_external_buffers = False

    def model(self) -> ModelView:
        root = self.schema.Model.GetRootAs(self.data, 0)
        self.buffer_sizes = self._each(root.BuffersLength(), root.Buffers, self._buffer_size)
        opcodes = self._each(root.OperatorCodesLength(), root.OperatorCodes, self._opcode)
        graphs = self._each(root.SubgraphsLength(), root.Subgraphs, lambda g: self._subgraph(g, opcodes))
        if not graphs:
            raise SourceModelError("the TFLite file holds no graph")
        signatures = self._each(root.SignatureDefsLength(), root.SignatureDefs, lambda s: self._signature(s, graphs))
        metadata = dict(self._each(root.MetadataLength(), root.Metadata, lambda m: (_text(m.Name()), m.Buffer())))
        return ModelView(
            file_bytes=len(self.data),
            description=_text(root.Description()),
            min_runtime_version=self._metadata_text(root, metadata.get("min_runtime_version")),
            opcodes=opcodes,
            subgraphs=graphs,
            signatures=signatures,
            has_external_buffers=self.has_external_buffers,
        )

    def _count(self, length: int) -> int:
        self.elements_left -= length
        if length < 0 or self.elements_left < 0:
            raise SourceModelError(
                f"the TFLite file is malformed: its vectors hold more than its {len(self.data)} bytes"
            )
        return length

    def _each(self, length: int, get: Callable[[int], Any], read: Callable[[Any], T]) -> tuple[T, ...]:
        return tuple(read(get(i)) for i in range(self._count(length)))

    def _numbers(self, length: int, get: Callable[[int], Any]) -> tuple[Any, ...]:
        return tuple(get(i) for i in range(self._count(length)))

    def _indices(self, length: int, get: Callable[[int], Any], end: int, what: str) -> tuple[int, ...]:
        indices = self._numbers(length, get)
        for i in indices:
            _check_index(i, end, what, optional=True)
        return indices

    def _buffer_size(self, buffer: Any) -> int:
        # Offset 0 and 1 mean "inside the flatbuffer"; others point behind it, where large models keep weights.
        start, size = buffer.Offset(), buffer.Size()
        if start > 1:
            if start + size > len(self.data):
                raise SourceModelError(f"the TFLite file is cut short: weights up to byte {start + size}, "
                                       f"the file has {len(self.data)}")  # fmt: skip
            self.has_external_buffers = True
            return int(size)
        length = buffer.DataLength()
        if length > 0 and len(buffer.DataAsNumpy()) != length:
            raise SourceModelError("the TFLite file is cut short inside its weights")
        return int(length)

    def _metadata_text(self, root: Any, index: int | None) -> str:
        if index is None:
            return ""
        _check_index(index, root.BuffersLength(), "metadata buffer")
        buffer = root.Buffers(index)
        return bytes(buffer.DataAsNumpy()).rstrip(b"\0").decode("ascii") if buffer.DataLength() else ""

    @staticmethod
    def _opcode(code: Any) -> OpcodeView:
        # Files older than builtin 127 have only the deprecated field, newer ones a placeholder in it.
        name = operator_name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        return OpcodeView(name=name, version=code.Version(), custom_code=_text(code.CustomCode()))

    def _subgraph(self, graph: Any, opcodes: tuple[OpcodeView, ...]) -> SubgraphView:
        tensors = self._each(graph.TensorsLength(), graph.Tensors, self._tensor)
        end = len(tensors)
        return SubgraphView(
            name=_text(graph.Name()),
            tensors=tensors,
            operators=self._each(graph.OperatorsLength(), graph.Operators, lambda o: self._operator(o, opcodes, end)),
            inputs=self._indices(graph.InputsLength(), graph.Inputs, end, "graph input"),
            outputs=self._indices(graph.OutputsLength(), graph.Outputs, end, "graph output"),
        )

    def _tensor(self, tensor: Any) -> TensorView:
        name, buffer = _text(tensor.Name()), tensor.Buffer()
        _check_index(buffer, max(1, len(self.buffer_sizes)), f"buffer of tensor {name!r}")
        shape = self._numbers(tensor.ShapeLength(), tensor.Shape)
        signature = self._numbers(tensor.ShapeSignatureLength(), tensor.ShapeSignature)
        if any(d < 0 for d in shape):
            raise SourceModelError(f"the TFLite file is malformed: tensor {name!r} has shape {list(shape)}")
        quantization = tensor.Quantization()
        scales: tuple[float, ...] = ()
        zero_points: tuple[int, ...] = ()
        if quantization is not None:
            scales = self._numbers(quantization.ScaleLength(), quantization.Scale)
            zero_points = self._numbers(quantization.ZeroPointLength(), quantization.ZeroPoint)
        return TensorView(
            name=name,
            dtype=_names("TensorType")[tensor.Type()].lower(),
            shape=shape,
            shape_signature=signature or shape,
            constant_bytes=self.buffer_sizes[buffer] if self.buffer_sizes else 0,
            buffer=buffer,
            scales=scales,
            zero_points=zero_points,
            quantized_dimension=0 if quantization is None else quantization.QuantizedDimension(),
            blockwise=quantization is not None
            and quantization.DetailsType() == self.schema.QuantizationDetails.BlockwiseQuantization,
            sparse=tensor.Sparsity() is not None,
            variable=bool(tensor.IsVariable()),
        )

    def _operator(self, operator: Any, opcodes: tuple[OpcodeView, ...], end: int) -> OperatorView:
        index = operator.OpcodeIndex()
        _check_index(index, len(opcodes), "operator code")
        code = opcodes[index]
        return OperatorView(
            opcode=index,
            name=code.name,
            version=code.version,
            custom_code=code.custom_code,
            inputs=self._indices(operator.InputsLength(), operator.Inputs, end, f"input of {code.name}"),
            outputs=self._indices(operator.OutputsLength(), operator.Outputs, end, f"output of {code.name}"),
            options=self._options(operator),
        )

    def _options(self, operator: Any) -> Any:
        kind, table = (
            _names("BuiltinOptions").get(operator.BuiltinOptionsType(), ""),
            operator.BuiltinOptions(),
        )
        if table is None:
            return None
        if kind in _SCALAR_OPTIONS:
            return getattr(self.schema, kind + "T").InitFromBuf(table.Bytes, table.Pos)
        if kind == "FullyConnectedOptions":
            # The one kind of interest with a vector, which no version depends on: read the scalars only.
            view = self.schema.FullyConnectedOptions()
            view.Init(table.Bytes, table.Pos)
            return self.schema.FullyConnectedOptionsT(
                weightsFormat=view.WeightsFormat(),
                keepNumDims=view.KeepNumDims(),
                asymmetricQuantizeInputs=view.AsymmetricQuantizeInputs(),
                quantizedBiasType=view.QuantizedBiasType(),
            )
        return None

    def _signature(self, signature: Any, graphs: tuple[SubgraphView, ...]) -> Signature:
        index = signature.SubgraphIndex()
        _check_index(index, len(graphs), "graph of a signature")

        def entry(mapping: Any) -> tuple[str, int]:
            name, tensor = _text(mapping.Name()), mapping.TensorIndex()
            _check_index(tensor, len(graphs[index].tensors), f"tensor of signature entry {name!r}")
            return name, tensor

        return Signature(
            key=_text(signature.SignatureKey()),
            subgraph=index,
            inputs=self._each(signature.InputsLength(), signature.Inputs, entry),
            outputs=self._each(signature.OutputsLength(), signature.Outputs, entry),
        )


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8")


def _check_index(index: int, end: int, what: str, *, optional: bool = False) -> None:
    if not (-1 if optional else 0) <= index < end:
        raise SourceModelError(f"the TFLite file is malformed: {what} has index {index} of {end}")
