"""How much an integer model depends on which calibration samples it got, by making it again from halves of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tinymodels import LITERT, run, tiny

from edgepack.candidate import Bench, Candidate, Samples, apply_pass, examine
from edgepack.gate import Gate
from edgepack.model import TFLiteModel
from edgepack.passoptions import PassOrder
from edgepack.profiles import load_profile
from edgepack.variance import Halves, random_half, variance_evidence
from edgepack.worker import Workplace
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import TensorSpec

PLACE = Workplace(python=Path(sys.executable))
PROFILE = load_profile("raspberry-pi-4")
X = np.random.default_rng(5).normal(size=(60, 1, 8, 8, 1)).astype(np.float32)
# One sample in twenty is far out, so that a half without it gives other ranges.
X[::20] *= 4


def samples(calibration: int = 30) -> Samples:
    reference = run(tiny("digits"), {"image": X})
    return Samples(feeds={"image": X}, reference=reference, calibration=calibration, labels=None)


def source(given: Samples) -> TFLiteModel:
    outputs = tuple(
        TensorSpec(name=name, dtype="float32", shape=array.shape[1:]) for name, array in given.reference.items()
    )
    inputs = (TensorSpec(name="image", dtype="float32", shape=(1, 8, 8, 1)),)
    return TFLiteModel(data=tiny("digits"), inputs=inputs, outputs=outputs, history=())


def spread(scheme: str, given: Samples) -> tuple[Candidate, tuple[Evidence, ...]]:
    model, bench = source(given), Bench(engines={LITERT: PLACE}, gate=Gate(metric="agreement", max_drop=1.0))
    order = PassOrder(scheme=scheme, engine=LITERT, options='{"min_elements": 16}' if scheme == "float16" else "{}")
    made = apply_pass(model, order, given.calibration_feeds(), PLACE)
    candidate = examine(made, scheme, PROFILE, given, bench)
    halves = Halves(count=2, model=model, place=PLACE, digest="abc")
    return candidate, variance_evidence(candidate, PROFILE, given, bench, halves)


@pytest.mark.slow
def test_an_integer_model_is_made_again_and_its_drops_are_told():
    candidate, (found, *_) = spread("full_integer", samples())
    drop = candidate.drops[0]
    assert found.check == f"calibration variance: agreement drop of {drop.output}"
    assert f"{drop.drop.value:.4f}, with 2 random halves of the 30 calibration samples (SHA-256 abc): " in found.found
    assert (found.holds, found.verdict) == (True, "measured")
    assert found.value == found.high - found.low >= 0


@pytest.mark.slow
def test_without_evaluation_samples_the_likeness_is_what_spreads():
    given = samples()
    whole = replace(given, feeds={"image": X[:30]}, reference={n: a[:30] for n, a in given.reference.items()})
    _, (found, *_) = spread("full_integer", whole)
    assert found.check.startswith("calibration variance: lack of correlation of ")
    assert found.high > found.low


@pytest.mark.slow
def test_a_pass_that_reads_no_samples_has_no_spread():
    _, (found,) = spread("float16", samples())
    assert found.found.startswith("none: with 2 random halves")


def test_too_few_samples_have_no_halves():
    _, (found,) = spread("full_integer", samples(calibration=3))
    assert (found.verdict, found.holds) == ("unknown", True)
    assert found.found.endswith("would be too few to calibrate with")


def test_a_half_is_drawn_without_putting_back_and_the_same_for_a_seed():
    feeds = {"a": np.arange(9), "b": np.arange(9) * 10}
    half = random_half(feeds, 1)
    assert len(set(half["a"])) == 5
    assert (half["b"] == half["a"] * 10).all()
    assert (half["a"] == random_half(feeds, 1)["a"]).all()


@pytest.mark.parametrize("seed", [2, 3])
def test_another_seed_draws_another_half(seed):
    feeds = {"a": np.arange(50)}
    assert random_half(feeds, seed)["a"].tolist() != random_half(feeds, 1)["a"].tolist()
