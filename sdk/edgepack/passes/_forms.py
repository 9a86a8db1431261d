"""Which form a scheme gives the layers of one operator type on one engine: the rule for the quantizer, or none.

Where a scheme has no kernel for an operator, `COMPANIONS` says which milder one takes its place; a layer that has
none of the forms stays float, and the notes of a pass name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.passes._layouts import DYNAMIC_LAYOUTS, PER_CHANNEL, PER_TENSOR

__all__ = [
    "ALGORITHMS",
    "BLOCKS",
    "BLOCKS_SINCE",
    "COMPANIONS",
    "FLOATS",
    "STATIC",
    "WEIGHT_BITS",
    "Rule",
    "form_of",
    "rule_for",
]

FLOATS = ("float32", "float16")
# How many bits a weight takes in each precision that a layer can have.
WEIGHT_BITS: Mapping[str, int] = {
    "float32": 32,
    "float16": 16,
    "full_integer": 8,
    "dynamic_range": 8,
    "int16x8": 8,
    "weight_only_int8": 8,
    "weight_only_int4": 4,
    "dynamic_int4": 4,
    "dynamic_int2": 2,
}
# Bits of the activations: these need calibration data.
STATIC: Mapping[str, int] = {"full_integer": 8, "int16x8": 16}
# What the layers get for which a scheme has no kernel.
COMPANIONS: Mapping[str, str] = {
    "dynamic_int4": "dynamic_range",
    "dynamic_int2": "dynamic_range",
    "weight_only_int4": "weight_only_int8",
}
# How the scales of weights are chosen.
ALGORITHMS = ("min_max", "mse", "octav")
# How many neighbours of a dense layer's weights may share a scale, and the first ai-edge-litert that computes it.
BLOCKS = (32, 64, 128, 256)
BLOCKS_SINCE = "2.1.0"
_WORDS = {PER_CHANNEL: "CHANNELWISE", PER_TENSOR: "TENSORWISE"}
_DENSE = frozenset({"FULLY_CONNECTED"})
_INT4 = frozenset({"CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP"})
_UNPACKED = frozenset(
    {"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
_STATIC = frozenset({"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How operators are quantized: all of one type, or those whose output tensors are named so in `layers`.

    `weights` is the granularity, None leaves them float; `activations` are bits and make it static, None dynamic;
    `unpacked` puts a DEQUANTIZE behind the weights, so that the operator computes in float.
    """

    operator: str = "*"
    layers: tuple[tuple[str, ...], ...] | None = None
    weights: str | None = "CHANNELWISE"
    bits: int = 8
    activations: int | None = None
    unpacked: bool = False
    algorithm: str = "min_max"
    min_elements: int = 0


def rule_for(operator: str, scheme: str, engine: str) -> Rule | None:
    """Return how layers of this operator type get this scheme's form, None where it has none for the engine."""
    name = engine.partition("==")[0]
    if scheme == "dynamic_range":
        layout = DYNAMIC_LAYOUTS.get(name, {}).get(operator)
        return None if layout is None else Rule(operator=operator, weights=_WORDS[layout])
    if scheme in STATIC and operator in _STATIC:
        # One scale per channel is wrong for BATCH_MATMUL on every engine (data/tensor_types.json), and for
        # FULLY_CONNECTED of several rows of int16 on tflite-runtime.
        wide = scheme == "int16x8" and name == "tflite-runtime"
        granularity = "TENSORWISE" if operator == "BATCH_MATMUL" or (wide and operator in _DENSE) else "CHANNELWISE"
        return Rule(operator=operator, weights=granularity, activations=STATIC[scheme])
    if scheme == "weight_only_int8" and operator in _UNPACKED:
        return Rule(operator=operator, unpacked=True)
    if name != "ai-edge-litert":
        return None
    if scheme == "weight_only_int4" and operator in _INT4:
        return Rule(operator=operator, bits=4, unpacked=True)
    if scheme == "dynamic_int4" and operator in _INT4:
        return Rule(operator=operator, bits=4)
    if scheme == "dynamic_int2" and operator in _DENSE:
        return Rule(operator=operator, bits=2)
    return None


def form_of(operator: str, scheme: str, engine: str) -> str:
    """Return the scheme that a layer of this operator type gets when `scheme` is asked for: float32 if none."""
    if scheme in FLOATS or rule_for(operator, scheme, engine) is not None:
        return scheme
    companion = COMPANIONS.get(scheme, "")
    return companion if companion and rule_for(operator, companion, engine) is not None else "float32"
