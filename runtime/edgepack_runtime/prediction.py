"""What a bundle declares before and behind its model, applied: from a picture to numbers, from numbers to labels.

A device and a build run this same code. ``docs/processing.md`` says what each word of a declaration means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgepack_runtime._data import dataclass
from edgepack_runtime.boxes import Box, BoxReader, activated
from edgepack_runtime.decoding import read_picture, read_sound
from edgepack_runtime.errors import InputError, SchemaError
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.pictures import Frame, prepare_picture
from edgepack_runtime.processing import MAX_SIDE, Audio, Classes, Image, Mel, Processing
from edgepack_runtime.sound import prepare_sound
from edgepack_runtime.tensors import Array, TensorSpec, named_spec

__all__ = ["Found", "Prediction", "Predictor", "as_real", "as_stored"]

Given: TypeAlias = "Array | str | Path | Mapping[str, Array]"
Run: TypeAlias = "Callable[[Mapping[str, Array]], Mapping[str, Array]]"
# Samples of all frames together.
_MAX_WORK = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that a model found: the number of its class, what that is called, the score, and where it lies."""

    index: int
    label: str
    score: float
    box: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What `Session.predict` gives: what was `found`, best first, and the `outputs` as the real numbers they mean.

    Of a window of a recording it begins at so many `seconds`.
    """

    found: tuple[Found, ...]
    outputs: Mapping[str, Array]
    seconds: float = 0.0


class Predictor:
    """A declaration, held against the model it belongs to."""

    def __init__(
        self,
        processing: Processing,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        labels: Sequence[str],
    ) -> None:
        """Refuse what does not belong to a model of these inputs and outputs, or to these labels.

        Raises:
            SchemaError: a name, shape or dtype is another one, or the labels are not as many as the scores.
        """
        self._labels = labels
        self._outputs = outputs
        self._image = self._sound = self._classes = self._boxes = None
        if (image := processing.image) is not None:
            spec = named_spec(image.input, inputs, "image.input")
            side = _side(image, spec)
            self._image = image, spec, side
            if processing.boxes is not None:
                self._boxes = BoxReader(processing.boxes, outputs, labels, side)
        if (audio := processing.audio) is not None:
            spec = named_spec(audio.input, inputs, "audio.input")
            _check_sound(audio, processing.mel, spec)
            self._sound = audio, processing.mel, spec
        if (classes := processing.classes) is not None:
            spec = named_spec(classes.output, outputs, "classes.output")
            count = math.prod(spec.shape)
            # One score may be the probability of the second of two classes.
            if count < 1 or min(spec.shape) < 0 or (labels and len(labels) not in {count, max(count, 2)}):
                raise SchemaError(f"processing.classes: there are {len(labels)} labels, the model gives {spec}")
            self._classes = classes

    @classmethod
    def of(cls, manifest: Manifest) -> Predictor:
        """Return what a bundle declares.

        Raises:
            InputError: it declares nothing.
            SchemaError: as for a new one.
        """
        if manifest.processing is None:
            raise InputError(f"{manifest.name} declares nothing before or behind its model", hint="use run")
        return cls(manifest.processing, manifest.model.inputs, manifest.model.outputs, manifest.labels)

    def predict(self, given: Given, run: Run) -> Prediction:
        """Return what `run` finds in a picture or a sound, in the file of one, or in inputs by name.

        Raises:
            InputError: as `feed`, or `run` refused the inputs.
            FileError: the file cannot be read.
            EngineError: `run` failed.
        """
        feeds, frame = (given, None) if isinstance(given, Mapping) else self.feed(given)
        return self.found(run(feeds), frame)

    def windows(self, given: Array | str | Path, hop: float | None, run: Run) -> Iterator[Prediction]:
        """Yield what `run` finds in each window of a recording, one every `hop` seconds; None: one behind the other.

        The last one that is needed to reach the end is filled up with silence.

        Raises:
            InputError: no sound is declared, `hop` is nothing or longer than a window, or as `predict`.
            FileError: the file cannot be read.
            EngineError: `run` failed.
        """
        if self._sound is None:
            raise InputError("the model takes no sound that could have windows", hint="use predict")
        audio = self._sound[0]
        length = audio.samples / audio.rate
        hop = length if hop is None else hop
        step = round(hop * audio.rate) if 0 < hop <= length else 0
        if not step:
            raise InputError(f"a window every {hop} s, expected at least a sample and at most {length:g} s")
        wave = given if isinstance(given, np.ndarray) else read_sound(Path(given), audio.rate)
        count = len(wave) if wave.ndim == 1 else 0
        for start in range(0, max(count - audio.samples + step, 1), step):
            part = wave[start : start + audio.samples] if count else wave
            yield replace(self.predict(part, run), seconds=start / audio.rate)

    def feed(self, given: Array | str | Path) -> tuple[dict[str, Array], Frame | None]:
        """Return the input for a picture or a sound, or for the file of one, and what part of a picture it shows.

        Raises:
            InputError: nothing is declared for it, it is neither, or Pillow is missing to decode a picture.
            FileError: the file cannot be read.
        """
        if self._sound is not None:
            audio, mel, spec = self._sound
            wave = given if isinstance(given, np.ndarray) else read_sound(Path(given), audio.rate)
            return {spec.name: as_stored(prepare_sound(wave, audio, mel).reshape(spec.shape), spec)}, None
        if self._image is None:
            raise InputError(
                "nothing is declared before the model", hint="give the inputs by name, as run takes them"
            )
        image, spec, side = self._image
        pixels = given if isinstance(given, np.ndarray) else read_picture(Path(given))
        values, frame = prepare_picture(pixels, image, side)
        return {spec.name: as_stored(values.reshape(spec.shape), spec)}, frame

    def found(self, outputs: Mapping[str, Array], frame: Frame | None = None) -> Prediction:
        """Return what the model's outputs mean; without the `frame` of a picture boxes are in the model's own."""
        real = {spec.name: as_real(outputs[spec.name], spec) for spec in self._outputs}
        best: list[tuple[int, float, Box | None]] = []
        if self._classes is not None:
            best = [(i, score, None) for i, score in _best(real[self._classes.output], self._classes, self._labels)]
        elif self._boxes is not None and self._image is not None:
            height, width = side = self._image[2]
            whole = Frame(top=0, left=0, height=height, width=width, picture=side)
            best = [*self._boxes.find(real, frame or whole)]
        labels = dict(enumerate(self._labels))
        found = tuple(Found(index=i, label=labels.get(i, str(i)), score=score, box=box) for i, score, box in best)
        return Prediction(found=found, outputs=real)


def _side(image: Image, spec: TensorSpec) -> tuple[int, int]:
    shape = spec.shape[-3:] if spec.shape[:-3] in ((), (1,)) else ()
    channels = shape[:1] if image.layout == "nchw" else shape[2:]
    side = shape[1:] if image.layout == "nchw" else shape[:2]
    if channels != (1 if image.colours == "gray" else 3,) or not all(1 <= length <= MAX_SIDE for length in side):
        raise SchemaError(f"processing.image: {image.colours} in {image.layout} is no input {spec}")
    if 0 < image.short_side < max(side):
        raise SchemaError(f"processing.image.short_side: {image.short_side} is less than the model's {list(side)}")
    _check_store(spec)
    return side[0], side[1]


def _check_sound(audio: Audio, mel: Mel | None, spec: TensorSpec) -> None:
    frames = 0 if mel is None else mel.frames(audio.samples)
    numbers = audio.samples if mel is None else frames * mel.bins
    if min(spec.shape, default=0) < 1 or math.prod(spec.shape) != numbers:
        raise SchemaError(f"processing.audio: {numbers} numbers ({frames} frames) are no input {spec}")
    if mel is not None and frames * mel.fft > _MAX_WORK:
        raise SchemaError(f"processing.mel: {frames} frames of {mel.fft} are more than a device may be asked for")
    _check_store(spec)


def _check_store(spec: TensorSpec) -> None:
    if spec.dtype == "bool" or (spec.quantization is not None and len(spec.quantization.scale) != 1):
        raise SchemaError(f"processing: no numbers can be stored in {spec}")


def as_stored(values: Array, spec: TensorSpec) -> Array:
    """Return real numbers as a tensor stores them: quantized where it is, rounded to integers, cut at the ends."""
    dtype, quantization = np.dtype(spec.dtype), spec.quantization
    if dtype.kind == "f":
        return values.astype(dtype)
    if quantization is not None:
        values = values / np.float32(quantization.scale[0]) + quantization.zero_point[0]
    limits = np.iinfo(dtype)
    return np.rint(values).clip(limits.min, limits.max).astype(dtype)


def as_real(values: Array, spec: TensorSpec) -> Array:
    """Return what a tensor's numbers mean; those that are not quantized are what they are."""
    quantization = spec.quantization
    if quantization is None or values.dtype.kind == "f":
        return values
    across = [1] * values.ndim
    if len(quantization.scale) > 1:
        across[quantization.quantized_dimension] = -1
    zero = np.array(quantization.zero_point, np.float32).reshape(across)
    return (values.astype(np.float32) - zero) * np.array(quantization.scale, np.float32).reshape(across)


def _best(scores: Array, classes: Classes, labels: Sequence[str]) -> list[tuple[int, float]]:
    scores = activated(scores.astype(np.float64).ravel(), classes.activation)
    if len(scores) < len(labels):
        scores = np.array([1 - scores[0], scores[0]])
    order = np.argsort(-scores, kind="stable")[: classes.top]
    return [(int(i), float(scores[i])) for i in order if scores[i] >= classes.threshold]
