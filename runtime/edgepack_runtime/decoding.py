"""Files of pictures, decoded by Pillow where that is installed, and of sound, by the standard library."""

from __future__ import annotations

import os
import warnings
import wave
from pathlib import Path

import numpy as np

from edgepack_runtime.errors import FileError, InputError
from edgepack_runtime.tensors import Array

__all__ = ["read_picture", "read_sound"]

_MAX_SAMPLES = 1 << 24


def read_picture(path: Path) -> Array:
    """Return the pixels of a file, [height, width, 3], as they lie in it: no turn of a camera is undone.

    Raises:
        InputError: Pillow is missing, or cannot read it as a picture of 8 bits a colour.
        FileError: the file cannot be read.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InputError(
            "decoding a picture needs Pillow, which is not installed",
            hint="pip install pillow, or decode it yourself and give the array",
        ) from None
    foreign = (
        SyntaxError,
        ValueError,
        ArithmeticError,
        EOFError,
        Image.DecompressionBombError,
        UnidentifiedImageError,
    )
    try:
        with warnings.catch_warnings():
            # Too large a picture is a warning up to twice the limit, and an error from there on.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file, Image.open(file) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise InputError(
                        f"{path}: {picture.mode} is not 8 bits a colour", hint="convert it to RGB yourself"
                    )
                return np.array(picture.convert("RGB"))
    except (*foreign, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: no picture that Pillow can decode ({error})") from None
    except OSError as error:
        if error.errno is None:
            raise InputError(f"{path}: a damaged picture ({error})") from None
        raise FileError(f"{path}: {error.strerror or error}") from None


def read_sound(path: Path, rate: int) -> Array:
    """Return the samples of a WAV file, [n]: int16, or float32 where several channels became one.

    Raises:
        InputError: it is no WAV file of 16 bits and this rate; nothing is resampled.
        FileError: the file cannot be read.
    """
    try:
        with path.open("rb") as file, wave.open(file) as sound:
            channels, width, found, count, *_ = sound.getparams()
            # What a header claims is allocated before it is read: it may claim gigabytes that are not there.
            there = os.fstat(file.fileno()).st_size // (channels * width)
            if min(count, there) > _MAX_SAMPLES:
                raise InputError(f"{path}: longer than {_MAX_SAMPLES} samples", hint="cut it up first")
            data = sound.readframes(min(count, there))
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: no WAV file ({error})") from None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    if width != 2 or found != rate or len(data) % (2 * channels):
        raise InputError(
            f"{path}: {8 * width} bits at {found} Hz, expected 16 bits at {rate} Hz",
            hint=f"ffmpeg -i FILE -ar {rate} -ac 1 -sample_fmt s16 OUT.wav",
        )
    samples = np.frombuffer(data, "<i2").astype(np.int16)
    if channels == 1:
        return samples
    return np.asarray(samples.reshape(-1, channels).mean(1) / 32768, np.float32)
