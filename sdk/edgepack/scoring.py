"""The metrics themselves: each gives the scores of source and candidate for any weighting of the samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgepack_runtime.tensors import Array

__all__ = ["BLOCK", "ClassPair", "CountPair", "HitPair", "MeanPair", "RankPair", "class_scores", "signal_values"]

# Positions of one sample fail together: so many count as one decision where nothing is known of failures.
BLOCK = 10
# An exact output has no noise; its ratio is told as this many dB.
_MOST_DB = 100.0
_CELLS = 1 << 22


@dataclass(frozen=True, slots=True)
class MeanPair:
    """The mean of one value a sample, [n] each; `stake` and `sign` as in `intervals.Pair`."""

    source: Array
    candidate: Array
    stake: float
    sign: float = 1.0

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.source)

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the mean of source and candidate for each row of weights."""
        total = weights.sum(1)
        return weights @ self.source / total, weights @ self.candidate / total


@dataclass(frozen=True, slots=True)
class HitPair:
    """The share of right samples, [n] of true and false each."""

    source: Array
    candidate: Array
    sign: float = 1.0

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.source)

    @property
    def stake(self) -> float:
        """What one more wrong sample would cost."""
        return 1 / len(self.source)

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the share of source and candidate for each row of weights."""
        total = weights.sum(1)
        return weights @ self.source / total, weights @ self.candidate / total


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def _pooled(name: str, counts: Array) -> Array:
    """Return a metric of right yes, false yes and missed yes, [..., 3]; 1.0 where there was nothing to say."""
    hits, false, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    if name == "precision":
        return np.where(hits + false > 0, _ratio(hits, hits + false), (missed == 0) * 1.0)
    if name == "recall":
        return np.where(hits + missed > 0, _ratio(hits, hits + missed), 1.0)
    below = 2 * hits + false + missed
    return np.where(below > 0, _ratio(2 * hits, below), 1.0)


@dataclass(frozen=True, slots=True)
class CountPair:
    """F1, precision or recall of "yes", pooled over all positions: [n, 3] right, false and missed ones each."""

    name: str
    source: Array
    candidate: Array
    block: int
    sign: float = 1.0

    @classmethod
    def of(cls, name: str, source: Array, candidate: Array, truth: Array) -> CountPair:
        """Return it for decisions [n, positions] of 0 and 1."""

        def counts(said: Array) -> Array:
            parts = (said & truth, said & ~truth & 1, ~said & truth & 1)
            return np.stack([part.sum(1) for part in parts], axis=1).astype(np.float64)

        return cls(name, counts(source), counts(candidate), block=min(BLOCK, truth.shape[1]))

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.source)

    @property
    def stake(self) -> float:
        """What a block of decisions that fails would cost: found ones missed, or false ones found."""
        total = self.source.sum(0)
        lost = min(float(self.block), float(total[0]))
        worse = (total + np.array([-lost, 0, lost]), total + np.array([0, self.block, 0]))
        return float(_pooled(self.name, total) - min(_pooled(self.name, counts) for counts in worse))

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the metric of source and candidate for each row of weights."""
        return _pooled(self.name, weights @ self.source), _pooled(self.name, weights @ self.candidate)


def class_scores(name: str, hits: Array, said: Array, are: Array) -> Array:
    """Return the metric of each class from what was hit, said and there; 0 where there is nothing."""
    if name == "recall":
        return _ratio(hits, are)
    if name == "precision":
        return _ratio(hits, said)
    return _ratio(2 * hits, said + are)


@dataclass(frozen=True, slots=True)
class ClassPair:
    """F1, precision or recall averaged over the classes that occur in the labels; decisions [n, positions] each."""

    name: str
    source: Array
    candidate: Array
    truth: Array
    sign: float = 1.0

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.truth)

    @property
    def stake(self) -> float:
        """What one more sample of the class that hurts most would cost, taken for the class it hurts most."""
        hits, said, are = self._whole(self.source)
        block = min(BLOCK, self.truth.shape[1])
        base = class_scores(self.name, hits, said, are)
        gone = np.minimum(hits, block)
        missed = base - class_scores(self.name, hits - gone, said - gone, are)
        intruded = base - class_scores(self.name, hits, said + block, are)
        return float(np.maximum(missed, 0).max() + np.maximum(intruded, 0).max()) / len(are)

    def per_class(self) -> tuple[tuple[int, float, float], ...]:
        """Return the class, its metric under the source and under the candidate, for those in the labels."""
        before, after = (class_scores(self.name, *self._whole(side)) for side in (self.source, self.candidate))
        return tuple((int(c), float(b), float(a)) for c, b, a in zip(self._classes(), before, after, strict=True))

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the metric of source and candidate for each row of weights."""
        return self._macro(self.source, weights), self._macro(self.candidate, weights)

    def _classes(self) -> Array:
        return np.unique(self.truth)

    def _whole(self, said: Array) -> tuple[Array, Array, Array]:
        hits, called, are = self._counts(said, self._classes())
        return hits.sum(0), called.sum(0), are.sum(0)

    def _counts(self, said: Array, classes: Array) -> tuple[Array, Array, Array]:
        """Return how often each sample hits, says and is each class, [n, classes] each."""
        parts = np.empty((3, self.count, len(classes)))
        for i, one in enumerate(classes):
            here, there = said == one, self.truth == one
            parts[:, :, i] = (here & there).sum(1), here.sum(1), there.sum(1)
        return parts[0], parts[1], parts[2]

    def _macro(self, said: Array, weights: Array) -> Array:
        total, seen, classes = np.zeros(len(weights)), np.zeros(len(weights)), self._classes()
        step = max(1, _CELLS // self.count)
        for i in range(0, len(classes), step):
            hits, called, are = (weights @ part for part in self._counts(said, classes[i : i + step]))
            total += (class_scores(self.name, hits, called, are) * (are > 0)).sum(1)
            seen += (are > 0).sum(1)
        return total / np.maximum(seen, 1)


@dataclass(frozen=True, slots=True)
class _Ranks:
    """One class's scores, sorted: the order, where runs of equal scores begin, and which samples are of the class."""

    order: Array
    starts: Array
    positive: Array

    @classmethod
    def of(cls, scores: Array, positive: Array) -> _Ranks:
        order = np.argsort(scores, kind="stable")
        ordered = scores[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        return cls(order, starts, positive[order])

    def area(self, weights: Array) -> Array:
        """Return the area under the ROC curve for each row of weights; NaN where one side is missing."""
        ordered = weights[:, self.order]
        yes = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        no = np.add.reduceat(ordered * ~self.positive, self.starts, axis=1)
        # A pair of equal scores counts half, as in Mann and Whitney's U.
        won = (yes * (np.cumsum(no, axis=1) - no / 2)).sum(1)
        pairs = yes.sum(1) * no.sum(1)
        return np.asarray(np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0))


@dataclass(frozen=True, slots=True)
class RankPair:
    """The area under the ROC curve, averaged over classes, one against the rest; one column is the binary one."""

    source: tuple[_Ranks, ...]
    candidate: tuple[_Ranks, ...]
    count: int
    stake: float
    sign: float = 1.0

    @classmethod
    def of(cls, source: Array, candidate: Array, truth: Array) -> RankPair:
        """Return it for scores [n, classes] each, and which are right, 0 or 1; one-sided classes are left out.

        Raises:
            ValueError: there is no class with samples on both sides.
        """
        positive = truth.astype(bool)
        counts = positive.sum(0)
        used = np.flatnonzero((counts > 0) & (counts < len(truth)))
        if not len(used):
            raise ValueError("every class has all samples or none")
        sides = [tuple(_Ranks.of(side[:, k], positive[:, k]) for k in used) for side in (source, candidate)]
        ones = np.ones((1, len(truth)))
        # A sample that fails is ranked last: its class loses its share of pairs, the other classes one negative each.
        rarer = np.minimum(counts[used], len(truth) - counts[used])
        areas = np.array([float(rank.area(ones)[0]) for rank in sides[0]])
        stake = float((areas / rarer).max()) / len(used) + (1 / len(truth) if len(used) > 1 else 0.0)
        return cls(sides[0], sides[1], len(truth), stake)

    def scores(self, weights: Array) -> tuple[Array, Array]:
        """Return the area of source and candidate for each row of weights."""
        return self._mean(self.source, weights), self._mean(self.candidate, weights)

    @staticmethod
    def _mean(ranks: tuple[_Ranks, ...], weights: Array) -> Array:
        areas = np.stack([rank.area(weights) for rank in ranks], axis=1)
        known = ~np.isnan(areas)
        # A resample may miss a class; one that misses all of them says nothing, which is chance.
        total = np.where(known, areas, 0.0).sum(1)
        return np.asarray(np.divide(total, known.sum(1), out=np.full(len(areas), 0.5), where=known.any(1)))


def signal_values(name: str, values: Array, target: Array) -> Array:
    """Return the metric of each sample, [n], for values and what they should be, [n, ...]."""
    count = len(values)
    found, wanted = values.reshape(count, -1).astype(np.float64), target.reshape(count, -1).astype(np.float64)
    return _SIGNALS[name](found, wanted)


def _mse(found: Array, wanted: Array) -> Array:
    return np.asarray(((found - wanted) ** 2).mean(1))


def _decibel(signal: Array, noise: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(signal / noise)
    # Silence met by silence is exact.
    ratio = np.where(noise == 0, _MOST_DB, np.where(signal == 0, -_MOST_DB, ratio))
    return np.asarray(np.clip(ratio, -_MOST_DB, _MOST_DB))


def _snr(found: Array, wanted: Array) -> Array:
    return _decibel((wanted**2).sum(1), ((found - wanted) ** 2).sum(1))


def _si_sdr(found: Array, wanted: Array) -> Array:
    """Return the scale-invariant ratio (Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019)."""
    power = (wanted**2).sum(1, keepdims=True)
    scale = np.divide((found * wanted).sum(1, keepdims=True), power, out=np.zeros_like(power), where=power > 0)
    target = scale * wanted
    return _decibel((target**2).sum(1), ((found - target) ** 2).sum(1))


def _cosine(found: Array, wanted: Array) -> Array:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    both_zero = ~found.any(1) & ~wanted.any(1)
    return np.where(both_zero, 1.0, _ratio((found * wanted).sum(1), lengths))


_SIGNALS: dict[str, Callable[[Array, Array], Array]] = {
    "mse": _mse,
    "snr": _snr,
    "si-sdr": _si_sdr,
    "cosine": _cosine,
}
