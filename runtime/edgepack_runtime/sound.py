"""From samples of sound to a model's input, in numpy alone: filled up, cut into frames, log-mel features.

``docs/processing.md`` says which convention each word means, and whose it is.
"""

from __future__ import annotations

import numpy as np

from edgepack_runtime.errors import InputError
from edgepack_runtime.processing import Audio, Mel
from edgepack_runtime.tensors import Array

__all__ = ["prepare_sound"]


def prepare_sound(wave: Array, audio: Audio, mel: Mel | None) -> Array:
    """Return the numbers the model means, float32: [samples], or [frames, bins] in `mel.order`.

    Args:
        wave: [n] at the declared rate, at most `audio.samples` of them; int16, or float32 from -1 to 1.
        audio: what is declared.
        mel: the features, if they are what the model takes.

    Raises:
        InputError: it is no such array, empty, longer, or holds NaN or infinity.
    """
    if not isinstance(wave, np.ndarray) or wave.dtype not in (np.int16, np.float32) or wave.ndim != 1:
        raise InputError(f"sound is a numpy array [n] of int16 or float32, got {getattr(wave, 'dtype', type(wave))}")
    if not 1 <= len(wave) <= audio.samples:
        raise InputError(
            f"sound of {len(wave)} samples, expected 1 to {audio.samples}",
            hint=f"cut it into windows of {audio.samples} samples ({audio.samples / audio.rate:g} s)",
        )
    x = wave / np.float32(32768) if wave.dtype == np.int16 else wave
    if not np.isfinite(x).all():
        raise InputError("the sound holds NaN or infinity")
    x = np.pad(x, (0, audio.samples - len(x)))
    if mel is not None:
        x = _features(x.astype(np.float64), audio.rate, mel)
    return np.asarray((x - audio.mean) / audio.std, np.float32)


def _features(x: Array, rate: int, mel: Mel) -> Array:
    # A periodic Hann window, but for TensorFlow's of odd length; with padding in the middle of its transform.
    period = mel.frame - (mel.filters == "tensorflow" and mel.frame % 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.frame) / period)
    count = mel.frames(len(x))
    if mel.padding != "none":
        before = (mel.fft - mel.frame) // 2
        window = np.pad(window, (before, mel.fft - mel.frame - before))
        x = np.pad(x, mel.fft // 2, mode="reflect" if mel.padding == "reflect" else "constant")
    filters = _filters(rate, mel)
    found: Array = np.empty((count, mel.bins))
    for row in range(count):
        start = row * mel.hop
        power = abs(np.fft.rfft(x[start : start + len(window)] * window, mel.fft)) ** mel.power
        found[row] = power @ filters
    if mel.log != "none":
        found = found + mel.epsilon if mel.guard == "add" else np.maximum(found, mel.epsilon)
        found = np.log(found) if mel.log == "natural" else np.log10(found) * (10 if mel.log == "decibel" else 1)
    return found.T if mel.order == "mel" else found


def _filters(rate: int, mel: Mel) -> Array:
    """Return [fft // 2 + 1, bins]: triangles over equal steps of mel."""
    slaney = mel.filters == "librosa"
    ends = _mel(np.array([mel.low, mel.high]), slaney)
    edges = np.linspace(ends[0], ends[1], mel.bins + 2)
    lines = np.linspace(0, rate / 2, mel.fft // 2 + 1)
    if mel.filters == "tensorflow":
        # Straight over mel, and nothing of the constant part.
        lines = _mel(lines, slaney)
    else:
        edges = _hertz(edges, slaney)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    at = lines[:, None]
    found: Array = np.maximum(0, np.minimum((at - low) / (middle - low), (high - at) / (high - middle)))
    if mel.filters == "tensorflow":
        found[0] = 0
    return found * (2 / (high - low)) if slaney else found


_STEP = np.log(6.4) / 27


def _mel(hertz: Array, slaney: bool) -> Array:
    if slaney:
        above = 15 + np.log(np.maximum(hertz, 1000) / 1000) / _STEP
        return np.where(hertz < 1000, hertz * 3 / 200, above)
    return np.asarray(1127 * np.log1p(hertz / 700))


def _hertz(mel: Array, slaney: bool) -> Array:
    if slaney:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(_STEP * (np.maximum(mel, 15) - 15)))
    return np.asarray(700 * np.expm1(mel / 1127))
