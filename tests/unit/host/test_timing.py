"""Runs timed by turns."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgepack.timing import median_interval, take_turns


def test_the_interval_of_a_median_is_the_one_in_the_tables():
    # Ordered values 1 … n: the ranks of Conover's table for 95 %.
    ranks = {n: median_interval(list(range(1, n + 1)))[1:] for n in (6, 9, 15, 25, 60)}
    assert ranks == {6: (1, 6), 9: (2, 8), 15: (4, 12), 25: (8, 18), 60: (22, 39)}


def test_the_interval_holds_the_median_of_nineteen_in_twenty_draws():
    rng = np.random.default_rng(3)
    held = sum(low <= 1.0 <= high for _, low, high in (
        median_interval(list(rng.lognormal(sigma=2, size=25))) for _ in range(2000)
    ))  # fmt: skip
    assert 0.945 <= held / 2000 <= 0.975


def busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_a_model_that_takes_twice_as_long_has_the_ratio_two():
    timing = take_turns(lambda: busy(0.002), lambda: busy(0.001))
    assert timing.ratio == pytest.approx(2, rel=0.15)
    assert timing.ratio_low <= timing.ratio <= timing.ratio_high
    assert timing.low_ms <= timing.milliseconds <= timing.high_ms


def test_a_machine_that_gets_slower_meanwhile_leaves_the_ratio_as_it_is():
    start = time.perf_counter()

    def slowing(share: float) -> None:
        busy(share * (0.0005 + 0.005 * (time.perf_counter() - start)))

    assert take_turns(lambda: slowing(3), lambda: slowing(1)).ratio == pytest.approx(3, rel=0.2)


def test_long_runs_are_timed_a_few_times_only():
    runs = []
    timing = take_turns(lambda: (busy(0.05), runs.append(1)), lambda: busy(0.05))
    assert (timing.rounds, len(runs)) == (9, 10)
