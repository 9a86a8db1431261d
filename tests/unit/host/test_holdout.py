"""No sample that a candidate was chosen by is one it is judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepack.candidate import Samples
from edgepack.errors import DatasetError
from edgepack.holdout import part
from edgepack.optimize import Optimize

CALIBRATION = 3


def samples(count: int) -> Samples:
    """Every value of an array is its sample's number, also the label's."""
    total = np.arange(CALIBRATION + count)
    return Samples(
        feeds={"x": total[:, None]}, reference={"y": total[:, None]}, calibration=CALIBRATION, labels=total[3:]
    )


def evaluated(found: Samples) -> set[int]:
    return {int(i) for i in found.feeds["x"][found.calibration :, 0]}


def test_the_two_parts_have_no_sample_in_common_and_all_together() -> None:
    choose, judge = part(samples(100), Optimize(holdout=0.6), stream=False)
    assert (len(evaluated(choose)), len(evaluated(judge))) == (40, 60)
    assert evaluated(choose) | evaluated(judge) == set(range(3, 103))


def test_labels_and_outputs_stay_with_their_samples() -> None:
    for found in part(samples(100), Optimize(), stream=False):
        assert found.labels is not None
        assert found.labels.tolist() == found.feeds["x"][CALIBRATION:, 0].tolist()
        assert found.reference["y"].tolist() == found.feeds["x"].tolist()


def test_both_parts_keep_the_calibration_samples() -> None:
    assert [s.calibration_feeds()["x"][:, 0].tolist() for s in part(samples(20), Optimize(), stream=False)] == [
        [0, 1, 2],
        [0, 1, 2],
    ]


def test_the_parts_are_told_by_the_seed() -> None:
    first, again, other = (evaluated(part(samples(100), Optimize(seed=s), stream=False)[0]) for s in (1, 1, 2))
    assert first == again != other


def test_a_stream_stays_whole_and_is_judged_by_its_end() -> None:
    choose, judge = part(samples(100), Optimize(holdout=0.6), stream=True)
    assert choose.feeds["x"][:, 0].tolist() == list(range(43))
    assert judge.feeds["x"][:, 0].tolist() == list(range(103))
    assert evaluated(judge) == set(range(43, 103))
    assert judge.labels is not None
    assert judge.labels.tolist() == list(range(43, 103))


def test_what_is_chosen_by_is_bounded_however_much_data_there_is() -> None:
    assert len(evaluated(part(samples(20_000), Optimize(), stream=False)[0])) == 2000


def test_too_few_samples_for_two_parts_are_refused() -> None:
    with pytest.raises(DatasetError, match="8 are too few for both"):
        part(samples(8), Optimize(), stream=False)


def test_the_outputs_before_a_training_are_parted_too() -> None:
    given = samples(100)
    choose, _ = part(replace(given, before=given.reference), Optimize(), stream=False)
    assert choose.standard["y"].tolist() == choose.feeds["x"].tolist()


def test_labels_of_single_outputs_are_parted_too() -> None:
    plain = samples(100)
    named = replace(plain, labels={"y": plain.labels, "twice": 2 * plain.labels})
    for stream in (False, True):
        for one, other in zip(
            part(plain, Optimize(), stream=stream), part(named, Optimize(), stream=stream), strict=True
        ):
            assert np.array_equal(other.labels["y"], one.labels)
            assert np.array_equal(other.labels["twice"], 2 * one.labels)
