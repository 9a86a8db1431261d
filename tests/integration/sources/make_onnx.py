"""Write small ONNX models, weights from a seed, into the folder given; runs in the onnx toolchain."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(sys.argv[1])
random = np.random.default_rng(0)
node = helper.make_node


def weights(*shape):
    return (random.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def write(name, nodes, inputs, outputs, initializers):
    def value(item, shape, kind=TensorProto.FLOAT):
        return helper.make_tensor_value_info(item, kind, shape)

    graph = helper.make_graph(
        nodes,
        name,
        [value(*item) for item in inputs],
        [value(*item) for item in outputs],
        [numpy_helper.from_array(array, key) for key, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(FOLDER / f"{name}.onnx"))


write(
    "classifier",
    [
        node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        node("BatchNormalization", ["a", "scale", "bias", "mean", "var"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("Conv", ["d", "w2"], ["e"], pads=[1] * 4, group=8),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "w3", "b3"], ["y"], transB=1),
    ],
    [("x", ["batch", 3, 16, 16])],
    [("y", ["batch", 5])],
    {
        "w1": weights(8, 3, 3, 3),
        "scale": 1 + weights(8),
        "bias": weights(8),
        "mean": weights(8),
        "var": np.abs(weights(8)) + 1,
        "w2": weights(8, 1, 3, 3),
        "w3": weights(5, 8),
        "b3": weights(5),
    },
)
# As many channels as rows and columns: no shape tells channels-first from channels-last.
write(
    "cube",
    [node("Conv", ["x", "w"], ["a"], pads=[1] * 4), node("Relu", ["a"], ["mask"])],
    [("x", [1, 3, 3, 3])],
    [("mask", [1, 3, 3, 3])],
    {"w": weights(3, 3, 3, 3)},
)
write(
    "volume",
    [node("Conv", ["x", "w"], ["mask"], pads=[1] * 6)],
    [("x", [1, 2, 4, 5, 6])],
    [("mask", [1, 3, 4, 5, 6])],
    {"w": weights(3, 2, 3, 3, 3)},
)
write(
    "names",
    [
        node("Conv", ["serving_default_image:0", "w"], ["a"]),
        node("GlobalAveragePool", ["a"], ["b"]),
        node("Flatten", ["b"], ["c"]),
        node("Concat", ["c", "a.meta"], ["d"], axis=1),
        node("Gemm", ["d", "w2"], ["zebra:1"], transB=1),
        node("Sigmoid", ["a.meta"], ["ant/0"]),
    ],
    [("serving_default_image:0", ["n", 3, 8, 8]), ("a.meta", ["n", 5])],
    [("zebra:1", ["n", 2]), ("ant/0", ["n", 5])],
    {"w": weights(4, 3, 3, 3), "w2": weights(2, 9)},
)
write(
    "recurrent",
    [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["", "h", ""], hidden_size=8),
        node("Squeeze", ["h", "axis"], ["s"]),
        node("Gemm", ["s", "g"], ["y"], transB=1),
    ],
    [("x", [1, 6, 4])],
    [("y", [1, 3])],
    {
        "w": weights(1, 32, 4),
        "r": weights(1, 32, 8),
        "b": weights(1, 64),
        "axis": np.array([0]),
        "g": weights(3, 8),
    },
)
write(
    "audio",
    [node("Conv", ["x", "w"], ["a"]), node("GlobalMaxPool", ["a"], ["y"])],
    [("x", ["batch", 1, "samples"])],
    [("y", ["batch", 4, 1])],
    {"w": weights(4, 1, 5)},
)
write(
    "integers",
    [
        node("Gather", ["table", "ids"], ["e"]),
        node("ReduceMean", ["e"], ["y"], axes=[1], keepdims=0),
    ],
    [("ids", ["n", 7], TensorProto.INT64)],
    [("y", ["n", 4])],
    {"table": weights(20, 4)},
)
write(
    "roots",
    [node("Det", ["x"], ["d"]), node("Reshape", ["d", "shape"], ["y"])],
    [("x", [1, 4, 4])],
    [("y", [1, 1])],
    {"shape": np.array([1, 1])},
)
write("foreign", [node("Swirl", ["x"], ["y"], name="turn", domain="some.one")], [("x", [1, 4])], [("y", [1, 4])], {})
# A division that looks at its divisor first, and a mask of minus infinity: what is not chosen is no number.
write(
    "careful",
    [
        node("ReduceMax", ["x"], ["m"], axes=[1, 2], keepdims=1),
        node("Div", ["x", "m"], ["d"]),
        node("Equal", ["m", "zero"], ["empty"]),
        node("Where", ["empty", "zero", "d"], ["y"]),
        node("Less", ["x", "limit"], ["mask"]),
        node("Where", ["mask", "y", "never"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=-1),
    ],
    [("x", [1, 3, 4])],
    [("y", [1, 3, 4]), ("p", [1, 3, 4])],
    {"zero": np.float32(0), "never": np.float32(-np.inf), "limit": np.float32(1)},
)
