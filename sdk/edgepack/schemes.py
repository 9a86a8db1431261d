"""Which quantization scheme a TFLite model carries, told from its tensors and never from its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgepack.flatbuffer import ModelView, OperatorView, SubgraphView, TensorView, read_model

__all__ = [
    "WEIGHT_INPUTS",
    "Weight",
    "is_stateful",
    "scheme_of",
    "scheme_of_view",
    "scheme_of_weight",
    "schemes_of_view",
    "weights",
]

# The inputs that carry weights, per operator; a constant anywhere else is a bias, an offset or a parameter.
WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    "BATCH_MATMUL": (0, 1),
    "BIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "CONV_2D": (1,),
    "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "EMBEDDING_LOOKUP": (1,),
    "FULLY_CONNECTED": (1,),
    "LSTM": tuple(range(1, 9)),
    "RNN": (1, 2),
    "SVDF": (1, 2),
    "TRANSPOSE_CONV": (1,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
}
# What one operator's weights make of the model, the most telling first: mixed models are named by it. Those that
# are no scheme of a device profile are named as well, so that a refusal says what was found.
_PRECEDENCE = (
    "int2", "dynamic_int2", "int4", "dynamic_int4", "weight_only_int4", "int16x8", "uint8", "full_integer",
    "dynamic_range", "weight_only_int8", "float16", "float32",
)  # fmt: skip


_STATE_OPERATORS = frozenset({"ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One weight tensor in use: `stored` is as the file has it, `activation` is what it is multiplied with.

    `position` is the operator's in its graph.
    """

    position: int
    operator: str
    layer: str
    tensor: TensorView
    stored: TensorView
    activation: str

    @property
    def is_unpacked(self) -> bool:
        """Whether a DEQUANTIZE or DENSIFY stands between the file and the operator."""
        return self.tensor is not self.stored


def weights(model: ModelView) -> Iterator[Weight]:
    """Yield every constant weight tensor of every operator, also those reached through DEQUANTIZE or DENSIFY."""
    for graph in model.subgraphs:
        unpacked = _unpacked_constants(graph)
        for position, operator in enumerate(graph.operators):
            operands = graph.operands(operator.inputs)
            for index in WEIGHT_INPUTS.get(operator.name, ()):
                tensor = operands[index] if index < len(operands) else None
                if tensor is None:
                    continue
                stored = tensor if tensor.is_constant else unpacked.get(operator.inputs[index])
                if stored is not None:
                    yield Weight(
                        position=position,
                        operator=operator.name,
                        layer=_layer(graph, operator),
                        tensor=tensor,
                        stored=stored,
                        activation=_activation(operands, operator),
                    )


def _unpacked_constants(graph: SubgraphView) -> dict[int, TensorView]:
    found: dict[int, TensorView] = {}
    for operator in graph.operators:
        if operator.name in ("DEQUANTIZE", "DENSIFY") and len(operator.inputs) == len(operator.outputs) == 1:
            source = graph.tensors[operator.inputs[0]]
            constant = source if source.is_constant else found.get(operator.inputs[0])
            if constant is not None:
                found[operator.outputs[0]] = constant
    return found


def _layer(graph: SubgraphView, operator: OperatorView) -> str:
    return graph.tensors[operator.outputs[0]].name if operator.outputs else operator.name


def _activation(operands: tuple[TensorView | None, ...], operator: OperatorView) -> str:
    # The activation is input 0, but for TRANSPOSE_CONV (2) and EMBEDDING_LOOKUP, whose input 0 is an index.
    if operator.name == "EMBEDDING_LOOKUP":
        return "float32"
    index = 2 if operator.name == "TRANSPOSE_CONV" else 0
    if operator.name == "BATCH_MATMUL" and operands[0] is not None and operands[0].is_constant:
        index = 1
    tensor = operands[index] if index < len(operands) else None
    return "" if tensor is None else tensor.dtype


def scheme_of_weight(weight: Weight) -> str:
    """Return the scheme that one weight makes of its layer; see `scheme_of_view`."""
    stored = weight.stored.dtype
    if stored in ("int4", "int8") and weight.is_unpacked:
        return f"weight_only_{stored}"
    if stored in ("int2", "int4") and weight.activation == "float32" and not weight.is_unpacked:
        return f"dynamic_{stored}"
    if stored in ("int2", "int4", "uint8"):
        return stored
    if stored == "int8":
        return {"int8": "full_integer", "int16": "int16x8"}.get(weight.activation, "dynamic_range")
    return "float16" if stored == "float16" else "float32"


def schemes_of_view(model: ModelView) -> tuple[str, ...]:
    """Return what an engine has to compute right for this model: the schemes of its layers, the most telling first.

    Float32 is among them only where there is nothing else; every engine has it.
    """
    found = {scheme_of_weight(weight) for weight in weights(model)} - {"float32"}
    return tuple(name for name in _PRECEDENCE if name in found) or (scheme_of_view(model),)


def scheme_of_view(model: ModelView) -> str:
    """Return the scheme, one of `edgepack_runtime.profile.SCHEMES` or a name for what is none of them.

    A model with several kinds of weights has the scheme of the most quantized: full_integer with a float island is
    full_integer. One without any weights is judged by the tensors it computes.
    """
    found = {scheme_of_weight(weight) for weight in weights(model)}
    if not found:
        computed = [t.dtype for g in model.subgraphs for t in g.tensors if not t.is_constant and t.is_quantized]
        stored = {t.dtype for g in model.subgraphs for t in g.tensors if t.is_constant}
        found = {"full_integer" if "int8" in computed else "float16" if "float16" in stored else "float32"}
    return next(name for name in _PRECEDENCE if name in found)


def scheme_of(model: bytes) -> str:
    """Return the scheme of a TFLite file; see `scheme_of_view`.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    return scheme_of_view(read_model(model))


def is_stateful(model: bytes) -> bool:
    """Return whether the model keeps variables between runs.

    Raises:
        SourceModelError: it is no valid TFLite model.
    """
    return any(
        operator.name in _STATE_OPERATORS or any(tensor.variable for tensor in graph.tensors)
        for graph in read_model(model).subgraphs
        for operator in graph.operators
    )
