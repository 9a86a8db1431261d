"""Hold each rewriting of an operator of ``ai.onnx.ml`` against onnxruntime; runs in the sklearn toolchain.

edgepack is on the import path. Prints a JSON table: the largest difference by case, or what went wrong. This one's
onnxruntime is none of those that compute ensembles of two classes wrongly.
"""

import json

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgepack.converters._onnx_ml import DOMAIN, without_ml_operators
from edgepack.errors import EdgepackError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ROWS = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
WHOLE = np.random.default_rng(6).integers(-2, 6, size=(40, 3))
HOLES = np.where(np.abs(ROWS) > 1, np.float32(np.nan), ROWS)
NAN = float("nan")


def tree(kind, classes=(), leaf=(0.5, -1.5, 2.0), mode="BRANCH_LEQ", ids=None, **more):
    """Return the attributes of two trees of three leaves each, the second one upside down."""
    targets = "class" if kind == "TreeEnsembleClassifier" else "target"
    nodes = {
        "nodes_treeids": [0] * 5 + [1] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4] * 2,
        "nodes_featureids": [0, 0, 1, 0, 0, 2, 0, 0, 0, 0],
        "nodes_values": [0.1, 0.0, -0.3, 0.0, 0.0, 0.4, -0.2, 0.0, 0.0, 0.0],
        "nodes_modes": [mode, "LEAF", mode, "LEAF", "LEAF", mode, mode, "LEAF", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 3, 0, 0, 0],
        "nodes_falsenodeids": [2, 0, 4, 0, 0, 2, 4, 0, 0, 0],
    }
    leaves = {
        f"{targets}_treeids": [0, 0, 0, 1, 1, 1],
        f"{targets}_nodeids": [1, 3, 4, 2, 3, 4],
        f"{targets}_ids": ids or [0, 1, 2, 2, 1, 0],
        f"{targets}_weights": [*leaf, *leaf],
    }
    told = {"classlabels_int64s": list(classes)} if classes else {"n_targets": max(leaves[f"{targets}_ids"]) + 1}
    return nodes | leaves | told | more


def machine(kernel, **more):
    vectors = np.random.default_rng(7).normal(size=(5, 3))
    return {
        "kernel_type": kernel,
        "kernel_params": [0.5, 0.1, 2.0],
        "support_vectors": vectors.ravel().tolist(),
    } | more


def classifier(kernel, classes):
    pairs = classes * (classes - 1) // 2
    coefficients = np.random.default_rng(8).normal(size=(classes - 1) * 5)
    return machine(
        kernel,
        vectors_per_class=[2, 3] if classes == 2 else [2, 2, 1],
        coefficients=coefficients.tolist(),
        rho=np.linspace(-0.3, 0.4, pairs).tolist(),
        classlabels_ints=list(range(classes)),
    )


weights = np.random.default_rng(9).normal(size=(3, 3)).ravel().tolist()
BINARY = {"ids": [0] * 6, "classes": (0, 1)}
CASES = {
    "Scaler": (ROWS, {"offset": [0.1, 0.2, 0.3], "scale": [2.0, 0.5, 1.0]}),
    "Normalizer L1": (ROWS, {"norm": "L1"}),
    "Normalizer L2": (ROWS, {"norm": "L2"}),
    "Normalizer of zeros": (np.zeros((2, 3), np.float32), {"norm": "L2"}),
    "Binarizer": (ROWS, {"threshold": 0.25}),
    "Imputer": (HOLES, {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": NAN}),
    "Imputer of one value": (HOLES, {"imputed_value_floats": [7.0], "replaced_value_float": NAN}),
    "Imputer of a number": (np.float32(WHOLE), {"imputed_value_floats": [7.5], "replaced_value_float": 3.0}),
    "LinearRegressor": (ROWS, {"coefficients": weights[:3], "intercepts": [0.5], "targets": 1}),
    "LinearRegressor of three": (ROWS, {"coefficients": weights, "intercepts": [0.5, 1.0, 2.0], "targets": 3}),
    "Scaler of whole numbers": (WHOLE, {"offset": [0.5, 1.5, 2.5], "scale": [2.0, 0.5, 1.0]}),
    "FeatureVectorizer": (ROWS, {"inputdimensions": [3]}),
    "OneHotEncoder": (WHOLE[:, :1], {"cats_int64s": [0, 2, 5], "zeros": 1}),
    "LabelEncoder": (WHOLE, {"keys_int64s": [0, 2, 5], "values_floats": [0.5, 1.5, 9.0], "default_float": -3.0}),
    "LabelEncoder of floats": (np.float32(WHOLE), {"keys_floats": [0.0, 2.0], "values_int64s": [7, 8]}),
    "TreeEnsembleRegressor": (ROWS, tree("TreeEnsembleRegressor")),
    # One target: onnxruntime forgets the base of a target that no leaf it came to has, against the standard.
    "TreeEnsembleRegressor, base": (ROWS, tree("TreeEnsembleRegressor", ids=[0] * 6, base_values=[1.5])),
    "TreeEnsembleRegressor, average": (ROWS, tree("TreeEnsembleRegressor", aggregate_function="AVERAGE")),
    "TreeEnsembleRegressor, less": (ROWS, tree("TreeEnsembleRegressor", mode="BRANCH_LT")),
    "TreeEnsembleRegressor, greater": (ROWS, tree("TreeEnsembleRegressor", mode="BRANCH_GT")),
    "TreeEnsembleRegressor, not less": (ROWS, tree("TreeEnsembleRegressor", mode="BRANCH_GTE")),
    "TreeEnsembleRegressor, missing": (
        HOLES,
        tree("TreeEnsembleRegressor", nodes_missing_value_tracks_true=[1, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
    ),
    "TreeEnsembleClassifier": (ROWS, tree("TreeEnsembleClassifier", (0, 1, 2))),
    "TreeEnsembleClassifier, other labels": (ROWS, tree("TreeEnsembleClassifier", (3, 7, 9))),
    "TreeEnsembleClassifier, softmax": (ROWS, tree("TreeEnsembleClassifier", (0, 1, 2), post_transform="SOFTMAX")),
    "TreeEnsembleClassifier, two": (ROWS, tree("TreeEnsembleClassifier", leaf=(0.1, 0.2, 0.45), **BINARY)),
    "TreeEnsembleClassifier, two of both signs": (ROWS, tree("TreeEnsembleClassifier", **BINARY)),
    "TreeEnsembleClassifier, two, logistic": (
        ROWS,
        tree("TreeEnsembleClassifier", post_transform="LOGISTIC", **BINARY),
    ),
    "SVMRegressor, linear": (ROWS, machine("LINEAR", n_supports=5, coefficients=weights[:5], rho=[0.2])),
    "SVMRegressor, rbf": (ROWS, machine("RBF", n_supports=5, coefficients=weights[:5], rho=[0.2])),
    "SVMRegressor, poly": (ROWS, machine("POLY", n_supports=5, coefficients=weights[:5], rho=[0.2])),
    "SVMRegressor, sigmoid": (ROWS, machine("SIGMOID", n_supports=5, coefficients=weights[:5], rho=[0.2])),
    "SVMRegressor, one class": (
        ROWS,
        machine("RBF", n_supports=5, coefficients=weights[:5], rho=[0.2], one_class=1),
    ),
    "SVMClassifier": (ROWS, classifier("RBF", 3)),
    "SVMClassifier, two": (ROWS, classifier("RBF", 2)),
    "LinearClassifier": (
        ROWS,
        {"coefficients": weights, "intercepts": [0.5, 1.0, 2.0], "classlabels_ints": [0, 1, 2]},
    ),
    "LinearClassifier, softmax": (
        ROWS,
        {
            "coefficients": weights,
            "intercepts": [0.5, 1.0, 2.0],
            "classlabels_ints": [3, 7, 9],
            "post_transform": "SOFTMAX",
        },
    ),
    "LinearClassifier, two": (
        ROWS,
        {
            "coefficients": weights[:6],
            "intercepts": [0.5, -0.5],
            "classlabels_ints": [0, 1],
            "post_transform": "LOGISTIC",
        },
    ),
}


def model_of(name, rows, attributes):
    operator = name.split()[0].rstrip(",")
    outputs = ["label", "y"] if operator.endswith("Classifier") else ["y"]
    kind = INT64 if rows.dtype == np.int64 else FLOAT
    node = helper.make_node(operator, ["x"], outputs, "node", domain=DOMAIN, **attributes)
    values = [helper.make_empty_tensor_value_info(output) for output in outputs]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", kind, [1, rows.shape[1]])], values)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 3)], ir_version=9
    )


def picked(indices, width=3):
    """Return a model that picks columns, its indices a constant."""
    constant = numpy_helper.from_array(np.array(indices), "indices")
    node = helper.make_node("ArrayFeatureExtractor", ["x", "indices"], ["y"], "node", domain=DOMAIN)
    inputs = [helper.make_tensor_value_info("x", FLOAT, [1, width])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info("y")], [constant])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 3)], ir_version=9
    )


def difference(model, rows):
    rewritten = without_ml_operators(model)
    assert not [node for node in rewritten.graph.node if node.domain]
    first, second = (onnxruntime.InferenceSession(m.SerializeToString()) for m in (model, rewritten))
    worst = 0.0
    for row in rows:
        for wanted, found in zip(first.run(None, {"x": row[None]}), second.run(None, {"x": row[None]}), strict=True):
            assert (wanted.dtype, wanted.shape) == (found.dtype, found.shape), (wanted, found)
            worst = max(worst, float(np.abs(np.asarray(wanted, np.float64) - found).max()))
    return worst


table = {}
models = {name: (model_of(name, *case), case[0]) for name, case in CASES.items()}
models["ArrayFeatureExtractor"] = (picked([2, 0]), ROWS)
for name, (model, rows) in models.items():
    try:
        table[name] = difference(model, rows)
    except (EdgepackError, AssertionError, RuntimeError) as error:
        table[name] = f"{type(error).__name__}: {error}"
print(json.dumps(table))
