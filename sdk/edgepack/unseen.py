"""Whether a model is judged by samples it learnt from: then the judgement says nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from edgepack.dataset import Dataset
from edgepack.errors import DatasetError
from edgepack_runtime.tensors import Array

__all__ = ["MAX_SEEN", "refuse_seen", "seen"]

# Some samples are alike by nature, such as silence; a file with more than this was split wrongly, or not at all.
MAX_SEEN = 0.05


def seen(training: Dataset, evaluation: Dataset) -> int:
    """Return how many samples of the evaluation data are in the training set, byte for byte."""
    known = set(_digests(training.feeds))
    return sum(digest in known for digest in _digests(evaluation.feeds))


def refuse_seen(training: Dataset, evaluation: Dataset) -> None:
    """Refuse an evaluation on what is learnt.

    Raises:
        DatasetError: more than the share `MAX_SEEN` of the evaluation data is in the training set.
    """
    count = seen(training, evaluation)
    if count > MAX_SEEN * evaluation.count:
        raise DatasetError(
            f"training data {training.path}: {count} of the {evaluation.count} evaluation samples are in it, and by "
            "what a model learnt nothing is judged",
            hint="split the samples so that the evaluation data are none of the training set",
        )


def _digests(feeds: Mapping[str, Array]) -> list[bytes]:
    arrays = [feeds[name] for name in sorted(feeds)]
    return [hashlib.sha256(b"".join(array[i].tobytes() for array in arrays)).digest() for i in range(len(arrays[0]))]
