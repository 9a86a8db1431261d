"""ONNX's operators for classical machine learning (``ai.onnx.ml``), rewritten into its own: no road knows them.

One function an operator. Each is tested against onnxruntime, and a model that has them is judged against the original
like every other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgepack.converters._onnx_ml_svm import svm_classifier, svm_regressor
from edgepack.converters._onnx_ml_trees import tree_classifier, tree_regressor
from edgepack.converters._onnx_ml_writer import Site, class_outputs, in_place_of, post_transform
from edgepack.converters._options import first_line
from edgepack.errors import ConversionError

__all__ = ["DOMAIN", "without_ml_operators"]

DOMAIN = "ai.onnx.ml"
# LessOrEqual and comparisons of floats are older; below this, sums over an axis are written in another way.
_OLDEST_OPSET = 13
_LAST = "Imputer"
# What skl2onnx writes beside: for distances between rows (else it writes a loop), and for norms.
_ALSO = {("com.microsoft", "CDist"), ("", "LpNormalization")}


def without_ml_operators(model: Any) -> Any:
    """Return a copy of the model with the operators of ``ai.onnx.ml`` rewritten, or the model if it has none.

    Raises:
        ConversionError: one of them, or one of its attributes, has no rewriting; the message names it.
    """
    import onnx

    if not any(node.domain == DOMAIN or (node.domain, node.op_type) in _ALSO for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = max((item.version for item in copy.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_OPSET:
        # skl2onnx states the oldest that has the operators of a model, often 9.
        copy, opset = _raised(copy, opset), _OLDEST_OPSET
    _rewrite(copy, opset, [node.output[0] for node in copy.graph.node if node.op_type == _LAST])
    copy = onnx.shape_inference.infer_shapes(copy)
    # One by one: an Imputer has to know how wide its input is, which nothing tells before those in front are gone.
    while left := [node.output[0] for node in copy.graph.node if node.op_type == _LAST]:
        _rewrite(copy, opset, left[1:])
        copy = onnx.shape_inference.infer_shapes(copy)
    domains = {node.domain for node in copy.graph.node} | {"", "ai.onnx"}
    kept = [item for item in copy.opset_import if item.domain in domains]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    return copy


def _raised(model: Any, opset: int) -> Any:
    import onnx.version_converter

    try:
        return onnx.version_converter.convert_version(model, _OLDEST_OPSET)
    except Exception as error:
        raise ConversionError(
            f"the model has operators of {DOMAIN} and opset {opset}; they are rewritten from {_OLDEST_OPSET} on, and "
            f"onnx cannot raise it: {first_line(error)}",
            hint=f"export it with target_opset={_OLDEST_OPSET} or later",
        ) from error


def _rewrite(model: Any, opset: int, left: Sequence[str]) -> None:
    """Rewrite, in place, every node but those with an output of these."""
    site = Site(model, opset)
    nodes = []
    for node in model.graph.node:
        if (node.domain != DOMAIN and (node.domain, node.op_type) not in _ALSO) or node.output[0] in left:
            nodes.append(node)
            continue
        rewrite = _REWRITINGS.get(node.op_type)
        if rewrite is None:
            raise ConversionError(
                f"node {node.name!r} is the operator {node.op_type} of {DOMAIN}, which has no counterpart in TFLite",
                hint="of text and of maps there is none: do that step outside the model",
            )
        rewrite(site.at(node))
        nodes += site.taken()
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]


def _scaler(site: Site) -> None:
    x = site.floats(0)
    offset, scale = site.array("offset", np.float32), site.array("scale", np.float32)
    shifted = site.node("Sub", x, site.constant(offset)) if offset.any() else x
    in_place_of(site, site.node("Mul", shifted, site.constant(scale)))


def _normalizer(site: Site) -> None:
    x, norm = site.floats(0), site.text("norm", "MAX")
    if norm == "L2":
        size = site.node("Sqrt", site.reduce("ReduceSum", site.node("Mul", x, x)))
    elif norm == "L1":
        size = site.reduce("ReduceSum", site.node("Abs", x))
    elif norm == "MAX":
        size = site.reduce("ReduceMax", x)
    else:
        raise ConversionError(f"node {site.name!r}: Normalizer with norm {norm!r}")
    one = site.real(1)
    is_zero = site.node("Equal", size, site.real(0))
    in_place_of(site, site.node("Div", x, site.node("Where", is_zero, one, size)))


def _lp_normalization(site: Site) -> None:
    x = site.floats(0)
    if int(site.number("axis", -1)) not in (-1, site.rank(site.input(0)) - 1):
        raise ConversionError(f"node {site.name!r}: LpNormalization over another axis than the last")
    if site.number("p", 2) == 1:
        size = site.reduce("ReduceSum", site.node("Abs", x))
    else:
        size = site.node("Sqrt", site.reduce("ReduceSum", site.node("Mul", x, x)))
    in_place_of(site, site.node("Div", x, size))


def _binarizer(site: Site) -> None:
    threshold = site.real(site.number("threshold", 0.0))
    in_place_of(site, site.cast(site.node("Greater", site.floats(0), threshold), "FLOAT"))


def _imputer(site: Site) -> None:
    x = site.floats(0)
    if not site.has("imputed_value_floats"):
        raise ConversionError(f"node {site.name!r}: Imputer of integers")
    values = site.constant(site.array("imputed_value_floats", np.float32))
    replaced = site.number("replaced_value_float", 0.0)
    # Only what is no number is unlike itself.
    missing = (
        site.node("Not", site.node("Equal", x, x))
        if np.isnan(replaced)
        else site.node("Equal", x, site.real(replaced))
    )
    if not site.is_one_row():
        in_place_of(site, site.node("Where", missing, values, x))
        return
    # Picked, not chosen by Where: onnx2tf makes sums and products of that, in which what is no number stays.
    width = len(site.array("imputed_value_floats", np.float32))
    features = site.width(0, width)
    if width not in (1, features):
        raise ConversionError(f"node {site.name!r}: Imputer of {width} values for {features} features")
    either = site.node("Concat", site.flat(x), values, axis=0)
    place = np.arange(features)
    step = np.full(features, features) if width == features else features - place
    taken = site.node("Mul", site.flat(site.cast(missing, "INT64")), site.constant(step.astype(np.int64)))
    index = site.node("Add", taken, site.constant(place.astype(np.int64)))
    in_place_of(site, site.node("Reshape", site.node("Gather", either, index, axis=0), site.whole(1, -1)))


def _linear_scores(site: Site, targets: int) -> str:
    """Return the scores [n, targets] of a linear model."""
    weights = site.array("coefficients", np.float32).reshape(targets, -1)
    biases = site.array("intercepts", np.float32)
    product = site.node("MatMul", site.floats(0), site.constant(np.ascontiguousarray(weights.T)))
    return site.node("Add", product, site.constant(biases)) if biases.size else product


def _linear_regressor(site: Site) -> None:
    scores = _linear_scores(site, int(site.number("targets", 1)))
    in_place_of(site, post_transform(site, scores))


def _linear_classifier(site: Site) -> None:
    labels = site.labels()
    biases = site.array("intercepts", np.float32)
    targets = biases.size or len(labels)
    scores = _linear_scores(site, targets)
    if targets > 1:
        class_outputs(site, site.argmax(scores), post_transform(site, scores))
        return
    probability = post_transform(site, scores)
    threshold = 0.5 if site.text("post_transform", "NONE") == "LOGISTIC" else 0.0
    positive = site.node("Greater", probability, site.real(threshold))
    negative = site.node("Sub", site.real(1), probability)
    if threshold == 0.0:
        negative = site.node("Neg", probability)
    class_outputs(site, site.flat(site.cast(positive, "INT64")), site.node("Concat", negative, probability, axis=1))


def _array_feature_extractor(site: Site) -> None:
    data, indices = site.input(0), site.input(1)
    rank = site.rank(data)
    taken = site.node("Gather", data, site.flat(indices), axis=-1)
    if rank == 1:
        taken = site.node("Reshape", taken, site.whole(1, -1))
    in_place_of(site, taken)


def _feature_vectorizer(site: Site) -> None:
    columns = [site.floats(i) for i in range(site.count)]
    in_place_of(site, site.node("Concat", *columns, axis=-1) if len(columns) > 1 else columns[0])


def _one_hot_encoder(site: Site) -> None:
    if not site.has("cats_int64s"):
        raise ConversionError(f"node {site.name!r}: OneHotEncoder of texts, which TFLite does not have")
    # Categories are whole numbers; an input of floats is cut to one, as onnxruntime does. What it does not know gives
    # zeros: a model on a device cannot fail, as `zeros=0` asks.
    values = site.cast(site.input(0), "INT64")
    columns = site.node("Unsqueeze", values, site.whole(-1))
    same = site.node("Equal", columns, site.constant(site.array("cats_int64s", np.int64)))
    in_place_of(site, site.cast(same, "FLOAT"))


_KEYS = ("keys_floats", "keys_int64s")
_VALUES = {"values_floats": ("default_float", np.float32), "values_int64s": ("default_int64", np.int64)}


def _label_encoder(site: Site) -> None:
    keys = next((site.array(name, np.float64) for name in _KEYS if site.has(name)), None)
    found = next((name for name in _VALUES if site.has(name)), None)
    if keys is None or found is None:
        raise ConversionError(f"node {site.name!r}: LabelEncoder of texts, which TFLite does not have")
    default, dtype = _VALUES[found]
    fallback = site.number(default, -0.0 if dtype is np.float32 else -1)
    values = np.append(site.array(found, dtype), np.array([fallback], dtype))
    is_float = site.has("keys_floats")
    x = site.floats(0) if is_float else site.input(0)
    column = site.node("Unsqueeze", x, site.whole(-1))
    # Behind the keys stands the default: half a match, found where no key is.
    known = np.append(keys, keys[:1]).astype(np.float32 if is_float else np.int64)
    worth = np.append(np.ones(keys.size, np.float32), np.float32(0))
    same = site.node(
        "Mul", site.cast(site.node("Equal", column, site.constant(known)), "FLOAT"), site.constant(worth)
    )
    half = np.append(np.zeros(keys.size, np.float32), np.float32(0.5))
    index = site.node("ArgMax", site.node("Add", same, site.constant(half)), axis=-1, keepdims=0)
    in_place_of(site, site.node("Gather", site.constant(values), index, axis=0))


def _distances(site: Site) -> None:
    if not site.is_one_row():
        raise ConversionError(f"node {site.name!r}: distances are rewritten for a batch of 1 only")
    apart = site.node("Sub", site.input(1), site.input(0))
    squares = site.reduce("ReduceSum", site.node("Mul", apart, apart))
    metric = site.text("metric", "sqeuclidean")
    if metric == "euclidean":
        squares = site.node("Sqrt", squares)
    elif metric != "sqeuclidean":
        raise ConversionError(f"node {site.name!r}: distances by the metric {metric}")
    in_place_of(site, site.node("Reshape", squares, site.whole(1, -1)))


_REWRITINGS: dict[str, Callable[[Site], None]] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Binarizer": _binarizer,
    "CDist": _distances,
    "FeatureVectorizer": _feature_vectorizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "LpNormalization": _lp_normalization,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot_encoder,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
    "Scaler": _scaler,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": tree_regressor,
}
