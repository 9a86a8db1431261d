"""Support vector machines as products and exponentials."""

from __future__ import annotations

import itertools

import numpy as np

from edgepack.converters._onnx_ml_writer import Site, class_outputs, in_place_of, post_transform
from edgepack.errors import ConversionError

__all__ = ["svm_classifier", "svm_regressor"]


def _kernel(site: Site, vectors: int) -> str:
    """Return the kernel's value of each row with each support vector [n, vectors]."""
    support = site.array("support_vectors", np.float32).reshape(vectors, -1)
    gamma, offset, degree = site.array("kernel_params", np.float64)[:3]
    kind, x = site.text("kernel_type", "LINEAR"), site.floats(0)
    if kind == "RBF":
        if not site.is_one_row():
            raise ConversionError(f"node {site.name!r}: an RBF kernel is rewritten for a batch of 1 only")
        # Not by the squares' expansion: it takes large numbers from each other.
        apart = site.node("Sub", x, site.constant(support))
        squares = site.reduce("ReduceSum", site.node("Mul", apart, apart))
        row = site.node("Reshape", squares, site.whole(1, -1))
        return site.node("Exp", site.node("Mul", row, site.real(-gamma)))
    products = site.node("MatMul", x, site.constant(np.ascontiguousarray(support.T)))
    if kind == "LINEAR":
        return products
    scaled = site.node("Mul", products, site.real(gamma))
    moved = site.node("Add", scaled, site.real(offset))
    if kind == "SIGMOID":
        return site.node("Tanh", moved)
    if kind == "POLY" and 1 <= degree == int(degree) <= 8:
        # As products: a power of a negative number is no number in some engines.
        power = moved
        for _ in range(int(degree) - 1):
            power = site.node("Mul", power, moved)
        return power
    raise ConversionError(f"node {site.name!r}: a support vector machine with the kernel {kind}")


def svm_regressor(site: Site) -> None:
    """Write an ``SVMRegressor``.

    Raises:
        ConversionError: it has an attribute that has no rewriting.
    """
    vectors = int(site.number("n_supports", 0))
    weights = site.array("coefficients", np.float32).reshape(-1, 1)
    values = _kernel(site, vectors) if vectors else site.floats(0)
    bias = site.constant(site.array("rho", np.float32)[:1])
    total = site.node("Add", site.node("MatMul", values, site.constant(weights)), bias)
    if site.number("one_class", 0):
        inside = site.node("Greater", total, site.real(0))
        total = site.node("Where", inside, site.real(1), site.real(-1))
    in_place_of(site, post_transform(site, total))


def svm_classifier(site: Site) -> None:
    """Write an ``SVMClassifier``: a decision for every pair of classes, then votes.

    Raises:
        ConversionError: it has an attribute that has no rewriting, or gives probabilities.
    """
    per_class = site.array("vectors_per_class", np.int64)
    labels = site.labels()
    if not per_class.size:
        raise ConversionError(f"node {site.name!r}: a support vector machine without support vectors")
    if site.has("prob_a"):
        raise ConversionError(
            f"node {site.name!r}: a support vector machine that gives probabilities, which libsvm finds step by step",
            hint="fit it with probability=False, or as CalibratedClassifierCV(SVC())",
        )
    if site.text("post_transform", "NONE") != "NONE":
        raise ConversionError(f"node {site.name!r}: post_transform {site.text('post_transform', 'NONE')}")
    classes, vectors = len(per_class), int(per_class.sum())
    pairs = list(itertools.combinations(range(classes), 2))
    coefficients = site.array("coefficients", np.float64).reshape(classes - 1, vectors)
    starts = np.concatenate([[0], np.cumsum(per_class)])
    weights = np.zeros((vectors, len(pairs)), np.float32)
    for column, (i, j) in enumerate(pairs):
        for mine, row in ((i, j - 1), (j, i)):
            part = slice(starts[mine], starts[mine + 1])
            weights[part, column] = coefficients[row, part]
    decided = site.node("MatMul", _kernel(site, vectors), site.constant(weights))
    decided = site.node("Add", decided, site.constant(site.array("rho", np.float32)))
    first_wins = site.cast(site.node("Greater", decided, site.real(0)), "FLOAT")
    for_first, for_second = (np.zeros((len(pairs), classes), np.float32) for _ in range(2))
    for row, (i, j) in enumerate(pairs):
        for_first[row, i], for_second[row, j] = 1, 1
    # A vote of 1 is for the pair's first class, of 0 for its second.
    votes = site.node("MatMul", first_wins, site.constant(for_first - for_second))
    votes = site.node("Add", votes, site.constant(for_second.sum(axis=0)))
    scores = decided
    if classes == 2 and labels.size == 2:
        scores = site.node("Concat", site.node("Neg", decided), decided, axis=1)
    class_outputs(site, site.argmax(votes), scores)
