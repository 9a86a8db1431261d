"""Regenerate the TFLite files of this folder; see README.md.

Needs TensorFlow 2.19 (`edgepack toolchain`'s Keras/SavedModel environment has it); nothing in the tests does.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

HERE = Path(__file__).resolve().parent
# Of `_detection`: the middle's y and x, height and width.
ANCHORS = np.array(
    [[0.3, 0.3, 0.2, 0.2], [0.32, 0.3, 0.2, 0.2], [0.7, 0.7, 0.3, 0.3], [0.5, 0.5, 0.1, 0.1], [0.2, 0.8, 0.2, 0.1],
     [0.8, 0.2, 0.1, 0.2]], np.float32,
)  # fmt: skip


class TwoByTwo(tf.Module):
    """Inputs and outputs whose names sort in another order than the model has them in."""

    @tf.function
    def __call__(self, zebra: tf.Tensor, apple: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"yes": zebra + 10.0 * tf.reduce_sum(apple), "maybe": 2.0 * apple}


class Dense(tf.Module):
    """One matrix product and a tanh, with weights from a fixed generator."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.constant(np.random.default_rng(7).normal(size=(8, 4)).astype(np.float32))

    @tf.function
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.tanh(tf.matmul(x, self.weights))}


class Codec(tf.Module):
    """Two functions over the same weights: each becomes a signature with a graph of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(7).normal(size=(8, 4)).astype(np.float32))

    @tf.function
    def encode(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"code": tf.matmul(x, self.weights)}

    @tf.function
    def decode(self, gain: tf.Tensor, code: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"x": gain * tf.matmul(code, self.weights, transpose_b=True), "power": tf.reduce_sum(code * code)}


def _codec() -> bytes:
    module = Codec()
    encode = module.encode.get_concrete_function(_spec("x", 1, 8))
    decode = module.decode.get_concrete_function(_spec("gain", 1), _spec("code", 1, 4))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"encode": encode, "decode": decode})
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder, ["encode", "decode"]).convert())


def _spec(name: str, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32, name=name)


def _convert(module: tf.Module, *specs: tf.TensorSpec, int8: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        function = module.__call__.get_concrete_function(*specs)
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if int8:
            samples = np.random.default_rng(8).normal(size=(64, 1, 8)).astype(np.float32)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([s] for s in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def _without_signature(data: bytes) -> bytes:
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    model.signatureDefs = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _in_order(data: bytes, inputs: list[bytes], outputs: list[bytes]) -> bytes:
    """The same model with its subgraph's and its signature's tensors in the given order; TensorFlow sorts them."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    signature.inputs.sort(key=lambda tensor: inputs.index(tensor.name))
    signature.outputs.sort(key=lambda tensor: outputs.index(tensor.name))
    graph.inputs = [tensor.tensorIndex for tensor in signature.inputs]
    graph.outputs = [tensor.tensorIndex for tensor in signature.outputs]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _tensor(name: str, shape: list[int], *, buffer: int = 0, variable: bool = False) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, shape, schema.TensorType.FLOAT32
    tensor.buffer, tensor.isVariable = buffer, variable
    return tensor


def _svdf() -> bytes:
    """A one-filter SVDF written by hand: y is the sum of the last three x, kept in a variable tensor."""
    options = schema.SVDFOptionsT()
    options.rank = 1
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SVDF
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2, -1, 3], [4]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SVDFOptions, options
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("x", [1, 1]),
        _tensor("weights_feature", [1, 1], buffer=1),
        _tensor("weights_time", [1, 3], buffer=2),
        _tensor("state", [1, 3], variable=True),
        _tensor("y", [1, 1]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [4], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = []
    for values in ([], [1.0], [1.0, 1.0, 1.0]):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.asarray(values, np.float32).tobytes(), np.uint8) if values else None
        model.buffers.append(buffer)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _detection() -> bytes:
    """The operator at the end of SSD, written by hand: six anchors, two classes and the background, five boxes."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"TFLite_Detection_PostProcess", 1
    options = flexbuffers.Builder()
    with options.Map():
        for name, whole in (("max_detections", 5), ("max_classes_per_detection", 1), ("num_classes", 2)):
            options.Int(name, whole)
        for name, number in (("nms_score_threshold", 0.1), ("nms_iou_threshold", 0.5), ("y_scale", 10.0),
                             ("x_scale", 10.0), ("h_scale", 5.0), ("w_scale", 5.0)):  # fmt: skip
            options.Float(name, number)
        options.Bool("use_regular_nms", False)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3, 4, 5, 6]
    operator.customOptions = np.frombuffer(bytes(options.Finish()), np.uint8)
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("encodings", [1, 6, 4]),
        _tensor("predictions", [1, 6, 3]),
        _tensor("anchors", [6, 4], buffer=1),
        _tensor("boxes", [1, 5, 4]),
        _tensor("kinds", [1, 5]),
        _tensor("scores", [1, 5]),
        _tensor("count", [1]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0, 1], [3, 4, 5, 6], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    content = schema.BufferT()
    content.data = np.frombuffer(ANCHORS.tobytes(), np.uint8)
    model.buffers = [schema.BufferT(), content]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _with_custom_op(data: bytes) -> bytes:
    """The same model, its first operator renamed to one that no engine has."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"NoSuchOp"
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptions, operator.builtinOptionsType = None, schema.BuiltinOptions.NONE
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _with_two_signatures(data: bytes) -> bytes:
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    (first,) = model.signatureDefs
    second = schema.SignatureDefT()
    second.inputs, second.outputs, second.subgraphIndex = first.inputs, first.outputs, 0
    second.signatureKey = b"other"
    model.signatureDefs = [first, second]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def main() -> None:
    dense = _convert(Dense(), _spec("x", 1, 8))
    models = {
        "two_by_two.tflite": _in_order(
            _convert(TwoByTwo(), _spec("zebra", 1, 4), _spec("apple", 1, 2)),
            [b"zebra", b"apple"],
            [b"yes", b"maybe"],
        ),
        "no_signature.tflite": _without_signature(dense),
        "dynamic_batch.tflite": _convert(Dense(), _spec("x", None, 8)),
        "int8.tflite": _convert(Dense(), _spec("x", 1, 8), int8=True),
        "stateful.tflite": _svdf(),
        "custom_op.tflite": _with_custom_op(dense),
        "codec.tflite": _codec(),
        "detection.tflite": _detection(),
        "two_signatures.tflite": _with_two_signatures(dense),
    }
    for name, data in models.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        (HERE / name).write_bytes(data)
        print(name, len(data), file=sys.stderr)


if __name__ == "__main__":
    main()
