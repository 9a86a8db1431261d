"""Ensembles of decision trees as gathers: all trees go down one level at a time, each at its own node.

Hummingbird (Nakandala et al., OSDI 2020) calls it tree traversal. Against its other way, matrix products, it needs no
more memory than the trees have, and compares exactly the numbers the trees compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepack.converters._onnx_ml_writer import Site, class_outputs, in_place_of, post_transform
from edgepack.errors import ConversionError
from edgepack_runtime.tensors import Array

__all__ = ["tree_classifier", "tree_regressor"]

_LEAF = "LEAF"
_MODES = {"BRANCH_LEQ": ("LessOrEqual", False), "BRANCH_LT": ("Less", False),
          "BRANCH_GTE": ("Less", True), "BRANCH_GT": ("LessOrEqual", True)}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forest:
    """All nodes of all trees in one numbering: a leaf's children are itself; `children` has false, true by turns."""

    roots: Array
    feature: Array
    threshold: Array
    children: Array
    missing_is_true: Array
    depth: int
    comparison: str
    numbers: dict[tuple[int, int], int]


def _forest(site: Site) -> _Forest:
    """Return the node's trees.

    Raises:
        ConversionError: they compare in ways that have no counterpart, or are no trees.
    """
    trees, ids = site.array("nodes_treeids", np.int64), site.array("nodes_nodeids", np.int64)
    modes = site.texts("nodes_modes")
    kinds = {mode for mode in modes if mode != _LEAF}
    comparisons = {_MODES[mode][0] for mode in kinds if mode in _MODES}
    if not kinds <= _MODES.keys() or len(comparisons) > 1:
        raise ConversionError(f"node {site.name!r}: trees that compare by {', '.join(sorted(kinds))}")
    numbers = {(int(t), int(i)): k for k, (t, i) in enumerate(zip(trees, ids, strict=True))}
    is_leaf = np.array([mode == _LEAF for mode in modes])
    swapped = np.array([mode != _LEAF and _MODES[mode][1] for mode in modes])
    itself = np.arange(len(modes))
    try:
        sides = [
            np.array(
                [
                    k if leaf else numbers[int(t), int(c)]
                    for k, leaf, t, c in zip(itself, is_leaf, trees, site.array(side, np.int64), strict=True)
                ]
            )
            for side in ("nodes_falsenodeids", "nodes_truenodeids")
        ]
    except KeyError as error:
        raise ConversionError(f"node {site.name!r}: a tree lacks the node {error}") from None
    no, yes = np.where(swapped, sides[1], sides[0]), np.where(swapped, sides[0], sides[1])
    children = np.stack([no, yes], axis=1)
    roots = np.setdiff1d(itself, children[~is_leaf].ravel())
    missing = site.array("nodes_missing_value_tracks_true", np.int64)
    missing = (missing != 0) if missing.size else np.zeros(len(modes), bool)
    return _Forest(
        roots=roots.astype(np.int32),
        feature=np.where(is_leaf, 0, site.array("nodes_featureids", np.int64)).astype(np.int32),
        threshold=np.where(is_leaf, 0, site.array("nodes_values", np.float32)).astype(np.float32),
        children=children.ravel().astype(np.int32),
        missing_is_true=missing & ~is_leaf,
        depth=_depth(site, roots, children, is_leaf),
        comparison=comparisons.pop() if comparisons else "LessOrEqual",
        numbers=numbers,
    )


def _depth(site: Site, roots: Array, children: Array, is_leaf: Array) -> int:
    level, depth = roots, 0
    while not is_leaf[level].all():
        level = np.unique(children[level[~is_leaf[level]]])
        depth += 1
        if depth > len(is_leaf):
            raise ConversionError(f"node {site.name!r}: a tree leads back to itself")
    return depth


def _leaves(site: Site, forest: _Forest) -> str:
    """Return where each tree's path ends, as numbers of nodes [n, trees]."""
    if not site.is_one_row():
        raise ConversionError(f"node {site.name!r}: decision trees are rewritten for a batch of 1 only")
    x = site.flat(site.floats(0))
    at = site.constant(forest.roots)
    feature, threshold = site.constant(forest.feature), site.constant(forest.threshold)
    children = site.constant(forest.children)
    missing = site.constant(forest.missing_is_true) if forest.missing_is_true.any() else ""
    for _ in range(forest.depth):
        value = site.node("Gather", x, site.node("Gather", feature, at, axis=0), axis=0)
        holds = site.node(forest.comparison, value, site.node("Gather", threshold, at, axis=0))
        if missing:
            is_missing = site.node("Not", site.node("Equal", value, value))
            holds = site.node("Or", holds, site.node("And", is_missing, site.node("Gather", missing, at, axis=0)))
        step = site.node("Add", site.node("Add", at, at), site.cast(holds, "INT32"))
        at = site.node("Gather", children, step, axis=0)
    return at


def _sums(site: Site, kind: str, width: int) -> tuple[str, Array]:
    """Return what the trees add up to [1, width], and the weights in their leaves [nodes, width]."""
    forest = _forest(site)
    weights = np.zeros((len(forest.feature), width))
    rows = (
        forest.numbers[int(t), int(i)]
        for t, i in zip(site.array(f"{kind}_treeids", np.int64), site.array(f"{kind}_nodeids", np.int64), strict=True)
    )
    columns = np.minimum(site.array(f"{kind}_ids", np.int64), width - 1)
    for row, column, weight in zip(rows, columns, site.array(f"{kind}_weights", np.float64), strict=True):
        weights[row, column] += weight
    how = site.text("aggregate_function", "SUM")
    if how == "AVERAGE":
        weights /= len(forest.roots)
    elif how != "SUM":
        raise ConversionError(f"node {site.name!r}: trees aggregated by {how}")
    found = site.node("Gather", site.constant(weights.astype(np.float32)), _leaves(site, forest), axis=0)
    total = site.node("ReduceSum", found, site.whole(0), keepdims=1)
    base = site.array("base_values", np.float32)
    if base.any():
        total = site.node("Add", total, site.constant(base.reshape(1, -1)))
    return total, weights


def tree_regressor(site: Site) -> None:
    """Write a ``TreeEnsembleRegressor``.

    Raises:
        ConversionError: it has an attribute that has no rewriting.
    """
    total, _ = _sums(site, "target", int(site.number("n_targets", 1)))
    in_place_of(site, post_transform(site, total))


def tree_classifier(site: Site) -> None:
    """Write a ``TreeEnsembleClassifier``.

    Raises:
        ConversionError: it has an attribute that has no rewriting.
    """
    labels = site.labels()
    if len(labels) != 2 or np.unique(site.array("class_ids", np.int64)).size != 1:
        total, _ = _sums(site, "class", len(labels))
        class_outputs(site, site.argmax(total), post_transform(site, total))
        return
    # One score for two classes: that of the second.
    total, weights = _sums(site, "class", 1)
    is_probability = bool((weights >= 0).all())
    kind = site.text("post_transform", "NONE")
    positive = site.node("Greater", total, site.real(0.5 if is_probability else 0.0))
    if is_probability:
        first, second = site.node("Sub", site.real(1), total), total
    elif kind == "LOGISTIC":
        first, second = site.node("Sigmoid", site.node("Neg", total)), site.node("Sigmoid", total)
    else:
        first, second = site.node("Neg", total), total
    class_outputs(site, site.flat(site.cast(positive, "INT64")), site.node("Concat", first, second, axis=1))
