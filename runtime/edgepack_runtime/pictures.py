"""From pixels to a model's input, in numpy alone: cut, resized, its colours in order, normalised.

``docs/processing.md`` says which convention each word means, and whose it is.
"""

from __future__ import annotations

import math

import numpy as np

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import InputError
from edgepack_runtime.processing import Image
from edgepack_runtime.tensors import Array

__all__ = ["Frame", "prepare_picture"]

# Pillow's weights are whole multiples of 2^-22 for pictures of 8 bits.
_PILLOW = float(1 << 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Where the model's picture lies in the one that was given, in pixels of the latter; it may reach beyond it.

    `picture` is the height and width of the one that was given.
    """

    top: float
    left: float
    height: float
    width: float
    picture: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """One direction: `cut` from `start` on is resized to `scaled`; `count` of that from `first` on are wanted.

    They come to lie at `place` in the model's picture.
    """

    start: int
    cut: int
    scaled: int
    first: int
    count: int
    place: int

    def reach(self, side: int) -> tuple[float, float]:
        """Return where the model's `side` begins in the given picture, and how much of it it covers."""
        step = self.cut / self.scaled
        return self.start + (self.first - self.place) * step, side * step


def prepare_picture(pixels: Array, image: Image, side: tuple[int, int]) -> tuple[Array, Frame]:
    """Return the numbers the model means, float32 in `image.layout`, and what part of the picture they show.

    Args:
        pixels: [height, width], or [height, width, 1 or 3] as red, green, blue; uint8.
        image: what is declared.
        side: the model's height and width.

    Raises:
        InputError: it is no such array, or without a pixel.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise InputError(
            f"a picture is a numpy array of uint8, got {getattr(pixels, 'dtype', type(pixels).__name__)}"
        )
    shape = pixels.shape
    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)) or not pixels.size:
        raise InputError(f"a picture is [height, width] or [height, width, 1 or 3], got {list(shape)}")
    x = _coloured(pixels.reshape(*shape[:2], -1), image.colours)
    rows, columns = _fitted(image, (shape[0], shape[1]), side)
    for axis, part in ((1, columns), (0, rows)):
        x = x[(slice(None),) * axis + (slice(part.start, part.start + part.cut),)]
        x = _resized(x, axis, part, image.resize)
    whole = np.full((*side, x.shape[2]), image.fill, np.float32)
    whole[rows.place : rows.place + rows.count, columns.place : columns.place + columns.count] = x
    mean, std = (np.array(numbers, np.float32) for numbers in (image.mean, image.std))
    whole = (whole / np.float32(image.divisor) - mean) / std
    (top, height), (left, width) = rows.reach(side[0]), columns.reach(side[1])
    frame = Frame(top=top, left=left, height=height, width=width, picture=shape[:2])
    return whole.transpose(2, 0, 1) if image.layout == "nchw" else whole, frame


def _coloured(x: Array, colours: str) -> Array:
    if colours == "gray":
        # As Pillow does it: ITU-R 601-2 in 16 bits.
        return x if x.shape[2] == 1 else ((x @ np.array([[19595], [38470], [7471]]) + 0x8000) >> 16).astype(np.uint8)
    x = np.broadcast_to(x, (*x.shape[:2], 3))
    return x[..., ::-1] if colours == "bgr" else x


def _fitted(image: Image, given: tuple[int, int], side: tuple[int, int]) -> tuple[_Axis, _Axis]:
    axes = []
    for mine, other, wanted, wanted_other in ((*given, *side), (*given[::-1], *side[::-1])):
        start, cut, scaled, first, count, place = 0, mine, wanted, 0, wanted, 0
        if image.fit == "crop":
            # Keras' smart_resize.
            cut = max(1, min(mine, int(float(other * wanted) / wanted_other)))
            start = (mine - cut) // 2
        elif image.fit == "short_side":
            # torchvision's Resize and CenterCrop.
            short = min(given)
            scaled = image.short_side if mine == short else int(image.short_side * mine / short)
            first = round((scaled - wanted) / 2)
        elif image.fit == "pad":
            ratio = min(wanted / mine, wanted_other / other)
            scaled = count = max(1, min(wanted, round(mine * ratio)))
            place = (wanted - count) // 2
        axes.append(_Axis(start=start, cut=cut, scaled=scaled, first=first, count=count, place=place))
    return axes[0], axes[1]


def _resized(x: Array, axis: int, part: _Axis, how: str) -> Array:
    size, step = part.cut, part.cut / part.scaled
    middles = (np.arange(part.first, part.first + part.count) + 0.5) * step
    if how == "nearest":
        # On the border between two pixels the precision decides: it is TensorFlow's.
        middles = np.arange(part.first + 0.5, part.first + part.count, dtype=np.float32) * np.float32(step)
        picked: Array = x.take(np.minimum(middles.astype(int), size - 1), axis)
        return picked
    # A triangle around each middle; half as wide as the pixels that become one, where it is to smooth.
    support = 1.0 if how == "bilinear" else max(step, 1.0)
    taps = np.floor(middles - support + 0.5).astype(int)[:, None] + np.arange(math.ceil(support * 2) + 1)
    weights = np.maximum(0, 1 - abs(taps + 0.5 - middles[:, None]) / support)
    weights[(taps < 0) | (taps >= size)] = 0
    weights /= weights.sum(1, keepdims=True)
    if how == "pillow":
        weights = np.floor(weights * _PILLOW + 0.5)
    taps = taps.clip(0, size - 1)
    kind = np.float64 if how == "pillow" else np.float32
    out: Array = np.zeros([part.count if a == axis else n for a, n in enumerate(x.shape)], kind)
    for tap, weight in zip(taps.T, weights.T.astype(kind), strict=True):
        out += x.take(tap, axis) * weight.reshape(-1, *(1,) * (2 - axis))
    # Pillow has whole numbers after each direction.
    return np.floor(out / _PILLOW + 0.5).astype(np.uint8) if how == "pillow" else out
