"""Write small ONNX models with unusual inputs and outputs into the folder given; runs in the onnx toolchain."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(sys.argv[1])
random = np.random.default_rng(0)
node = helper.make_node


def write(name, nodes, inputs, outputs, initializers):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(item, kind, shape) for item, kind, shape in inputs],
        [helper.make_tensor_value_info(item, kind, shape) for item, kind, shape in outputs],
        [numpy_helper.from_array(array, key) for key, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(FOLDER / f"{name}.onnx"))


def weights(*shape, dtype=np.float32):
    return random.normal(size=shape).astype(dtype)


write(
    "gated",
    [
        node("Cast", ["pixels"], ["p"], to=TensorProto.FLOAT),
        node("Where", ["mask", "p", "zero"], ["v"]),
        node("MatMul", ["v", "w"], ["m"]),
        node("Mul", ["m", "gain"], ["y"]),
        node("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
    ],
    [
        ("pixels", TensorProto.UINT8, ["n", 4]),
        ("mask", TensorProto.BOOL, ["n", 4]),
        ("gain", TensorProto.FLOAT, []),
    ],
    [("y", TensorProto.FLOAT, ["n", 3]), ("best", TensorProto.INT64, ["n"])],
    {"w": weights(4, 3), "zero": np.array(0, np.float32)},
)
write(
    "double",
    [node("MatMul", ["x", "w"], ["y"])],
    [("x", TensorProto.DOUBLE, ["n", 4])],
    [("y", TensorProto.DOUBLE, ["n", 3])],
    {"w": weights(4, 3, dtype=np.float64)},
)
# One step of a recurrent layer: its state goes in and comes out, and is the caller's to carry.
write(
    "step",
    [
        node("Unsqueeze", ["x", "first"], ["steps"]),
        node("Unsqueeze", ["state", "first"], ["before"]),
        node("GRU", ["steps", "w", "r", "", "", "before"], ["", "after"], hidden_size=5),
        node("Squeeze", ["after", "first"], ["next_state"]),
        node("MatMul", ["next_state", "v"], ["y"]),
    ],
    [("x", TensorProto.FLOAT, [1, 4]), ("state", TensorProto.FLOAT, [1, 5])],
    [("y", TensorProto.FLOAT, [1, 2]), ("next_state", TensorProto.FLOAT, [1, 5])],
    {"w": weights(1, 15, 4), "r": weights(1, 15, 5), "v": weights(5, 2), "first": np.array([0])},
)
write(
    "centred",
    [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["c"]), node("MatMul", ["c", "w"], ["y"])],
    [("x", TensorProto.FLOAT, ["n", 4])],
    [("y", TensorProto.FLOAT, ["n", 3])],
    {"w": weights(4, 3)},
)
# What an image network looks like that gives a mask: channels first at both ends.
write(
    "segmenter",
    [
        node("Conv", ["image", "w1"], ["a"], pads=[1] * 4),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w2"], ["mask"], pads=[1] * 4),
    ],
    [("image", TensorProto.FLOAT, ["n", 3, 32, 24])],
    [("mask", TensorProto.FLOAT, ["n", 2, 32, 24])],
    {"w1": weights(8, 3, 3, 3), "w2": weights(2, 8, 3, 3)},
)
