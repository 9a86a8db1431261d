"""What pruning and clustering compute, on numpy arrays: masks, the sparsity schedule, codebooks.

A kernel's last axis counts what it gives (filters, units), the one before what it takes, as Keras has it.
"""

from __future__ import annotations

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["assigned", "codebook", "distinct", "mask_of", "polynomial", "with_codes", "zeros"]

_ITERATIONS = 100
# As many weights tell where the centroids begin as many more would.
_SEEN = 20_000


def polynomial(step: int, steps: int, final: float) -> float:
    """Return the sparsity at `step` of `steps`: fast at first, slow towards `final` (Zhu and Gupta, 2017)."""
    if step >= steps:
        return final
    return final * (1.0 - (1.0 - step / steps) ** 3)


def mask_of(kernel: Array, sparsity: float, block: tuple[int, int], group: tuple[int, int] | None) -> Array:
    """Return where `kernel` is kept: a bool array of its shape.

    Args:
        kernel: weights, [..., taken, given].
        sparsity: the share of weights that goes; not asked where `group` is given.
        block: how many of the given and of the taken axis stand or fall together, by the sum of their magnitudes.
        group: ``(n, m)`` keeps the n largest of every m neighbours of the taken axis, else None.
    """
    rows = np.moveaxis(kernel, -1, 0)
    size = np.abs(rows.reshape(len(rows), -1, rows.shape[-1]).astype(np.float64))
    if group is not None:
        kept = _grouped(size, group)
    else:
        score = _pooled(size, block)
        drop = round(sparsity * score.size)
        # Stable: equal magnitudes, such as zeros that are there already, go in the same order every time.
        order = np.argsort(score, axis=None, kind="stable")
        alive = np.ones(score.size, bool)
        alive[order[:drop]] = False
        wide = np.repeat(np.repeat(alive.reshape(score.shape), block[0], axis=0), block[1], axis=2)
        kept = wide[: size.shape[0], :, : size.shape[2]]
    mask: Array = np.moveaxis(kept.reshape(rows.shape), 0, -1)
    return np.ascontiguousarray(mask)


def _pooled(size: Array, block: tuple[int, int]) -> Array:
    """Return the mean magnitude of each block; one at the edge is as large as what is left for it."""
    if block == (1, 1):
        return size
    pads = ((0, -size.shape[0] % block[0]), (0, 0), (0, -size.shape[2] % block[1]))
    padded, there = np.pad(size, pads), np.pad(np.ones_like(size), pads)
    shape = (padded.shape[0] // block[0], block[0], padded.shape[1], padded.shape[2] // block[1], block[1])
    total: Array = padded.reshape(shape).sum(axis=(1, 4)) / there.reshape(shape).sum(axis=(1, 4))
    return total


def _grouped(size: Array, group: tuple[int, int]) -> Array:
    keep, of = group
    padded = np.pad(size, ((0, 0), (0, 0), (0, -size.shape[2] % of)), constant_values=-1.0)
    groups = padded.reshape(*padded.shape[:2], -1, of)
    rank = np.argsort(np.argsort(-groups, axis=-1, kind="stable"), axis=-1, kind="stable")
    kept: Array = (rank < keep).reshape(padded.shape)[:, :, : size.shape[2]]
    return kept


def zeros(kernel: Array) -> float:
    """Return the share of the weights that are zero."""
    return float((kernel == 0).mean()) if kernel.size else 0.0


def distinct(kernel: Array) -> int:
    """Return how many different weights there are."""
    return len(np.unique(kernel))


def codebook(values: Array, count: int, seed: int) -> Array:
    """Return at most `count` centroids of the values, sorted: k-means, begun by k-means++.

    In one dimension what belongs to a centroid is an interval, so each step is exact and cheap.
    """
    flat = np.sort(values.astype(np.float64), axis=None)
    unique = np.unique(flat)
    if len(unique) <= count:
        return unique.astype(np.float32)
    centres = _begun(flat, count, np.random.default_rng(seed))
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    for _ in range(_ITERATIONS):
        edges = np.searchsorted(flat, (centres[1:] + centres[:-1]) / 2)
        starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(flat)]])
        sizes = ends - starts
        moved = np.where(sizes > 0, (sums[ends] - sums[starts]) / np.maximum(sizes, 1), centres)
        moved.sort()
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.unique(centres.astype(np.float32))


def _begun(flat: Array, count: int, random: np.random.Generator) -> Array:
    """Return where k-means begins: each next centre is drawn by its squared distance from those there are."""
    seen = flat if len(flat) <= _SEEN else flat[np.linspace(0, len(flat) - 1, _SEEN).round().astype(int)]
    centres = [float(seen[random.integers(len(seen))])]
    distance = (seen - centres[0]) ** 2
    while len(centres) < count and distance.sum() > 0:
        centres.append(float(seen[random.choice(len(seen), p=distance / distance.sum())]))
        distance = np.minimum(distance, (seen - centres[-1]) ** 2)
    return np.sort(np.array(centres))


def assigned(values: Array, centres: Array) -> Array:
    """Return the index of the centroid nearest to each value; `centres` are sorted."""
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    index: Array = np.searchsorted(middles, values.astype(np.float64)).astype(np.int32)
    return index


def with_codes(kernel: Array, count: int, seed: int, *, keep_zeros: bool) -> tuple[Array, Array]:
    """Return the kernel's centroids, sorted, and the index of each weight's own.

    Args:
        kernel: the weights.
        count: how many centroids there may be.
        seed: of the draw at the beginning.
        keep_zeros: whether zero is a centroid, of the weights that are zero and of no other.
    """
    gone = kernel == 0
    if not keep_zeros or not gone.any() or gone.all():
        centres = codebook(kernel, count, seed)
        return centres, assigned(kernel, centres)
    centres = codebook(kernel[~gone], count - 1, seed)
    # A centroid that came to lie on zero would be one with it.
    centres = centres[centres != 0]
    index = assigned(kernel, centres)
    place = int(np.searchsorted(centres, 0.0))
    index = np.where(index >= place, index + 1, index)
    return np.insert(centres, place, np.float32(0)), np.where(gone, np.int32(place), index).astype(np.int32)
