"""Which evaluation samples a search chooses by, and which are kept for judging what it chose.

The best of many candidates is the best partly by luck of the samples it was chosen on: on these it looks better than
it is. On samples that no choice depends on it does not, and the gate's interval keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgepack.candidate import Samples
from edgepack.errors import DatasetError
from edgepack.optimize import Optimize
from edgepack.truth import take_labels
from edgepack_runtime.tensors import Array

__all__ = ["check_enough", "part"]

# What a candidate is measured on is bounded, so that its cost is.
_MOST_TO_CHOOSE_BY = 2000
_FEWEST = 5


def check_enough(count: int, asked: Optimize) -> int:
    """Return how many of `count` evaluation samples candidates are chosen by.

    Raises:
        DatasetError: there are too few for two parts.
    """
    first = min(round(count * (1 - asked.holdout)), _MOST_TO_CHOOSE_BY)
    if first < _FEWEST or count - first < _FEWEST:
        raise DatasetError(
            f"--optimize auto chooses by some evaluation samples and judges by others; {count} are too few for both",
            hint=f"name more with --evaluation: {2 * _FEWEST + 5} are the fewest, some hundreds say something",
        )
    return first


def part(samples: Samples, asked: Optimize, *, stream: bool) -> tuple[Samples, Samples]:
    """Return the samples to choose by, and those to judge by; the calibration samples are in both.

    Which is which is drawn from the seed. A stateful model's samples are one stream and stay in order: the first are
    chosen by, and the rest are judged, at the end of a run over all of them.

    Raises:
        DatasetError: there are too few evaluation samples for two parts.
    """
    start = samples.calibration
    count = len(next(iter(samples.feeds.values()))) - start
    first = check_enough(count, asked)
    if stream:
        chosen = _taken(samples, np.arange(start + first))
        judged = replace(samples, calibration=start + first, labels=take_labels(samples.labels, slice(first, None)))
        return chosen, judged
    drawn = np.random.default_rng(asked.seed).permutation(count) + start
    both = np.arange(start)
    return (
        _taken(samples, np.concatenate([both, np.sort(drawn[:first])])),
        _taken(samples, np.concatenate([both, np.sort(drawn[first:])])),
    )


def _taken(samples: Samples, places: Array) -> Samples:
    def of(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array[places] for name, array in arrays.items()}

    start = samples.calibration
    return replace(
        samples,
        feeds=of(samples.feeds),
        reference=of(samples.reference),
        labels=take_labels(samples.labels, places[places >= start] - start),
        before=None if samples.before is None else of(samples.before),
    )
