"""Sound as TensorFlow and librosa make features of it; see `tests/data/processing`. And what is no sound."""

from __future__ import annotations

import importlib.util
import tracemalloc
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack_runtime.decoding import read_sound
from edgepack_runtime.errors import FileError, InputError, SchemaError
from edgepack_runtime.prediction import Predictor
from edgepack_runtime.processing import Audio, Mel, Processing
from edgepack_runtime.sound import prepare_sound
from edgepack_runtime.tensors import TensorSpec

FOLDER = Path(__file__).parents[2] / "data" / "processing"
_spec = importlib.util.spec_from_file_location("make_sound", FOLDER / "make_sound.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

AUDIO = Audio(input="wave", rate=made.RATE, samples=made.SAMPLES, mean=0.0, std=1.0)
TONE = np.array([0, 16384, -32768, 32767], np.int16)


def mel(setting, **changes):
    frame, hop, fft, bins, low, high, power = setting
    plain = Mel(
        frame=frame, hop=hop, fft=fft, bins=bins, low=low, high=high, power=power, filters="tensorflow",
        padding="none", log="natural", guard="add", epsilon=0.001, order="time",
    )  # fmt: skip
    return replace(plain, **changes)


def apart(file, name, **changes):
    """Return the largest difference from what a framework made of it, over all settings."""
    theirs = np.load(FOLDER / file)
    return max(
        abs(prepare_sound(made.wave(), AUDIO, mel(setting, **changes)) - theirs[f"{name}_{i}"]).max()
        for i, setting in enumerate(made.SETTINGS)
    )


def test_tensorflow_is_followed():
    assert apart("mel_tensorflow.npz", "tensorflow") < 1e-3


@pytest.mark.parametrize(("filters", "padding"), [("librosa", "zeros"), ("torchaudio", "reflect")])
def test_librosa_is_followed(filters, padding):
    changes = {"log": "decibel", "guard": "max", "epsilon": 1e-10, "order": "mel"}
    assert apart("mel_librosa.npz", filters, filters=filters, padding=padding, **changes) < 1e-3


def test_the_frames_told_are_those_made():
    for padding in ("none", "zeros"):
        for setting in made.SETTINGS:
            found = mel(setting, padding=padding)
            assert len(prepare_sound(made.wave(), AUDIO, found)) == found.frames(made.SAMPLES)


def test_integers_are_shares_of_the_largest():
    found = prepare_sound(TONE, replace(AUDIO, samples=4), None)
    assert found.tolist() == [0.0, 0.5, -1.0, 32767 / 32768]


def test_what_is_short_is_filled_with_silence_and_then_normalised():
    assert prepare_sound(TONE[:2], replace(AUDIO, samples=4, mean=1.0, std=2.0), None).tolist() == [
        -0.5, -0.25, -0.5, -0.5,
    ]  # fmt: skip


def test_silence_has_features_that_are_numbers():
    silent = np.zeros(made.SAMPLES, np.int16)
    for guard in ("add", "max"):
        assert np.isfinite(prepare_sound(silent, AUDIO, mel(made.SETTINGS[0], guard=guard, epsilon=1e-30))).all()


@pytest.mark.parametrize(
    ("sound", "complaint"),
    [
        ([0.0], "int16 or float32, got <class 'list'>"),
        (np.zeros(4), "got float64"),
        (np.zeros((4, 1), np.int16), "numpy array"),
        (np.zeros(0, np.int16), "of 0 samples, expected 1 to 4000"),
        (np.zeros(4001, np.int16), "of 4001 samples, expected 1 to 4000"),
        (np.array([np.nan], np.float32), "NaN or infinity"),
        (np.array([np.inf], np.float32), "NaN or infinity"),
    ],
)
def test_what_is_no_sound_is_refused(sound, complaint):
    with pytest.raises(InputError, match=complaint):
        prepare_sound(sound, AUDIO, None)


def write(path, data, channels=1, width=2, rate=16000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def test_a_wav_file_comes_back_sample_by_sample(tmp_path):
    assert read_sound(write(tmp_path / "a.wav", TONE.tobytes()), 16000).tolist() == TONE.tolist()


def test_channels_become_one(tmp_path):
    assert read_sound(write(tmp_path / "a.wav", TONE.tobytes(), channels=2), 16000).tolist() == [0.25, -0.5 / 32768]


@pytest.mark.parametrize(("changes", "complaint"), [({"rate": 8000}, "at 8000 Hz"), ({"width": 1}, "8 bits")])
def test_another_rate_or_width_is_refused(tmp_path, changes, complaint):
    with pytest.raises(InputError, match=f"{complaint}.*, expected 16 bits at 16000 Hz"):
        read_sound(write(tmp_path / "a.wav", TONE.tobytes(), **changes), 16000)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"no sound at all", b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff"])
def test_what_is_no_wav_file_is_refused(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(InputError, match="no WAV file"):
        read_sound(tmp_path / "a.wav", 16000)


def test_a_header_that_claims_gigabytes_takes_no_memory_for_them(tmp_path):
    data = bytearray(write(tmp_path / "a.wav", TONE.tobytes()).read_bytes())
    for at in (4, data.index(b"data") + 4):
        data[at : at + 4] = (0xF0000000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    tracemalloc.start()
    try:
        found = read_sound(tmp_path / "a.wav", 16000)
        assert (found.tolist(), tracemalloc.get_traced_memory()[1] < 1_000_000) == (TONE.tolist(), True)
    finally:
        tracemalloc.stop()


def test_a_recording_that_is_too_long_to_read_at_once_is_refused_and_not_cut(tmp_path):
    data, count = bytearray(write(tmp_path / "a.wav", TONE.tobytes()).read_bytes()), (1 << 24) + 1
    start = data.index(b"data") + 8
    data[start - 4 : start] = (2 * count).to_bytes(4, "little")
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(data[:start])
        file.truncate(start + 2 * count)
    with pytest.raises(InputError, match="longer than 16777216 samples"):
        read_sound(tmp_path / "a.wav", 16000)


def test_a_wav_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_sound(tmp_path / "a.wav", 16000)


def predictor(features, *shape):
    spec = TensorSpec(name="wave", dtype="float32", shape=shape)
    return Predictor(Processing(audio=AUDIO, mel=features), (spec,), (), ())


def test_a_predictor_feeds_the_features_of_a_file(tmp_path):
    path = write(tmp_path / "a.wav", TONE.tobytes())
    features = mel(made.SETTINGS[0])
    fed = predictor(features, 1, 6, 20, 1).feed(path)[0]["wave"]
    assert np.array_equal(fed[0, ..., 0], prepare_sound(TONE, AUDIO, features))


@pytest.mark.parametrize("shape", [(1, 5, 20), (1, 6, 20, 2), (), (-1, 6, 20), (0,)])
def test_features_that_are_no_input_of_the_model_are_refused(shape):
    with pytest.raises(SchemaError, match=r"120 numbers \(6 frames\) are no input"):
        predictor(mel(made.SETTINGS[0]), *shape)


def test_more_work_than_a_device_may_be_asked_for_is_refused():
    features = mel(made.SETTINGS[0], fft=1 << 14, hop=1, bins=1)
    with pytest.raises(SchemaError, match="more than a device may be asked for"):
        predictor(features, 3601)
