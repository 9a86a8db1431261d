"""Latency and size against their budgets, as evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from handmade import doubling, sums

from edgepack.budgets import budget_evidence, worse_than_float
from edgepack.errors import RecipeError
from edgepack.lab import LabRequest, LabResult, replay
from edgepack.optimize import Optimize, parse_latency, parse_size
from edgepack.profiles import load_profile
from edgepack.timing import Timing
from edgepack_runtime.manifest import Evidence

TIMING = Timing(
    rounds=20, milliseconds=10, low_ms=9, high_ms=12, float_ms=5, ratio=2.0, ratio_low=1.9, ratio_high=2.2
)
LAB = LabResult(outputs={}, engine_version="2.3.0", machine="x86_64", latency_ms=10, ram_bytes=0, timing=TIMING)


def evidence(
    arch: str, asked: Optimize, latency_ms: float | None = None, lab: LabResult = LAB
) -> dict[str, Evidence]:
    base = load_profile("generic-x86-64-linux" if arch == "x86_64" else "raspberry-pi-4")
    profile = replace(base, budget=replace(base.budget, latency_ms=latency_ms))
    return {e.check: e for e in budget_evidence(b"12345", profile, lab, asked, "here")}


@pytest.mark.parametrize(("limit", "holds"), [(12.0, True), (11.9, False)])
def test_milliseconds_are_judged_by_the_upper_end_on_the_profiles_own_architecture(limit, holds):
    found = evidence("x86_64", Optimize(), limit)["latency"]
    assert (found.holds, found.verdict) == (holds, "measured")


def test_milliseconds_of_another_processor_are_told_and_never_judged():
    found = evidence("aarch64", Optimize(), 1.0)["latency"]
    assert (found.holds, found.verdict) == (True, "unknown")
    assert "on this x86_64 machine, not the device" in found.found


def test_of_two_limits_the_shorter_counts():
    assert not evidence("x86_64", Optimize(max_latency="8ms"), 40.0)["latency"].holds


@pytest.mark.parametrize(("limit", "holds"), [("2.2x", True), ("2.1x", False)])
def test_the_ratio_is_judged_by_the_upper_end_wherever_it_was_measured(limit, holds):
    assert evidence("aarch64", Optimize(max_latency=limit))["latency against float"].holds == holds


def test_a_ratio_to_a_model_the_engine_does_not_run_is_not_within_any_budget():
    found = evidence("aarch64", Optimize(max_latency="9x"), lab=replace(LAB, timing=None))["latency against float"]
    assert (found.holds, found.verdict) == (False, "unknown")


@pytest.mark.parametrize(("limit", "holds"), [("5", True), ("4B", False)])
def test_the_size_is_held_against_its_limit(limit, holds):
    assert evidence("x86_64", Optimize(max_size=limit))["model size"].holds == holds


def test_a_model_that_is_larger_and_slower_than_float_is_told_of():
    larger, slower = worse_than_float(b"12", b"1", TIMING, "int16x8", "here")
    assert "int16x8 model has 2 bytes, more than the 1 of the float model" in larger
    assert "slower than the float one: 2.00 [1.90, 2.20] times" in slower
    assert slower.endswith("; --max-latency 1x allows no such model")


def test_nothing_is_said_of_one_that_may_be_as_fast_as_float():
    assert worse_than_float(b"1", b"1", replace(TIMING, ratio_low=0.99), "float16", "here") == ()


def test_nothing_is_said_of_the_float_model_itself():
    assert worse_than_float(b"12", b"1", TIMING, "float32", "here") == ()


def test_the_lab_times_a_model_by_turns_with_the_one_beside_it():
    feeds = {"x": np.ones((2, 1, 100_000), np.float32)}
    request = LabRequest(
        model=sums(100_000, 40), beside=sums(100_000, 4), engine="ai-edge-litert", num_threads=1, feeds=feeds
    )
    timing = replay(request).timing
    assert timing is not None
    assert timing.ratio > 3


def test_the_lab_times_nothing_beside_a_model_that_cannot_run():
    feeds = {"x": np.ones((1, 1), np.float32)}
    request = LabRequest(
        model=doubling([1]), beside=doubling([2, 2]), engine="ai-edge-litert", num_threads=1, feeds=feeds
    )
    assert replay(request).timing is None


@pytest.mark.parametrize(
    ("text", "wanted"), [("", (None, None)), ("40ms", (40.0, None)), ("0.5 ms", (0.5, None)), ("1.2x", (None, 1.2))]
)
def test_a_latency_is_milliseconds_or_a_multiple(text, wanted):
    assert parse_latency(text) == wanted


@pytest.mark.parametrize("text", ["40", "0ms", "-1ms", "1e3ms", "fast", "1.2 X"])
def test_a_latency_written_in_another_way_is_refused(text):
    with pytest.raises(RecipeError, match=r"max latency .* is neither"):
        Optimize(max_latency=text)


@pytest.mark.parametrize(
    ("text", "wanted"), [("", None), ("120000", 120_000), ("120kB", 120_000), ("1.5MB", 1_500_000), ("2KiB", 2048)]
)
def test_a_size_is_a_number_of_bytes(text, wanted):
    assert parse_size(text) == wanted


@pytest.mark.parametrize("text", ["0", "0.2B", "big", "-5", "1 GB"])
def test_a_size_written_in_another_way_is_refused(text):
    with pytest.raises(RecipeError, match=r"max size .* is no number of bytes"):
        Optimize(max_size=text)
