"""A real Keras classifier pruned by `edgepack build`, and what the training steps do and refuse."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from edgepack.toolchain import ensure, locate

pytestmark = [pytest.mark.slow, pytest.mark.long]
DIGITS = Path(__file__).parent.parent / "data" / "mnist"
SCRIPT = Path(__file__).parent / "sources" / "train_keras.py"
ROOT = Path(__file__).resolve().parents[2]


def taught(what: str, folder: Path) -> str:
    """Run `sources/train_keras.py`, and return what it printed."""
    python = ensure(locate("tensorflow"), offline=False, say=print)
    arguments = [SCRIPT, ROOT / "sdk", ROOT / "runtime", DIGITS / "digits.npz", folder, what]
    done = subprocess.run([python, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def school(shop, tmp_path_factory):
    """A shop of another folder, with a Keras model and its data in it."""
    folder = tmp_path_factory.mktemp("school")
    taught("model", folder)
    return type(shop)(folder)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict:
    """What the steps made of the models and data of `sources/train_keras.py`, by case."""
    return json.loads(taught("cases", tmp_path_factory.mktemp("cases")).splitlines()[-1])


@pytest.fixture(scope="module")
def pruned(school) -> dict:
    done = school.build(
        "--evaluation", "evaluation.npz", "--profile", "raspberry-pi-4", "--training-set", "training.npz",
        "--train", "prune:sparsity=0.8,epochs=3", "--train", "cluster:epochs=1",
        "--max-drop", "0.08", "--compress", "--json",
        model=school.folder / "net.keras",
    )  # fmt: skip
    assert done.code == 0, done.err
    (bundle,) = done.json()["bundles"]
    return bundle


def evidence(bundle: dict, check: str) -> dict:
    (found,) = [item for item in bundle["manifest"]["evidence"] if item["check"] == check]
    return found


def test_a_pruned_and_clustered_model_takes_half_the_bytes_in_its_bundle(pruned):
    found = evidence(pruned, "bytes after training")
    words = found["found"].replace(",", "").split()
    after, before = int(words[0]), int(words[6])
    assert found["holds"]
    assert after < 0.5 * before


def test_the_finished_model_has_the_zeros_that_were_asked_for(pruned):
    assert "80.0% of 30,668 weights are zero" in evidence(pruned, "bytes after training")["found"]


def test_the_drop_is_counted_from_the_model_before_the_training(pruned):
    assert evidence(pruned, "like before training: scores")["wanted"].endswith("(the metric decides)")
    assert evidence(pruned, "like before training: scores")["value"] < 0.9999


def test_the_step_is_signed_with_its_options_and_the_digest_of_its_data(pruned):
    steps = pruned["manifest"]["provenance"]["steps"]
    assert [step["use"] for step in steps] == [
        "train prune",
        "train cluster",
        "convert keras by tensorflow",
        "full_integer",
    ]
    options = json.loads(steps[0]["options"])
    assert (options["sparsity"], options["seed"], len(options["training_set"])) == (0.8, 1, 64)
    assert steps[0]["output_digest"] == steps[1]["input_digest"]
    assert steps[1]["output_digest"] == steps[2]["input_digest"]
    assert steps[0]["input_digest"] == pruned["manifest"]["provenance"]["source_digest"]


def test_a_sparsity_of_2_is_refused(school):
    said = school.refused(
        "--profile", "raspberry-pi-4", "--training-set", "training.npz", "--train", "prune:sparsity=2",
        model=school.folder / "net.keras", out="never",
    )  # fmt: skip
    assert said.endswith("sparsity is 2, possible is 0.01 to 0.99")


def test_a_trained_layer_has_the_zeros_that_were_asked_for(cases):
    for name, layer in cases["unstructured"]["weights"].items():
        assert layer["zero"] == round(0.8 * layer["size"]) / layer["size"], name


def test_two_of_four_neighbours_stay(cases):
    found = {name: layer["most_of_four"] for name, layer in cases["two of four"]["weights"].items()}
    # The first layer has one input: there are no four.
    assert found == {"first": 0, "second": 2, "third": 2, "scores": 2}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(cases):
    assert cases["again"]["digest"] == cases["unstructured"]["digest"]
    assert cases["another seed"]["digest"] != cases["unstructured"]["digest"]


def test_only_the_layers_that_are_named_are_pruned(cases):
    zero = {name: layer["zero"] for name, layer in cases["one layer"]["weights"].items()}
    assert zero == {"first": 0, "second": 0, "third": 0.5, "scores": 0}
    assert "not pruned: first/kernel, second/kernel, scores/kernel" in cases["one layer"]["notes"]


def test_without_epochs_the_weights_go_and_it_is_said_that_nothing_was_learnt(cases):
    assert "no epoch of 0 was better than none, which is kept" in cases["without training"]["notes"][0]
    assert cases["without training"]["weights"]["third"]["zero"] == 0.5


def test_samples_without_labels_train_a_model_to_stay_as_it_is(cases):
    assert cases["like the source"]["weights"]["third"]["zero"] == pytest.approx(0.8, abs=1e-3)


def test_every_clustered_layer_has_as_many_values_as_were_named_after_it_learnt(cases):
    assert {name: layer["values"] for name, layer in cases["clustered"]["weights"].items()} == dict.fromkeys(
        ("first", "second", "third", "scores"), 16
    )


@pytest.mark.parametrize("case", ["hardly changed", "separable, hardly changed"])
def test_what_hardly_changes_the_weights_hardly_changes_the_loss_with_a_normalization_folded(cases, case):
    learnt, *notes = cases[case]["notes"]
    before, after = (float(text) for text in re.findall(r"crossentropy ([0-9.]+) -> ([0-9.]+)", learnt)[0])
    assert "folded 1 batch normalizations into the weights before them" in notes
    assert after == pytest.approx(before, rel=0.02)


def test_separable_convolutions_learn(cases):
    learnt = cases["separable"]["notes"][0]
    before, after = (float(text) for text in re.findall(r"crossentropy ([0-9.]+) -> ([0-9.]+)", learnt)[0])
    assert after < before


def test_what_was_pruned_stays_zero_when_it_is_clustered(cases):
    first, then = cases["unstructured"]["weights"], cases["pruned, then clustered"]["weights"]
    assert {name: layer["zero"] for name, layer in then.items()} == {n: layer["zero"] for n, layer in first.items()}
    assert {layer["values"] for layer in then.values()} == {16}


@pytest.mark.parametrize("case", ["taught", "taught without labels"])
def test_a_student_answers_what_its_teacher_does(cases, case):
    # Untrained it would on one in ten.
    assert cases[case]["agreement"] > 0.8


def test_a_student_is_held_against_its_teacher_and_bytes_are_counted_beside_it(school):
    done = school.build(
        "--evaluation", "evaluation.npz", "--profile", "raspberry-pi-4", "--training-set", "training.npz",
        "--train", "distil:teacher=net.keras,epochs=10", "--max-drop", "0.15", "--precision", "dynamic_range",
        "--json", model=school.folder / "student.keras", out="taught",
    )  # fmt: skip
    assert done.code == 0, done.err
    (bundle,) = done.json()["bundles"]
    words = evidence(bundle, "bytes after training")["found"].replace(",", "").split()
    assert int(words[0]) < int(words[7])
    assert evidence(bundle, "like before training: scores")["value"] < 0.999
    assert "what is lost is counted from the teacher net.keras" in bundle["manifest"]["provenance"]["notes"]
    (step, *_) = bundle["manifest"]["provenance"]["steps"]
    assert (step["use"], len(json.loads(step["options"])["teacher"])) == ("train distil", 64)


def test_a_model_that_learnt_with_rounded_weights_bears_rounding_better(cases):
    before, after = cases["rounded"]["accuracy"]
    assert after > before + 0.05


REFUSED = {
    "rounded, of others inside": "TrainingError: layer 'functional",
    "taught by another": "TrainingError: the teacher's outputs have the shapes [10], [32], the model's [10]",
    "taught with labels that lack": "DatasetError: training data: no labels in it",
    "without a teacher": "TrainingError: a student needs a teacher",
    "clustered, then pruned": "TrainingError: second/kernel, third/kernel, scores/kernel: clustered",
    "no labels": "DatasetError: training data: no labels in it",
    "two outputs": "TrainingError: the model has 2 outputs (scores, third)",
    "wrong class": "DatasetError: training data: labels from 1 to 10, the model's output has the classes 0 to 9",
    "wrong labels": "DatasetError: training data: labels of shape [3] a sample do not fit the output [10]",
    "wrong shape": "DatasetError: training data: array 'image' is float32[20, 28, 1] a sample, the model takes",
    "wrong dtype": "DatasetError: training data: array 'image' is uint8[28, 28, 1] a sample, the model takes",
    "wrong name": "DatasetError: training data: has the arrays ['picture'], the model's inputs are ['image']",
    "no such layer": "TrainingError: no layer with weights is named 'fourth'",
    "beyond numbers": "TrainingError: the likeness of the model as it came is",
    "one sample": "DatasetError: training data: 1 samples are too few",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_by_what_is_wrong(cases, case):
    assert cases[case].get("error", "not refused").startswith(REFUSED[case])
