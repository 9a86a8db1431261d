"""What becomes of a candidate, run for real under the host's own engine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import doubling

from edgepack.auto import trial_of
from edgepack.candidate import Bench, Candidate, Samples, broken_outputs, examine, excuse_of
from edgepack.evaluate import compare
from edgepack.gate import Gate
from edgepack.model import TFLiteModel
from edgepack.passoptions import PassOrder
from edgepack.profiles import load_profile
from edgepack.worker import Workplace
from edgepack_runtime.profile import InputLimits
from edgepack_runtime.tensors import TensorSpec

X = np.random.default_rng(0).normal(size=(410, 1, 4)).astype(np.float32)
MODEL = TFLiteModel(
    data=doubling([1, 4], outputs=("scores", "box")),
    inputs=(TensorSpec(name="x", dtype="float32", shape=(1, 4)),),
    outputs=tuple(TensorSpec(name=name, dtype="float32", shape=(1, 4)) for name in ("scores", "box")),
    history=(),
)


def candidate(samples: Samples, scheme: str = "full_integer") -> Candidate:
    place = Workplace(python=Path(sys.executable))
    bench = Bench(engines={"ai-edge-litert==2.3.0": place}, gate=Gate(outputs=("scores",)))
    return examine(MODEL, scheme, load_profile("raspberry-pi-4"), samples, bench)


def refused(box: np.ndarray, labels: np.ndarray | None, before: dict[str, np.ndarray] | None = None) -> list[str]:
    """Return the checks that refuse an integer candidate whose source gives `box`, with right scores."""
    reference = {"scores": 2 * X, "box": box}
    samples = Samples(feeds={"x": X}, reference=reference, calibration=10, labels=labels, before=before)
    return [refusal.check for refusal in candidate(samples).refusals]


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
    assert changed == ["like before training: scores", "agreement drop against float: scores"]


def test_a_model_that_training_made_better_passes_however_unlike_it_has_become():
    assert refused(2 * X, LABELS, before={"scores": -2 * X, "box": 2 * X}) == []


def test_the_metrics_loss_is_counted_from_the_model_before_the_training():
    wrong = (-2 * X[10:]).argmax(-1)[:, 0]
    assert refused(2 * X, wrong) == []
    assert refused(2 * X, wrong, before={"scores": -2 * X, "box": 2 * X}) == ["accuracy drop: scores"]


def few(labels: np.ndarray | None) -> Samples:
    """Return 20 samples, half of them for evaluation, on which the candidate is all right."""
    feeds = {"x": X[:20]}
    return Samples(feeds=feeds, reference={"scores": 2 * X[:20], "box": 2 * X[:20]}, calibration=10, labels=labels)


def test_too_few_samples_refuse_and_say_how_many_are_needed():
    (refusal,) = candidate(few(LABELS[:10])).refusals
    assert refusal.check == "accuracy drop: scores"
    assert refusal.found.endswith(
        "on 10 samples; not enough samples to tell: about 390 are needed if the drop stays so"
    )
    assert refusal.remedy == "about 390 evaluation samples, or a wider --max-drop"


def test_the_float_model_itself_is_shipped_on_few_samples_and_says_so():
    found = candidate(few(LABELS[:10]), scheme="float32")
    assert found.refusals == ()
    (evidence,) = [e for e in found.evidence if e.check == "accuracy drop: scores"]
    assert "not enough samples to tell" in evidence.found
    assert evidence.found.endswith("shipped, for it is the float model")


def test_a_source_shipped_as_it_is_needs_no_samples_where_it_computes_the_same():
    assert candidate(few(LABELS[:10]), scheme="as_is").refusals == ()
    assert excuse_of("as_is", "full_integer", compare({"y": X}, {"y": X}), few(None)) == "it is the source itself"
    assert excuse_of("as_is", "full_integer", compare({"y": X}, {"y": X + 0.1}), few(None)) == ""
    assert excuse_of("full_integer", "full_integer", compare({"y": X}, {"y": X}), few(None)) == ""


def test_without_labels_too_few_samples_refuse_as_well():
    (refusal,) = candidate(few(None)).refusals
    assert refusal.check == "agreement drop against float: scores"


def test_without_evaluation_samples_no_drop_is_measured():
    feeds = {"x": X[:20]}
    samples = Samples(feeds=feeds, reference={"scores": 2 * X[:20], "box": 2 * X[:20]}, calibration=20, labels=None)
    assert (candidate(samples).drops, candidate(samples).refusals) == ((), ())


def test_an_output_of_nan_where_the_source_has_numbers_is_refused():
    assert broken_outputs({"y": np.zeros((3, 2))}, {"y": np.array([[0, 1], [np.nan, 1], [np.inf, 0]])}) == (
        "NaN or infinity in y on 2 samples"
    )


def test_nan_that_the_source_has_too_is_not_held_against_the_candidate():
    nan = {"y": np.full((3, 2), np.nan)}
    assert broken_outputs(nan, nan) == ""


def test_each_further_version_of_the_engine_is_asked_for_by_its_number():
    base = load_profile("raspberry-pi-4")
    profile = replace(base, engine=replace(base.engine, also=("2.1.0",)))
    place = Workplace(python=Path(sys.executable))
    # Both are the environment at hand, which has 2.3.0.
    engines = {"ai-edge-litert==2.3.0": place, "ai-edge-litert==2.1.0": place}
    samples = Samples(feeds={"x": X}, reference={"scores": 2 * X, "box": 2 * X}, calibration=10, labels=None)
    found = examine(MODEL, "full_integer", profile, samples, Bench(engines=engines, gate=Gate(outputs=("scores",))))
    (refusal,) = found.refusals
    assert refusal.found.endswith("has ai-edge-litert 2.3.0, 2.1.0 was asked for")
    assert found.lab is not None
    assert found.lab.engine_version == "2.3.0"


def test_what_a_profile_takes_as_input_is_held_against_the_model():
    base = load_profile("raspberry-pi-4")
    profile = replace(base, io=InputLimits(input_dtypes=("int8",)))
    samples = Samples(feeds={"x": X}, reference={"scores": 2 * X, "box": 2 * X}, calibration=10, labels=None)
    bench = Bench(
        engines={"ai-edge-litert==2.3.0": Workplace(python=Path(sys.executable))}, gate=Gate(outputs=("scores",))
    )
    found = examine(MODEL, "full_integer", profile, samples, bench)
    assert [(refusal.check, refusal.found) for refusal in found.refusals] == [("input dtypes", "x: float32[1, 4]")]


@pytest.mark.parametrize("trained", [False, True])
def test_a_float_model_has_a_loss_in_a_search_only_where_it_was_trained(trained):
    before = {"scores": -2 * X, "box": 2 * X} if trained else None
    samples = Samples(
        feeds={"x": X}, reference={"scores": 2 * X, "box": 2 * X}, calibration=10, labels=LABELS, before=before
    )
    order = PassOrder(scheme="float32", engine="ai-edge-litert==2.3.0")
    found = trial_of(candidate(samples, "float32"), order, "float32", trained=trained)
    assert [round(loss.value, 2) for loss in found.losses] == ([-1.0] if trained else [])


@pytest.mark.parametrize("trained", [False, True])
def test_of_a_trained_model_the_training_may_be_to_blame(trained):
    before = {"scores": 2 * X, "box": 2 * X} if trained else None
    samples = Samples(
        feeds={"x": X}, reference={"scores": 2 * X, "box": -2 * X}, calibration=10, labels=LABELS, before=before
    )
    remedies = [
        refusal.remedy for refusal in candidate(samples).refusals if refusal.check.startswith("like the float")
    ]
    assert [remedy.endswith(", or training that loses less") for remedy in remedies] == [trained]
