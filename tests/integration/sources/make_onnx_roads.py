"""Write small ONNX models with inputs and onnxruntime's outputs, each as a case of tools.onnx_coverage.

Run in the onnx toolchain with the checkout on the path: ``PYTHON make_onnx_roads.py FOLDER``.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tools.onnx_coverage.cases import Case, write_arrays, write_case

FOLDER = Path(sys.argv[1])
random = np.random.default_rng(0)
node = helper.make_node

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE


def noise(*shape, kind="float32"):
    return random.normal(size=shape).astype(kind)


def write(name, nodes, inputs, outputs, constants=None, opset=17, wanted=None):
    """`inputs` by name, one sample each; `outputs` are names with a dtype and a shape, or ONNX's own description.

    What they are is what onnxruntime says, or `wanted`.
    """
    values = [
        helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for key, value in inputs.items()
    ]
    results = [helper.make_tensor_value_info(*output) if type(output) is tuple else output for output in outputs]
    weights = [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()]
    if opset < 7:
        # So long ago, weights were inputs too.
        values += [helper.make_tensor_value_info(key, FLOAT, value.shape) for key, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, name, values, results, weights)
    others = {item.domain for item in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(others))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=3 if opset < 7 else 8)
    folder = FOLDER / name
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    write_arrays(folder / "inputs.npz", {key: [value] for key, value in inputs.items()})
    runnable = model
    if opset < 7:
        runnable = onnx.version_converter.convert_version(model, 13)
        del runnable.graph.value_info[:]
    found = wanted or onnxruntime.InferenceSession(runnable.SerializeToString()).run(None, inputs)
    names = tuple(result.name for result in results)
    write_arrays(folder / "outputs.npz", {key: [value] for key, value in zip(names, found, strict=True)})
    case = Case(
        suite="roads", name=name, operator="", inputs=tuple(inputs), outputs=names, sets=1, rtol=1e-3, atol=1e-5
    )
    write_case(folder, case)


write(
    "images",
    [node("Conv", ["x", "w"], ["a"], pads=[1] * 4), node("Relu", ["a"], ["y"])],
    {"x": noise(1, 3, 8, 8)},
    [("y", FLOAT, [1, 5, 8, 8])],
    {"w": noise(5, 3, 3, 3) / 5},
)
write(
    "scalars",
    [node("Mul", ["x", "gain"], ["y"]), node("ReduceMean", ["y"], ["mean"], keepdims=0)],
    {"x": noise(1, 6), "gain": np.array(3, np.float32)},
    [("y", FLOAT, [1, 6]), ("mean", FLOAT, [])],
)
write("half", [node("Mul", ["x", "x"], ["y"])], {"x": noise(1, 6, kind="float16")}, [("y", HALF, [1, 6])])
write("double", [node("Add", ["x", "x"], ["y"])], {"x": noise(1, 6, kind="float64")}, [("y", DOUBLE, [1, 6])])
write("alone", [node("Neg", ["x"], ["a"]), node("Sum", ["a"], ["y"])], {"x": noise(1, 6)}, [("y", FLOAT, [1, 6])])
write(
    "unused",
    [node("Neg", ["x"], ["y"]), node("Add", ["aside", "aside"], ["nowhere"])],
    {"aside": np.arange(4, dtype=np.int64)[None], "x": noise(1, 6)},
    [("y", FLOAT, [1, 6])],
)
write(
    "attention",
    [node("Attention", ["q", "k", "v"], ["y"])],
    {"q": noise(1, 2, 4, 8), "k": noise(1, 2, 6, 8), "v": noise(1, 2, 6, 8)},
    [("y", FLOAT, [1, 2, 4, 8])],
    opset=23,
)
for kind, gates, more in (
    ("LSTM", 4, {"activations": ["HardSigmoid", "Tanh", "Relu"] * 2, "clip": 0.9}),
    ("GRU", 3, {"linear_before_reset": 1}),
    ("RNN", 1, {"activations": ["Relu", "Tanh"]}),
):
    state = ["h"] if kind != "LSTM" else ["h", "c"]
    last = ["y_h"] if kind != "LSTM" else ["y_h", "y_c"]
    write(
        kind.lower(),
        [
            node(
                kind,
                ["x", "w", "r", "b", "lengths", *state] + (["p"] if kind == "LSTM" else []),
                ["y", *last],
                direction="bidirectional",
                hidden_size=4,
                **more,
            )
        ],
        {"x": noise(5, 2, 3), **{name: noise(2, 2, 4) for name in state}},
        [("y", FLOAT, [5, 2, 2, 4]), *((name, FLOAT, [2, 2, 4]) for name in last)],
        {
            "w": noise(2, gates * 4, 3),
            "r": noise(2, gates * 4, 4),
            "b": noise(2, gates * 8),
            "lengths": np.array([5, 5], np.int32),
            "p": noise(2, 12),
        },
    )
for name, axis, size in (("old", {}, 4), ("raised wrongly", {"axis": 1}, 3)):
    write(
        name,
        [node("Add", ["x", "shift"], ["y"], broadcast=1, **axis)],
        {"x": noise(1, 3, 4)},
        [("y", FLOAT, [1, 3, 4])],
        {"shift": noise(size)},
        opset=6,
    )
write(
    "bits",
    [node("BitwiseAnd", ["x", "x"], ["y"], name="my_bits")],
    {"x": np.arange(6, dtype=np.int32)[None]},
    [("y", TensorProto.INT32, [1, 6])],
    opset=18,
)
for name, before, behind in (("resized", (6, 8), (9, 5)), ("resized from afar", (1, 4000), (1, 100))):
    write(
        name,
        [node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", antialias=1)],
        {"x": noise(1, 2, *before)},
        [("y", FLOAT, [1, 2, *behind])],
        {"sizes": np.array([1, 2, *behind])},
        opset=18,
    )
write(
    "spectrum",
    [node("DFT", ["x"], ["y"], axis=1)],
    {"x": noise(1, 8, 1)},
    [("y", FLOAT, [1, 8, 2])],
)
write(
    "frames",
    [node("STFT", ["x", "step", "window"], ["y"])],
    {"x": noise(1, 64, 1)},
    [("y", FLOAT, [1, 7, 9, 2])],
    {"step": np.array(8), "window": np.hanning(16).astype(np.float32)},
)
write(
    "crash",
    [node("Add", ["x", "x"], ["y"])],
    {"x": np.arange(6, dtype=np.int8)[None]},
    [("y", TensorProto.INT8, [1, 6])],
)
write(
    "disputed",
    [node("MaxUnpool", ["x", "places", "shape"], ["y"], name="unpool", kernel_shape=[2, 2], strides=[2, 2])],
    {"x": noise(1, 1, 2, 2), "places": np.array([[[[6, 8], [16, 18]]]])},
    [("y", FLOAT, [1, 1, 5, 5])],
    {"shape": np.array([1, 1, 5, 5])},
)


def forest(**classes):
    """Two trees that vote, of two classes, as skl2onnx writes them. onnxruntime 1.26 and 1.27 compute it wrongly."""
    return node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0, 1, 1, 1],
        nodes_nodeids=[0, 1, 2] * 2,
        nodes_featureids=[0, 0, 0, 1, 0, 0],
        nodes_values=[0.5, 0.0, 0.0] * 2,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        nodes_truenodeids=[1, 0, 0] * 2,
        nodes_falsenodeids=[2, 0, 0] * 2,
        class_treeids=[0, 0, 1, 1],
        class_nodeids=[1, 2] * 2,
        class_ids=[0] * 4,
        class_weights=[0.4, 0.1, 0.3, 0.2],
        **classes,
    )


def table(name, classes):
    """The forest with its classes as texts and its probabilities as a table, by the old operators skl2onnx states."""
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    )
    write(
        name,
        [
            forest(classlabels_strings=["no", "yes"]),
            node("ZipMap", ["probabilities"], ["table"], domain="ai.onnx.ml", classlabels_strings=classes),
            node("Identity", ["label"], ["class"]),
        ],
        {"x": np.array([[0, 1]], np.float32)},
        [("class", TensorProto.STRING, [1]), helper.make_value_info("table", kind)],
        opset=9,
        wanted=[np.array([1]), np.array([[0.4, 0.6]], np.float32)],
    )


write(
    "forest",
    [forest(classlabels_int64s=[0, 1])],
    {"x": np.array([[0, 1]], np.float32)},
    [("label", TensorProto.INT64, [1]), ("probabilities", FLOAT, [1, 2])],
    wanted=[np.array([1]), np.array([[0.4, 0.6]], np.float32)],
)
table("table", ["no", "yes"])
table("table of one name", ["no", "no"])
write(
    "texts",
    [
        forest(classlabels_strings=["no", "yes"]),
        node("LabelEncoder", ["label"], ["class"], domain="ai.onnx.ml", classes_strings=["no", "yes"]),
        node("Identity", ["label"], ["text"]),
    ],
    {"x": np.array([[0, 1]], np.float32)},
    [("class", TensorProto.INT64, [1]), ("text", TensorProto.STRING, [1])],
    wanted=[np.array([1]), np.array([1])],
)
