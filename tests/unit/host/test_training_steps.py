"""`--train` and `[[train]]`: what is read, and what is refused before anything slow starts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from handmade import doubling

from edgepack.errors import DatasetError, RecipeError, SourceModelError
from edgepack.inputs import read_inputs
from edgepack.recipe import Recipe, load_recipe
from edgepack.reporter import Reporter
from edgepack.training_steps import known_steps, parse_train

FILE = """
[model]
path = "net.keras"
[data]
calibration = "c.npz"
{data}
[build]
profiles = ["raspberry-pi-4"]
{steps}
"""


def recipe_of(folder, steps="", data='training = "t.npz"'):
    (folder / "edgepack.toml").write_text(FILE.format(steps=steps, data=data), encoding="utf-8")
    return load_recipe(folder / "edgepack.toml")


def test_a_step_on_the_command_line_is_the_table_of_the_file(tmp_path):
    table = '[[train]]\nuse = "prune"\nsparsity = 0.8\nepochs = 3\nskip = ["a", "b"]'
    said = parse_train("prune:sparsity=0.8,epochs=3,skip=a,skip=b")
    assert recipe_of(tmp_path, table).training == (said,)
    assert json.loads(said.options)["skip"] == ["a", "b"]


def test_all_options_are_in_what_is_signed():
    options = json.loads(parse_train("prune").options)
    assert {"epochs", "learning_rate", "pattern", "seed", "sparsity"} <= set(options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prnue", r"'prnue' is not known \(did you mean 'prune'\?\)"),
        ("_fit", "'_fit' is not known"),
        ("", "'' is not known"),
        ("prune:0.8", "'0.8' is no NAME=VALUE"),
        ("prune:sparsity=2", "sparsity is 2, possible is 0.01 to 0.99"),
        ("prune:sparsity=nan", "sparsity is nan"),
        ("prune:sparsity=much", "'much' is no number"),
        ("prune:epochs=1.5", "'1.5' is no whole number"),
        ("prune:epochs=-1", "epochs is -1"),
        ("prune:sparsty=0.8", r"unknown field \(did you mean 'sparsity'\?\)"),
        ("prune:epochs=1,epochs=2", "epochs is said twice"),
        ("prune:pattern=4:2", "pattern is '4:2'"),
        ("prune:loss=l1", "loss is 'l1', known are auto"),
        ("prune:learning_rate=0", "learning_rate is 0"),
        ("prune:teacher=t.keras", "teacher: unknown field"),
        ("cluster:clusters=1", "clusters is 1, possible is 2 to 256"),
        ("distil", "a student needs a teacher"),
        ("distil:teacher=t.keras,temperature=0.5", "temperature is 0.5"),
        ("distil:teacher=t.keras,alpha=2", "alpha is 2, possible is 0 to 1"),
        ("distil:teacher=t.keras,loss=source", "a student learns from its teacher"),
    ],
)
def test_what_is_no_step_is_refused_with_what_there_is(text, said):
    with pytest.raises(RecipeError, match=said):
        parse_train(text)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[[train]]\nuse = "prune"\nsparsity = 2', r"train\[0\]: sparsity is 2"),
        ('[[train]]\nuse = "prune"\nsparsity = "0.8"', r"train\[0\].sparsity: expected float, got text"),
        ('[[train]]\nuse = "prune"\nspeed = 1', r"train\[0\].speed: unknown field"),
        ("[[train]]\nsparsity = 0.8", r"train\[0\].use: missing"),
        ('[train]\nuse = "prune"', "train: expected list, got table"),
    ],
)
def test_a_wrong_table_is_refused_by_its_place(tmp_path, table, said):
    with pytest.raises(RecipeError, match=said):
        recipe_of(tmp_path, table)


def test_a_step_without_a_training_set_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="without a training set"):
        recipe_of(tmp_path, '[[train]]\nuse = "prune"', data="")


def test_a_training_set_without_a_step_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="trains nothing"):
        recipe_of(tmp_path)


def test_every_step_has_defaults_but_a_student_has_no_teacher_by_itself():
    texts = [f"{name}:teacher=t.keras" if name == "distil" else name for name in known_steps()]
    assert [parse_train(text).use for text in texts] == list(known_steps())


def test_a_teacher_in_a_file_is_relative_to_it(tmp_path):
    (step,) = recipe_of(tmp_path, '[[train]]\nuse = "distil"\nteacher = "big/net.keras"').training
    assert step.teacher == tmp_path / "big" / "net.keras"


def test_two_teachers_are_refused(tmp_path):
    table = '[[train]]\nuse = "distil"\nteacher = "a.keras"\n'
    with pytest.raises(RecipeError, match="two training steps have a teacher"):
        recipe_of(tmp_path, table + table)


# What the build reads


def inputs(folder, training, evaluation=None, model="net.tflite", step="prune"):
    """Read the inputs of a build with these arrays."""
    recipe = Recipe(
        model=folder / model,
        calibration=folder / "calibration.npz",
        profiles=("raspberry-pi-4",),
        output=folder / "out",
        training=(parse_train(step),),
        training_set=folder / "training.npz",
        evaluation=folder / "evaluation.npz" if evaluation else None,
    )
    np.savez(folder / "calibration.npz", x=np.zeros((4, 4), np.float32))
    np.savez(folder / "training.npz", **training)
    if evaluation:
        np.savez(folder / "evaluation.npz", **evaluation)
    return read_inputs(recipe, Reporter())


@pytest.fixture
def keras_file(tmp_path):
    # The format is told by what lies in the archive; nothing is loaded here.
    import zipfile

    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    return tmp_path


SAMPLES = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
CLASSES = np.arange(100) % 3


def test_only_keras_models_are_trained_and_the_way_of_the_others_is_named(tmp_path):
    (tmp_path / "net.tflite").write_bytes(doubling([1, 4]))
    with pytest.raises(RecipeError, match="is tflite, and only Keras models are trained here") as caught:
        inputs(tmp_path, {"x": SAMPLES, "y": CLASSES})
    assert "in its own framework before the export" in (caught.value.hint or "")


def test_nan_in_a_training_set_is_refused(keras_file):
    with pytest.raises(DatasetError, match=r"training data .*: array 'x' holds NaN"):
        inputs(keras_file, {"x": np.full((4, 4), np.nan, np.float32), "y": CLASSES[:4]}, model="net.keras")


def test_a_training_set_with_fewer_labels_than_samples_is_refused(keras_file):
    with pytest.raises(DatasetError, match="count different numbers of samples: x 100, labels 99"):
        inputs(keras_file, {"x": SAMPLES, "y": CLASSES[:99]}, model="net.keras")


def test_evaluation_samples_in_the_training_set_are_refused(keras_file):
    learnt = {"x": SAMPLES, "y": CLASSES}
    judged = {"x": np.concatenate([SAMPLES[:6], SAMPLES[6:] + 9]), "y": CLASSES}
    with pytest.raises(DatasetError, match="6 of the 100 evaluation samples are in it"):
        inputs(keras_file, learnt, judged, model="net.keras")


def test_a_few_samples_that_are_alike_are_not_refused(keras_file):
    judged = {"x": np.concatenate([SAMPLES[:5], SAMPLES[5:] + 9]), "y": CLASSES}
    found = inputs(keras_file, {"x": SAMPLES, "y": CLASSES}, judged, model="net.keras")
    assert found.training is not None
    assert found.training.count == 100


def test_the_model_itself_is_no_teacher(keras_file):
    shutil.copy(keras_file / "net.keras", keras_file / "copy.keras")
    step = f"distil:teacher={keras_file / 'copy.keras'}"
    with pytest.raises(RecipeError, match="is the model itself, which has nothing to learn from it"):
        inputs(keras_file, {"x": SAMPLES, "y": CLASSES}, model="net.keras", step=step)


def test_a_teacher_of_another_format_is_refused(keras_file):
    (keras_file / "big.tflite").write_bytes(doubling([1, 4]))
    step = f"distil:teacher={keras_file / 'big.tflite'}"
    with pytest.raises(RecipeError, match="is tflite, and only Keras models teach here"):
        inputs(keras_file, {"x": SAMPLES, "y": CLASSES}, model="net.keras", step=step)


def test_a_teacher_that_is_not_there_is_refused(keras_file):
    step = f"distil:teacher={keras_file / 'none.keras'}"
    with pytest.raises(SourceModelError, match=r"none\.keras"):
        inputs(keras_file, {"x": SAMPLES, "y": CLASSES}, model="net.keras", step=step)
