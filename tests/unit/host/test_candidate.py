"""What becomes of a candidate, run for real under the host's own engine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import doubling

from edgepack.candidate import Bench, Samples, examine
from edgepack.model import TFLiteModel
from edgepack.profiles import load_profile
from edgepack.recipe import Gate
from edgepack.worker import Workplace
from edgepack_runtime.profile import InputLimits
from edgepack_runtime.tensors import TensorSpec

X = np.random.default_rng(0).normal(size=(20, 1, 4)).astype(np.float32)
MODEL = TFLiteModel(
    data=doubling([1, 4], outputs=("scores", "box")),
    inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 4)),),
    outputs=tuple(TensorSpec(name=name, dtype="float32", shape=(1, 4)) for name in ("scores", "box")),
    history=(),
)


def refused(box: np.ndarray, labels: np.ndarray | None, before: dict[str, np.ndarray] | None = None) -> list[str]:
    """Return the checks that refuse an integer candidate whose source gives `box`, with right scores."""
    reference = {"scores": 2 * X, "box": box}
    samples = Samples(feeds={"x": X}, reference=reference, calibration=10, labels=labels, before=before)
    place = Workplace(python=Path(sys.executable))
    bench = Bench(engines={"ai-edge-litert==2.3.0": place}, gate=Gate(output="scores"))
    found = examine(MODEL, "full_integer", load_profile("raspberry-pi-4"), samples, bench)
    return [refusal.check for refusal in found.refusals]


LABELS = (2 * X[10:]).argmax(-1)[:, 0]


@pytest.mark.parametrize("labels", [None, LABELS])
def test_what_is_like_the_source_passes(labels):
    assert refused(2 * X, labels) == []


@pytest.mark.parametrize("labels", [None, LABELS])
def test_an_output_the_metric_does_not_read_must_be_like_the_sources_all_the_same(labels):
    assert refused(-2 * X, labels) == ["like the float source: box"]


@pytest.mark.parametrize("labels", [None, LABELS])
def test_what_training_left_as_it_was_passes(labels):
    assert refused(2 * X, labels, before={"scores": 2 * X, "box": 2 * X}) == []


def test_without_labels_what_training_made_another_model_of_is_refused():
    changed = refused(2 * X, None, before={"scores": -2 * X, "box": 2 * X})
    assert changed == ["like before training: scores"]


def test_a_model_that_training_made_better_passes_however_unlike_it_has_become():
    assert refused(2 * X, LABELS, before={"scores": -2 * X, "box": 2 * X}) == []


def test_the_metrics_loss_is_counted_from_the_model_before_the_training():
    wrong = (-2 * X[10:]).argmax(-1)[:, 0]
    assert refused(2 * X, wrong) == []
    assert refused(2 * X, wrong, before={"scores": -2 * X, "box": 2 * X}) == ["accuracy drop"]


def test_each_further_version_of_the_engine_is_asked_for_by_its_number():
    base = load_profile("raspberry-pi-4")
    profile = replace(base, engine=replace(base.engine, also=("2.1.0",)))
    place = Workplace(python=Path(sys.executable))
    # Both are the environment at hand, which has 2.3.0.
    engines = {"ai-edge-litert==2.3.0": place, "ai-edge-litert==2.1.0": place}
    samples = Samples(feeds={"x": X}, reference={"scores": 2 * X, "box": 2 * X}, calibration=10, labels=None)
    found = examine(MODEL, "full_integer", profile, samples, Bench(engines=engines, gate=Gate(output="scores")))
    (refusal,) = found.refusals
    assert refusal.found.endswith("has ai-edge-litert 2.3.0, 2.1.0 was asked for")
    assert found.lab is not None
    assert found.lab.engine_version == "2.3.0"


def test_what_a_profile_takes_as_input_is_held_against_the_model():
    base = load_profile("raspberry-pi-4")
    profile = replace(base, io=InputLimits(input_dtypes=("int8",)))
    samples = Samples(feeds={"x": X}, reference={"scores": 2 * X, "box": 2 * X}, calibration=10, labels=None)
    bench = Bench(
        engines={"ai-edge-litert==2.3.0": Workplace(python=Path(sys.executable))}, gate=Gate(output="scores")
    )
    found = examine(MODEL, "full_integer", profile, samples, bench)
    assert [(refusal.check, refusal.found) for refusal in found.refusals] == [("input dtypes", "x: float32[1, 4]")]
