"""The gate passes a model that is too bad in at most one of twenty tries, and does not refuse everything."""

from __future__ import annotations

import pytest
from tools.gate_honesty import POPULATIONS, acceptable, simulate

# The bootstrap of some metrics takes long; `python -m tools.gate_honesty` tries all of them, more often.
QUICK = [name for name in POPULATIONS if name.split(",")[0] in ("accuracy", "agreement", "mse", "cosine", "snr")]


@pytest.mark.parametrize("name", QUICK)
def test_too_bad_a_model_passes_at_most_once_in_twenty_tries(name):
    row = simulate(name, 60, 40)
    assert acceptable(row.bad, row.tries)


@pytest.mark.parametrize("name", ["cosine, one in 30 silent", "mse, one in 30 silent", "snr, one in 30 silent"])
def test_failures_too_rare_to_be_among_twenty_samples_do_not_pass_unseen(name):
    row = simulate(name, 20, 40)
    assert acceptable(row.bad, row.tries)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in POPULATIONS if name not in QUICK])
def test_too_bad_a_model_passes_at_most_once_in_twenty_tries_by_the_slower_metrics_too(name):
    row = simulate(name, 60, 40)
    assert acceptable(row.bad, row.tries)


@pytest.mark.parametrize("name", ["accuracy, 40 % wrong, 20 % changed", "snr, noise", "mse, one in 30 silent"])
def test_as_good_a_model_passes(name):
    row = simulate(name, 200, 20)
    assert row.good == row.tries


def test_a_gate_that_compared_the_drop_alone_would_be_found_out():
    # It passes a model that is too bad by a hair about half of the time.
    assert not acceptable(20, 40)
