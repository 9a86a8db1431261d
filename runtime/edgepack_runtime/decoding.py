"""Files of pictures, decoded by Pillow where that is installed; nothing else on a device needs it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from edgepack_runtime.errors import FileError, InputError
from edgepack_runtime.tensors import Array

__all__ = ["read_picture"]


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
