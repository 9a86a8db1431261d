"""Recordings as data: read, cut into windows and prepared by the very code that a device calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack_runtime.decoding import read_sound
from edgepack_runtime.errors import InputError
from edgepack_runtime.processing import Audio, Mel
from edgepack_runtime.sound import prepare_sound
from edgepack_runtime.tensors import Array

__all__ = ["MAX_WINDOWS", "PreparedRecordings", "Recordings", "prepare_waves", "read_recordings", "window_starts"]

MAX_WINDOWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """What the child is asked for: these files, as inputs of `shape`; as for `edgepack.folders.load_folder`."""

    files: tuple[Path, ...]
    audio: Audio
    mel: Mel | None
    shape: tuple[int, ...]
    windows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRecordings:
    """The inputs, and how many of them each file became."""

    samples: Array
    counts: tuple[int, ...]


def read_recordings(asked: Recordings) -> PreparedRecordings:
    """Return the recordings as inputs; runs in the child.

    Raises:
        InputError: a file is no WAV file of the rate, or is too long.
        FileError: a file cannot be read.
    """
    samples: list[Array] = []
    counts: list[int] = []
    for path in asked.files:
        try:
            samples += prepare_waves(_windows(read_sound(path, asked.audio.rate), asked), asked)
        except InputError as error:
            named = error.message if error.message.startswith(str(path)) else f"{path}: {error.message}"
            raise InputError(named, hint=error.hint) from None
        counts.append(len(samples) - sum(counts))
    return PreparedRecordings(samples=np.stack(samples), counts=tuple(counts))


def prepare_waves(waves: Iterator[Array], asked: Recordings) -> Iterator[Array]:
    """Yield the input of each sound.

    Raises:
        InputError: one is no sound, or too long.
    """
    for wave in waves:
        yield prepare_sound(wave, asked.audio, asked.mel).reshape(asked.shape)


def _windows(wave: Array, asked: Recordings) -> Iterator[Array]:
    length, rate = asked.audio.samples, asked.audio.rate
    if len(wave) > length and not asked.windows:
        raise InputError(
            f"sound of {len(wave)} samples ({len(wave) / rate:g} s), the model takes {length} ({length / rate:g} s)",
            hint="cut it, or have windows taken out of each: data.windows = 4 in edgepack.toml, or --windows 4",
        )
    for start in window_starts(len(wave), length, max(asked.windows, 1)):
        yield wave[start : start + length]


def window_starts(count: int, length: int, most: int) -> tuple[int, ...]:
    """Return where windows of `length` begin in `count` samples: all, end to end, or else `most`, spread evenly."""
    end_to_end = max(1, math.ceil(count / length))
    if end_to_end <= most:
        return tuple(range(0, end_to_end * length, length))
    return tuple(round(i * (count - length) / max(most - 1, 1)) for i in range(most))
