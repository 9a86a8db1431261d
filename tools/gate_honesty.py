"""How often the gate passes a model that is too bad, and a good one: simulated models whose true drop is known.

Run as ``python -m tools.gate_honesty [TRIES]``. Of each simulated population of samples, large and finite, the drop
is counted, not estimated. The budget is then set to a hair below it, the hardest case there is: the model is too bad,
but only just. The gate sees samples drawn at random, as a user would have them. It must pass at most one try in
twenty. Beside it stands how often a candidate as good as its source passes, under the same budget: a gate that
refuses everything would be honest and of no use.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from edgepack.drop import measure_drop, point_drops
from edgepack.gate import Gate, Verdict
from edgepack_runtime.tensors import Array

__all__ = ["COUNTS", "LIMIT", "POPULATIONS", "Population", "Row", "acceptable", "main", "simulate"]

LIMIT = 0.05
COUNTS = (20, 50, 100, 300, 1000)
_SIZE = 40_000
_HAIR = 0.999


@dataclass(frozen=True, slots=True)
class Population:
    """A world of samples: outputs of a source and of a worse candidate [n, ...], and what is right, if known."""

    gate: Gate
    source: Array
    candidate: Array
    labels: Array | None


@dataclass(frozen=True, slots=True)
class Row:
    """How often the gate passed, of `tries`: the candidate that is too bad, and the source itself."""

    name: str
    count: int
    drop: float
    tries: int
    bad: int
    good: int


def _classes(rng: np.random.Generator, shares: tuple[float, ...]) -> Array:
    return rng.choice(len(shares), _SIZE, p=np.array(shares))


def _scores(rng: np.random.Generator, said: Array, count: int) -> Array:
    """Return scores [n, count] whose highest is at the class that was said."""
    scores = rng.random((len(said), count))
    scores[np.arange(len(said)), said] += 1.0
    return scores


def _wrong(rng: np.random.Generator, truth: Array, rate: float, count: int) -> Array:
    """Return classes of which a share is another one."""
    return np.where(rng.random(len(truth)) < rate, (truth + rng.integers(1, count, len(truth))) % count, truth)


def _classifier(
    metric: str, before: float, lost: float, shares: tuple[float, ...] = (0.5, 0.3, 0.2)
) -> Callable[..., Population]:
    def make(rng: np.random.Generator) -> Population:
        truth, count = _classes(rng, shares), len(shares)
        said = _wrong(rng, truth, before, count)
        worse = _wrong(rng, said, lost, count)
        scores = _scores(rng, said, count), _scores(rng, worse, count)
        return Population(Gate(metric=metric), *scores, None if metric == "agreement" else truth)

    return make


def _rare_class(metric: str) -> Callable[..., Population]:
    """A class of one sample in twenty is what suffers."""

    def make(rng: np.random.Generator) -> Population:
        truth = _classes(rng, (0.8, 0.15, 0.05))
        said = _wrong(rng, truth, 0.05, 3)
        worse = np.where((truth == 2) & (rng.random(_SIZE) < 0.25), 0, said)
        return Population(Gate(metric=metric), _scores(rng, said, 3), _scores(rng, worse, 3), truth)

    return make


def _top(rng: np.random.Generator) -> Population:
    truth = rng.integers(0, 20, _SIZE)
    scores = rng.normal(size=(_SIZE, 20))
    scores[np.arange(_SIZE), truth] += 2.0
    return Population(Gate(metric="top5"), scores, scores + rng.normal(scale=0.9, size=scores.shape), truth)


def _ranking(rng: np.random.Generator) -> Population:
    truth = (rng.random(_SIZE) < 0.2).astype(int)
    scores = rng.normal(size=_SIZE) + 2.0 * truth
    worse = np.where(rng.random(_SIZE) < 0.04, rng.normal(size=_SIZE), scores + rng.normal(scale=0.3, size=_SIZE))
    return Population(Gate(metric="auc"), scores[:, None], worse[:, None], truth)


def _notes(rng: np.random.Generator) -> Population:
    """Many yes-or-no decisions a sample, some worse here and there, and one sample in fifty a ruin."""
    source = (rng.random((_SIZE, 40)) < 0.1) * 0.8
    flips = rng.random(source.shape) < rng.beta(0.5, 50, (_SIZE, 1))
    ruined = rng.random((_SIZE, 1)) < 0.02
    worse = np.where(flips, 0.8 - source, np.where(ruined, 0.0, source))
    return Population(Gate(metric="f1", threshold=0.3), source, worse, None)


def _signals(metric: str, rare: bool) -> Callable[..., Population]:
    """Noise on every sample; or silence in one of thirty, and nothing else."""

    def make(rng: np.random.Generator) -> Population:
        target = rng.normal(size=(_SIZE, 16))
        source = target + rng.normal(scale=0.1, size=target.shape)
        noisy = source + rng.normal(scale=0.1, size=target.shape) * rng.exponential(size=(_SIZE, 1))
        silent = np.where(rng.random((_SIZE, 1)) < 1 / 30, 0.0, source)
        return Population(Gate(metric=metric), source, silent if rare else noisy, target)

    return make


POPULATIONS: dict[str, Callable[[np.random.Generator], Population]] = {
    "accuracy, 10 % wrong, 3 % changed": _classifier("accuracy", 0.10, 0.03),
    "accuracy, 40 % wrong, 20 % changed": _classifier("accuracy", 0.40, 0.20),
    "accuracy, all right, 1 % changed": _classifier("accuracy", 0.0, 0.01),
    "agreement, 2 % changed": _classifier("agreement", 0.1, 0.02),
    "f1, 10 % wrong, 3 % changed": _classifier("f1", 0.10, 0.03),
    "f1, a rare class suffers": _rare_class("f1"),
    "precision, 3 % changed": _classifier("precision", 0.10, 0.03),
    "recall, a rare class suffers": _rare_class("recall"),
    "top5 of 20, noise": _top,
    "auc, one in 25 lost": _ranking,
    "f1 at 0.3, 40 notes a sample": _notes,
    "mse, noise": _signals("mse", rare=False),
    "mse, one in 30 silent": _signals("mse", rare=True),
    "snr, noise": _signals("snr", rare=False),
    "snr, one in 30 silent": _signals("snr", rare=True),
    "si-sdr, noise": _signals("si-sdr", rare=False),
    "cosine, noise": _signals("cosine", rare=False),
    "cosine, one in 30 silent": _signals("cosine", rare=True),
}


def simulate(name: str, count: int, tries: int, seed: int = 0) -> Row:
    """Return how often `tries` draws of `count` samples pass the gate."""
    rng = np.random.default_rng(seed)
    world = POPULATIONS[name](rng)
    (drop,) = point_drops(world.gate, {"y": world.source}, {"y": world.candidate}, world.labels)
    gate = replace(world.gate, max_drop=drop * _HAIR)
    bad = good = 0
    for _ in range(tries):
        pick = rng.integers(0, _SIZE, count)
        source, labels = {"y": world.source[pick]}, None if world.labels is None else world.labels[pick]
        if labels is not None and gate.judged.kind == "ranking" and len(np.unique(labels)) < 2:
            # The gate refuses such a set with an error: nothing passes.
            continue
        bad += _passes(gate, source, {"y": world.candidate[pick]}, labels)
        good += _passes(gate, source, source, labels)
    return Row(name, count, drop, tries, bad, good)


def _passes(gate: Gate, source: dict[str, Array], candidate: dict[str, Array], labels: Array | None) -> bool:
    return all(drop.verdict is Verdict.HOLDS for drop in measure_drop(gate, source, candidate, labels))


def acceptable(bad: int, tries: int, rate: float = LIMIT) -> bool:
    """Return whether so many passes are no proof of a rate above `rate`: by chance alone in more than 1 of 1000."""
    return sum(comb(tries, k) * rate**k * (1 - rate) ** (tries - k) for k in range(bad, tries + 1)) > 0.001


def _rows(tries: int) -> Iterator[Row]:
    for name in POPULATIONS:
        for count in COUNTS:
            yield simulate(name, count, tries)


def main() -> int:
    """Print the table; exit code 1 if the gate passes bad models more often than it may."""
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    start, failed, bad, total = time.monotonic(), 0, 0, 0
    print("| Simulated | True drop | Samples | Too bad, passed | As good, passed |\n|---|---:|---:|---:|---:|")
    for row in _rows(tries):
        fine = acceptable(row.bad, row.tries)
        failed, bad, total = failed + (not fine), bad + row.bad, total + row.tries
        cells = (row.name, f"{row.drop:.4f}", row.count, f"{row.bad / tries:.1%}", f"{row.good / tries:.0%}")
        print("| " + " | ".join(map(str, cells)) + " |" + ("" if fine else "  <- MORE THAN ALLOWED"), flush=True)
    print(
        f"\n{bad} of {total} models that were too bad passed ({bad / total:.2%}); "
        f"{failed} rows are above {LIMIT:.0%}; {time.monotonic() - start:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
