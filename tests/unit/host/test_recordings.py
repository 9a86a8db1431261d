"""Folders of recordings as data: what is in them, their windows, and that a device prepares them alike."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import pytest

from edgepack.dataset import Dataset, bind_feeds
from edgepack.errors import DatasetError, RecipeError
from edgepack.folders import load_folder, prepare_arrays
from edgepack.preparation import take_preparation
from edgepack.reading import Reading
from edgepack.recordings import MAX_WINDOWS, window_starts
from edgepack_runtime._fields import Fields
from edgepack_runtime.prediction import Predictor
from edgepack_runtime.sound import prepare_sound
from edgepack_runtime.tensors import TensorSpec

RATE, LENGTH = 8000, 800
MEL = {"frame": 200, "hop": 100, "fft": 256, "bins": 8, "high": 4000}
# Two seconds of a tone that rises: every window of it is another one.
TONE = (9000 * np.sin(np.arange(2 * RATE) ** 1.7 / 900)).astype(np.int16)


def declared(mel: dict | None = None, **audio: object):
    table: dict = {"audio": {"rate": RATE, "samples": LENGTH} | audio}
    return take_preparation(Fields({"processing": table | ({"mel": mel} if mel else {})}, "edgepack.toml"))


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path):
    """Return a folder of two classes; the only recording of ``yes`` is shorter than a window."""
    write(tmp_path / "data" / "no" / "a.wav", TONE[:LENGTH])
    write(tmp_path / "data" / "no" / "b.wav", TONE[LENGTH : 2 * LENGTH])
    write(tmp_path / "data" / "yes" / "a.WAV", TONE[:300])
    return tmp_path / "data"


@pytest.mark.parametrize("shape", [(7, 8), (7, 8, 1)])
def test_recordings_are_prepared_as_a_device_prepares_them(folder, shape):
    preparation = declared(MEL, shape=list(shape))
    spec = TensorSpec(name="sound", dtype="float32", shape=(1, *shape))
    found = bind_feeds(load_folder(folder, "calibration", preparation, ()).feeds, (spec,), "calibration data")
    device = Predictor(preparation.for_model((spec,), (), ()), (spec,), (), ())
    wanted = [device.feed(folder / name)[0]["sound"] for name in ("no/a.wav", "no/b.wav", "yes/a.WAV")]
    assert np.array_equal(found["sound"], np.stack(wanted))


def test_a_folder_may_be_named_from_where_one_is(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    data = load_folder(Path("data"), "calibration", declared(), ())
    assert (data.count, data.digest) == (3, load_folder(folder, "calibration", declared(), ()).digest)


def test_sub_folders_are_the_classes_that_the_labels_say(folder):
    assert load_folder(folder, "evaluation", declared(), ("yes", "maybe", "no")).labels.tolist() == [2, 2, 0]


def test_a_recording_that_is_too_long_is_refused_with_the_way_out(folder):
    write(folder / "no" / "b.wav", TONE)
    with pytest.raises(
        DatasetError, match=r"no/b\.wav: sound of 16000 samples \(2 s\), the model takes 800"
    ) as caught:
        load_folder(folder, "evaluation", declared(), ())
    assert "--windows 4" in caught.value.hint


def test_a_longer_recording_becomes_windows_of_its_class(folder):
    write(folder / "no" / "b.wav", TONE)
    data = load_folder(folder, "evaluation", declared(), (), 3)
    assert data.labels.tolist() == [0, 0, 0, 0, 1]
    starts = (0, (2 * RATE - LENGTH) // 2, 2 * RATE - LENGTH)
    wanted = [prepare_sound(TONE[at : at + LENGTH], declared().declared.audio, None) for at in starts]
    assert np.array_equal(data.feeds["x"][1:4], wanted)


def test_that_windows_are_alike_is_said(folder):
    assert load_folder(folder, "evaluation", declared(), (), 3).notes == ()
    write(folder / "no" / "b.wav", TONE)
    (note,) = load_folder(folder, "evaluation", declared(), (), 3).notes
    assert "5 windows of 3 recordings" in note


@pytest.mark.parametrize(
    ("count", "most", "starts"),
    [(1, 5, (0,)), (10, 5, (0,)), (11, 5, (0, 10)), (30, 3, (0, 10, 20)), (30, 2, (0, 20)), (35, 1, (0,))],
)
def test_windows_lie_end_to_end_or_spread_evenly(count, most, starts):
    assert window_starts(count, 10, most) == starts


def test_other_windows_are_another_digest(folder):
    assert len({load_folder(folder, "evaluation", declared(), (), windows).digest for windows in (0, 1, 2)}) == 3


def test_a_recording_of_another_rate_says_how_to_resample(folder):
    write(folder / "no" / "b.wav", TONE[:100], rate=44100)
    with pytest.raises(DatasetError, match=r"no/b\.wav: 16 bits at 44100 Hz, expected 16 bits at 8000") as caught:
        load_folder(folder, "evaluation", declared(), ())
    assert "ffmpeg" in caught.value.hint


def test_an_empty_recording_is_named(folder):
    write(folder / "no" / "b.wav", TONE[:0])
    with pytest.raises(DatasetError, match=r"no/b\.wav: sound of 0 samples"):
        load_folder(folder, "evaluation", declared(), ())


def test_of_a_recording_longer_than_is_read_nothing_is_taken(folder):
    write(folder / "no" / "b.wav", TONE[:1])
    with (folder / "no" / "b.wav").open("r+b") as file:
        # A header that says so, and a hole in the file where the sound would be.
        for place, size in ((4, (1 << 26) + 36), (40, 1 << 26)):
            file.seek(place)
            file.write(size.to_bytes(4, "little"))
        os.truncate(file.fileno(), (1 << 26) + 44)
    with pytest.raises(DatasetError, match=r"no/b\.wav: longer than 16777216 samples"):
        load_folder(folder, "evaluation", declared(), (), 2)


@pytest.mark.parametrize(("windows", "count"), [(0, 33), (2, 66)])
def test_more_than_fits_into_memory_is_refused(tmp_path, windows, count):
    large = declared({"frame": 2, "hop": 1, "fft": 2, "bins": 512, "high": 4000}, samples=1 << 16)
    for i in range(33):
        with (tmp_path / f"{i}.wav").open("wb") as file:
            file.truncate(1 << 18)
    with pytest.raises(DatasetError, match=rf"{count} windows of sound are \d+ MiB as inputs, at most 4096"):
        load_folder(tmp_path, "calibration", large, (), windows)


@pytest.mark.parametrize(("name", "complaint"), [("a.png", "a.png is no recording"), ("b.wav", "no WAV file")])
def test_a_file_that_is_no_recording_is_named(tmp_path, name, complaint):
    (tmp_path / name).write_bytes(b"no sound")
    with pytest.raises(DatasetError, match=f"calibration data .*{complaint}"):
        load_folder(tmp_path, "calibration", declared(), ())


def test_sound_in_an_array_of_int16_is_prepared_too():
    data = Dataset(path=Path("d.npz"), feeds={"x": TONE[:1600].reshape(2, 800)}, labels=None, digest="")
    found = prepare_arrays(data, declared(MEL, shape=[7, 8, 1]), "calibration").feeds["x"]
    audio, mel = (getattr(declared(MEL).declared, name) for name in ("audio", "mel"))
    wanted = [prepare_sound(TONE[at : at + 800], audio, mel).reshape(7, 8, 1) for at in (0, 800)]
    assert np.array_equal(found, wanted)


def test_sound_in_an_array_of_floats_is_an_input_already():
    data = Dataset(path=Path("d.npz"), feeds={"x": np.zeros((2, 800), np.float32)}, labels=None, digest="")
    assert prepare_arrays(data, declared(MEL), "calibration") is data


def test_too_long_sound_in_an_array_is_refused():
    data = Dataset(path=Path("d.npz"), feeds={"x": TONE[None]}, labels=None, digest="")
    with pytest.raises(DatasetError, match=r"d\.npz, array 'x': sound of 16000 samples"):
        prepare_arrays(data, declared(), "calibration")


def test_features_of_another_shape_name_the_field_that_says_it(folder):
    spec = TensorSpec(name="sound", dtype="float32", shape=(1, 7, 8, 1))
    with pytest.raises(DatasetError, match=r"shape \[7, 8\], expected \[7, 8, 1\]") as caught:
        bind_feeds(load_folder(folder, "calibration", declared(MEL), ()).feeds, (spec,), "calibration data")
    assert "processing.audio.shape" in caught.value.hint


@pytest.mark.parametrize("windows", [-1, MAX_WINDOWS + 1])
def test_a_number_of_windows_that_is_none_is_refused(windows):
    with pytest.raises(RecipeError, match=r"data\.windows"):
        Reading(windows=windows)
