"""Average precision of boxes as COCO has it, for source and candidate, under any weighting of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["OVERLAPS", "BoxPair", "Boxed", "matches", "overlaps"]

# AP@[.5:.95], the mean over these; AP@.5 is the first alone.
OVERLAPS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
_RECALLS = np.linspace(0, 1, 101)
# Of one class in one picture, the best.
_MOST = 100
_CELLS = 1 << 19
_TRIED = 200
_TINY = float(np.spacing(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxed:
    """Boxes in one picture: `corners` [k, 4], left, top, right, bottom; `kinds` [k]; `scores` [k], best first."""

    corners: Array
    kinds: Array
    scores: Array


def overlaps(one: Array, other: Array) -> Array:
    """Return the common area of each two boxes as a share of both together, [len(one), len(other)]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.maximum(0, high - low).prod(-1)
    areas = [np.maximum(0, boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
    both = areas[0][:, None] + areas[1][None] - common
    return np.asarray(np.divide(common, both, out=np.zeros_like(common), where=both > 0))


def matches(shares: Array, least: Sequence[float]) -> Array:
    """Return whether each found box is right, [len(least), found], for `shares` [found, there], found best first.

    Each takes the one of those still free that it overlaps most; of equal ones the last, as pycocotools does.
    """
    found, there = shares.shape
    right = np.zeros((len(least), found), bool)
    for row, overlap in enumerate(least):
        free = np.ones(there, bool)
        for i in range(found):
            share = np.where(free, shares[i], -1.0)
            if there and share.max() >= min(overlap, 1 - 1e-10):
                best = there - 1 - int(share[::-1].argmax())
                free[best] = False
                right[row, i] = True
    return right


@dataclass(frozen=True, slots=True)
class _Ranked:
    """What was found of one class in all pictures, best first: which are right [overlaps, found], and where."""

    right: Array
    picture: Array

    @classmethod
    def of(cls, found: Sequence[Boxed], truth: Sequence[Boxed], kind: int, least: Sequence[float]) -> _Ranked:
        rights, scores, pictures = [np.zeros((len(least), 0), bool)], [np.zeros(0)], [np.zeros(0, np.int64)]
        for i, (said, true) in enumerate(zip(found, truth, strict=True)):
            chosen = np.flatnonzero(said.kinds == kind)[:_MOST]
            if not len(chosen):
                continue
            shares = overlaps(said.corners[chosen], true.corners[true.kinds == kind])
            rights.append(matches(shares, least))
            scores.append(said.scores[chosen])
            pictures.append(np.full(len(chosen), i))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        return cls(np.concatenate(rights, axis=1)[:, order], np.concatenate(pictures)[order])

    def precision(self, weights: Array, total: Array) -> Array:
        """Return the average precision for each row of weights, of which `total` boxes are there."""
        result = np.zeros(len(weights))
        step = max(1, _CELLS // max(1, len(self.picture)))
        for start in range(0, len(weights) if self.right.any() else 0, step):
            rows = slice(start, start + step)
            drawn = np.ascontiguousarray(weights[rows].T[self.picture])
            said = drawn.cumsum(0)
            for which in self.right:
                # Precision falls from each box to the next that is right: its peaks are there.
                hits = drawn[which].cumsum(0)
                below = _recalls_reached(hits / np.maximum(total[rows], _TINY))
                # None is reached by nothing at all.
                below[hits == 0] = 0
                result[rows] += (_highest(hits, said[which]) * np.diff(below, axis=0, prepend=0)).sum(0)
        return result / (len(self.right) * len(_RECALLS))

    def area(self, total: float, failing: int) -> float:
        """Return the area below precision over recall, without steps, with the picture `failing` all wrong."""
        said, areas = np.arange(1.0, len(self.picture) + 1), []
        for which in self.right & (self.picture != failing):
            hits = np.arange(1.0, which.sum() + 1)
            areas.append(float(_highest(hits, said[which]).sum()) / total)
        return float(np.mean(areas))


def _highest(hits: Array, said: Array) -> Array:
    """Return the highest precision from each recall on."""
    return np.asarray(np.maximum.accumulate((hits / (said + _TINY))[::-1], axis=0)[::-1])


def _recalls_reached(recall: Array) -> Array:
    """Return how many of `_RECALLS` are no higher; quicker than a search, and exact."""
    steps = np.append(_RECALLS, np.inf)
    last = (recall * (len(_RECALLS) - 1)).astype(np.int64)
    last += steps[last + 1] <= recall
    last -= steps[last] > recall
    return last + 1


@dataclass(frozen=True, slots=True)
class BoxPair:
    """The mean average precision over the classes that are there, on the same pictures."""

    kinds: tuple[int, ...]
    source: tuple[_Ranked, ...]
    candidate: tuple[_Ranked, ...]
    there: Array
    stake: float
    sign: float = 1.0

    @classmethod
    def of(
        cls, sides: tuple[Sequence[Boxed], Sequence[Boxed]], truth: Sequence[Boxed], least: Sequence[float]
    ) -> BoxPair:
        """Return it for the boxes found by source and candidate in each picture, and those that are there.

        Raises:
            ValueError: there are none in any picture.
        """
        kinds = tuple(sorted({int(kind) for boxed in truth for kind in boxed.kinds}))
        if not kinds:
            raise ValueError("there is no box in any picture")
        source, candidate = (tuple(_Ranked.of(side, truth, kind, least) for kind in kinds) for side in sides)
        there = np.array([[(boxed.kinds == kind).sum() for boxed in truth] for kind in kinds], np.float64)
        whole = cls(kinds, source, candidate, there, 0.0)
        return cls(kinds, source, candidate, there, whole._worst())

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return int(self.there.shape[1])

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the mean of source and candidate for each row of weights."""
        return self._mean(self.source, weights), self._mean(self.candidate, weights)

    def per_class(self) -> tuple[tuple[int, float, float], ...]:
        """Return (class, source, candidate) of each class."""
        ones = np.ones((1, self.count))
        values = [self._each(side, ones)[0].tolist() for side in (self.source, self.candidate)]
        return tuple(zip(self.kinds, *values, strict=True))

    def _each(self, ranked: tuple[_Ranked, ...], weights: Array) -> Array:
        totals = weights @ self.there.T
        columns = [one.precision(weights, totals[:, i]) for i, one in enumerate(ranked)]
        # A class of which a drawing has none is not known there.
        return np.where(totals > 0, np.stack(columns, axis=1), np.nan)

    def _mean(self, ranked: tuple[_Ranked, ...], weights: Array) -> Array:
        each = self._each(ranked, weights)
        known = ~np.isnan(each)
        total = np.where(known, each, 0.0).sum(1)
        return np.asarray(np.divide(total, known.sum(1), out=np.zeros(len(weights)), where=known.any(1)))

    def _worst(self) -> float:
        """Return what the picture costs that hurts most, were all in it wrong; those with most boxes are tried.

        Without the steps of recall, of which one box too few is a hundredth, and some more are no more.
        """
        totals = self.there.sum(1)
        tried = np.argsort(-(self.there / totals[:, None]).sum(0), kind="stable")[:_TRIED]
        values = [
            np.mean([one.area(total, picture) for one, total in zip(self.source, totals.tolist(), strict=True)])
            for picture in (-1, *tried.tolist())
        ]
        return float(values[0] - min(values))
