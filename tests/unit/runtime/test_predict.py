"""From a picture to labels: what a bundle declares, applied to a real model by the session."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bundlekit
import realbundle
from edgepack_runtime.errors import InputError, SchemaError
from edgepack_runtime.prediction import Predictor, as_real, as_stored
from edgepack_runtime.processing import Audio, Classes, Image, Processing
from edgepack_runtime.session import open_bundle
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec

MODEL = realbundle.of_file(Path(__file__).parents[2] / "data" / "tiny" / "digits.tflite")
INPUT, OUTPUT = MODEL.inputs[0], MODEL.outputs[0]
LABELS = tuple(f"digit {number}" for number in range(10))
IMAGE = Image(
    input=INPUT.name, layout="nhwc", colours="gray", fit="stretch", short_side=0, fill=0, resize="bilinear",
    divisor=255.0, mean=(0.0,), std=(1.0,),
)  # fmt: skip
CLASSES = Classes(output=OUTPUT.name, activation="none", top=3, threshold=-1e9)
PICTURE = np.random.default_rng(3).integers(0, 256, (20, 30, 3)).astype(np.uint8)
SCORES = TensorSpec(name="scores", dtype="float32", shape=(1, 4))


def opened(folder, processing, labels=LABELS, model=MODEL):
    board = realbundle.profile()
    text = replace(realbundle.manifest(model, board), labels=labels, processing=processing)
    path = folder / "m.edgepack"
    path.write_bytes(bundlekit.make(realbundle.recipe(model, text, board)).file())
    return open_bundle(path, device=realbundle.device())


@pytest.fixture
def session(tmp_path):
    with opened(tmp_path, Processing(image=IMAGE, classes=CLASSES)) as session:
        yield session


def found(scores, labels=(), spec=SCORES, **changes):
    """Return the indices and scores found in the one output of a model."""
    scores = np.array(scores, spec.dtype)
    spec = replace(spec, shape=scores.shape)
    classes = replace(CLASSES, output="scores", **changes)
    predictor = Predictor(Processing(classes=classes), (), (spec,), labels)
    return [(item.index, round(item.score, 4)) for item in predictor.found({"scores": scores}).found]


def test_a_picture_becomes_the_same_labels_as_its_numbers_do_by_hand(session):
    prediction = session.predict(PICTURE)
    by_hand = session.run({INPUT.name: Predictor.of(session.manifest).feed(PICTURE)[0][INPUT.name]})[OUTPUT.name][0]
    best = np.argsort(-by_hand)[:3]
    assert [(item.index, item.label) for item in prediction.found] == [(i, LABELS[i]) for i in best]


def test_the_inputs_may_be_given_by_name(session):
    feeds, _ = Predictor.of(session.manifest).feed(PICTURE)
    assert session.predict(feeds).found == session.predict(PICTURE).found


def test_all_outputs_are_given_too(session):
    assert session.predict(PICTURE).outputs.keys() == {spec.name for spec in session.outputs}


def test_a_bundle_that_declares_nothing_says_so(tmp_path):
    with opened(tmp_path, None) as session, pytest.raises(InputError, match="declares nothing before or behind"):
        session.predict(PICTURE)


def test_pictures_are_refused_where_only_classes_are_declared(tmp_path):
    with opened(tmp_path, Processing(classes=CLASSES)) as session:
        assert len(session.predict({INPUT.name: np.zeros(INPUT.shape, np.float32)}).found) == 3
        with pytest.raises(InputError, match="nothing is declared before the model"):
            session.predict(PICTURE)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (replace(IMAGE, input="img"), "image.input: 'img' is none of the model's"),
        (replace(IMAGE, layout="nchw"), "gray in nchw is no input"),
        (replace(IMAGE, colours="rgb"), "rgb in nhwc is no input"),
        (replace(IMAGE, fit="short_side", short_side=7), "short_side: 7 is less than the model's"),
    ],
)
def test_an_image_that_does_not_belong_to_the_model_is_refused(tmp_path, image, complaint):
    with opened(tmp_path, Processing(image=image)) as session, pytest.raises(SchemaError, match=complaint):
        session.predict(PICTURE)


@pytest.mark.parametrize(("count"), [1, 9, 11])
def test_labels_that_are_not_as_many_as_the_scores_are_refused(tmp_path, count):
    session = opened(tmp_path, Processing(image=IMAGE, classes=CLASSES), ("a",) * count)
    with session, pytest.raises(SchemaError, match=f"there are {count} labels, the model gives"):
        session.predict(PICTURE)


@pytest.mark.parametrize("shape", [(1, 5000, 8, 3), (1, -1, 8, 3), (2, 8, 8, 3), (8, 3), (0, 8, 8, 3)])
def test_an_input_that_is_no_picture_is_refused(shape):
    spec = TensorSpec(name=INPUT.name, dtype="float32", shape=shape)
    with pytest.raises(SchemaError, match="is no input"):
        Predictor(Processing(image=replace(IMAGE, colours="rgb")), (spec,), (), ())


@pytest.mark.parametrize("shape", [(1, 0), (1, -1), (-1, -1)])
def test_an_output_without_a_fixed_number_of_scores_is_refused(shape):
    with pytest.raises(SchemaError, match="there are 0 labels, the model gives scores"):
        Predictor(Processing(classes=replace(CLASSES, output="scores")), (), (replace(SCORES, shape=shape),), ())


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "bool"},
        {"dtype": "int8", "quantization": QuantizationParameters(scale=(0.5, 0.5), zero_point=(0, 0))},
        {"dtype": "int8", "quantization": QuantizationParameters(scale=(), zero_point=())},
    ],
)
def test_an_input_that_stores_no_numbers_is_refused(changes):
    with pytest.raises(SchemaError, match="no numbers can be stored in"):
        Predictor(Processing(image=IMAGE), (replace(INPUT, **changes),), (), ())


def test_a_file_needs_pillow_and_says_so(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match="Pillow, which is not installed"):
        session.predict("cat.png")


def test_softmax_makes_shares_of_any_scores():
    assert found([[1000.0, 1000.0, -1000.0, 0.0]], activation="softmax") == [(0, 0.5), (1, 0.5), (2, 0.0)]


def test_sigmoid_judges_each_score_alone():
    assert found([[0.0, 1000.0, -1000.0]], activation="sigmoid") == [(1, 1.0), (0, 0.5), (2, 0.0)]


def test_what_is_below_the_threshold_is_left_out():
    assert found([[0.1, 0.7, 0.5]], threshold=0.5) == [(1, 0.7), (2, 0.5)]


def test_equal_scores_keep_their_order():
    assert found([[2.0, 1.0, 2.0, 2.0]], top=2) == [(0, 2.0), (2, 2.0)]


def test_a_score_that_is_no_number_is_never_found():
    assert found([[np.nan, 1.0]]) == [(1, 1.0)]


def test_one_score_with_two_labels_is_that_of_the_second():
    assert found([[0.75]], ("no", "yes")) == [(1, 0.75), (0, 0.25)]


def test_quantized_scores_are_what_they_mean():
    spec = replace(SCORES, dtype="int8", quantization=QuantizationParameters(scale=(0.25,), zero_point=(-8,)))
    assert found([[-8, 0, -4]], spec=spec) == [(1, 2.0), (2, 1.0), (0, 0.0)]


INT8 = TensorSpec(
    name="x", dtype="int8", shape=(4,), quantization=QuantizationParameters(scale=(0.5,), zero_point=(-3,))
)


def test_real_numbers_are_quantized_and_cut_at_the_ends():
    assert as_stored(np.array([-1000, 0, 1, 1000], np.float32), INT8).tolist() == [-128, -3, -1, 127]


def test_integers_without_quantization_are_rounded():
    spec = TensorSpec(name="x", dtype="uint8", shape=(4,))
    assert as_stored(np.array([-3, 0.6, 254.4, 300], np.float32), spec).tolist() == [0, 1, 254, 255]


def test_quantization_and_back_loses_half_a_step_at_most():
    values = np.linspace(-60, 60, 1000, dtype=np.float32)
    assert abs(as_real(as_stored(values, INT8), INT8) - values).max() <= 0.25


def test_quantization_along_a_dimension_is_undone_along_it():
    spec = replace(
        INT8,
        shape=(2, 2),
        quantization=QuantizationParameters(scale=(1.0, 2.0), zero_point=(0, 1), quantized_dimension=0),
    )
    assert as_real(np.array([[1, 2], [3, 4]], np.int8), spec).tolist() == [[1.0, 2.0], [4.0, 6.0]]


LISTENER = realbundle.model("no_signature")
AUDIO = Audio(input=LISTENER.inputs[0].name, rate=1000, samples=8, mean=0.0, std=1.0)
WAVE = np.random.default_rng(4).normal(size=21).astype(np.float32)


@pytest.fixture
def listener(tmp_path):
    with opened(tmp_path, Processing(audio=AUDIO), (), LISTENER) as session:
        yield session


@pytest.mark.parametrize(
    ("hop", "length", "starts"),
    [
        (None, 21, [0, 8, 16]),
        (0.004, 21, [0, 4, 8, 12, 16]),
        (0.004, 20, [0, 4, 8, 12]),
        (0.008, 16, [0, 8]),
        (0.001, 8, [0]),
        (0.005, 3, [0]),
    ],
)
def test_windows_reach_to_the_end_of_a_recording_and_no_further(listener, hop, length, starts):
    windows = list(listener.predict_windows(WAVE[:length], hop))
    assert [round(window.seconds * 1000) for window in windows] == starts
    for window, start in zip(windows, starts, strict=True):
        part = np.zeros((1, 8), np.float32)
        part[0, : length - start] = WAVE[start : min(start + 8, length)]
        by_hand = listener.run({AUDIO.input: part})
        for name, value in by_hand.items():
            np.testing.assert_array_equal(window.outputs[name], value)


@pytest.mark.parametrize("hop", [0, -1, 0.0004, 0.009, float("inf"), float("nan")])
def test_a_hop_that_skips_or_stands_still_is_refused(listener, hop):
    with pytest.raises(InputError, match="a window every"):
        list(listener.predict_windows(WAVE, hop))


@pytest.mark.parametrize("wave", [np.float32(1)[None, None], np.array(1.0, np.float32), WAVE[:0], np.ones(9)])
def test_windows_of_what_is_no_sound_are_refused(listener, wave):
    with pytest.raises(InputError, match="sound"):
        list(listener.predict_windows(wave))


def test_a_picture_has_no_windows(session):
    with pytest.raises(InputError, match="no sound that could have windows"):
        list(session.predict_windows(PICTURE))


def test_a_pool_predicts_what_its_session_does(session):
    with session.pool(2) as pool:
        assert pool.predict(PICTURE).found == session.predict(PICTURE).found
