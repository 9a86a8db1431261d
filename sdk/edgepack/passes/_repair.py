"""What ai-edge-quantizer leaves broken, put right; and a check that nothing of the kind is left.

Three faults were found by running its results. A graph output that is also read inside the graph (logits and their
softmax) has its readers moved behind the DEQUANTIZE, so that an int8 operator reads float32 and computes noise on
every engine, without a word. Where one side of such an output is float, either the signature keeps the tensor that is
an output no more, or what is quantized for the reader becomes the output. And an unused output of SPLIT keeps its
float32 beside int8 siblings.
"""

from __future__ import annotations

from typing import Any

from edgepack.errors import PassError
from edgepack.flatbuffer import ModelView, Signature

__all__ = ["check_types", "repair", "settle_outputs"]

_CHANGE_TYPE = ("QUANTIZE", "DEQUANTIZE", "CAST", "IF", "WHILE", "CALL_ONCE", "CUSTOM")


def repair(model: Any) -> None:
    """Put both faults right, in place.

    ::

        y(int8) -> DEQUANTIZE -> y(f32) -> SOFTMAX -> p(int8)   =>   y(int8) -> SOFTMAX -> p(int8)
    """
    from ai_edge_litert import schema_py_generated as schema

    float32 = schema.TensorType.FLOAT32
    codes = [code.builtinCode for code in model.operatorCodes]
    types_change = {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}
    for graph in model.subgraphs:
        sources = {
            int(o.outputs[0]): int(o.inputs[0])
            for o in graph.operators
            if codes[o.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE
        }
        for operator in graph.operators:
            if codes[operator.opcodeIndex] in types_change:
                continue
            if any(_is_quantized(graph.tensors[int(i)], float32) for i in operator.outputs):
                operator.inputs = [sources.get(int(i), int(i)) for i in operator.inputs]
        _settle_unused_outputs(graph, float32)


def settle_outputs(model: Any, before: Signature, outputs: tuple[int, ...]) -> None:
    """Let graph and signature have the same outputs again, in place.

    ::

        out y' : y(f32) -> QUANTIZE -> y'(int8) -> SOFTMAX   =>   out y : y(f32) -> QUANTIZE -> y'(int8) -> SOFTMAX

    Args:
        model: what the quantizer made; it has one signature.
        before: the signature of the float model.
        outputs: the outputs of the graph it is of, in the float model.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, (signature,) = model.subgraphs[before.subgraph], model.signatureDefs
    codes = [code.builtinCode for code in model.operatorCodes]
    kinds = schema.BuiltinOperator
    quantized = {
        int(o.outputs[0]): int(o.inputs[0]) for o in graph.operators if codes[o.opcodeIndex] == kinds.QUANTIZE
    }
    unpacked = {
        int(o.inputs[0]): int(o.outputs[0]) for o in graph.operators if codes[o.opcodeIndex] == kinds.DEQUANTIZE
    }
    stated = {entry.name.decode(): entry for entry in signature.outputs}
    found = [int(i) for i in graph.outputs]
    for name, index in before.outputs:
        place, entry = outputs.index(index), stated[name]
        if quantized.get(found[place]) == entry.tensorIndex:
            # Integers of one width may stand before integers of another; the output is the float beside them.
            found[place] = unpacked.get(entry.tensorIndex, entry.tensorIndex)
        entry.tensorIndex = found[place]
    graph.outputs = found


def _is_quantized(tensor: Any, float32: int) -> bool:
    parameters = tensor.quantization
    return tensor.type != float32 and parameters is not None and parameters.scale is not None


def _settle_unused_outputs(graph: Any, float32: int) -> None:
    used = {int(i) for operator in graph.operators for i in operator.inputs} | {int(i) for i in graph.outputs}
    for operator in graph.operators:
        outputs = [(int(i), graph.tensors[int(i)]) for i in operator.outputs]
        sibling = next((t for i, t in outputs if i in used and _is_quantized(t, float32)), None)
        for index, tensor in outputs:
            if sibling is not None and index not in used and tensor.type == float32:
                tensor.type, tensor.quantization = sibling.type, sibling.quantization


def check_types(view: ModelView) -> None:
    """Refuse a model in which an operator reads float32 and writes int8, or the reverse.

    Raises:
        PassError: there is one; the message names it.
    """
    for graph, operator in view.operators():
        if operator.name in _CHANGE_TYPE:
            continue
        inputs = [t for t in graph.operands(operator.inputs) if t is not None]
        outputs = [t for t in graph.operands(operator.outputs) if t is not None]
        floats_in = any(t.dtype == "float32" for t in inputs)
        floats_out = any(t.dtype == "float32" for t in outputs)
        # Constant int8 weights beside float activations are the dynamic-range form, and right.
        computed_in = any(t.is_quantized and not t.is_constant for t in inputs)
        computed_out = any(t.is_quantized and t.dtype != "float32" for t in outputs)
        if (floats_in and computed_out) or (floats_out and computed_in):
            raise PassError(
                f"ai-edge-quantizer left {operator.name} ({outputs[0].name!r}) half float, half integer",
                hint=f"leave it float: keep_float = [{operator.name!r}]",
            )
