"""What is declared before and behind a model in edgepack.toml, and whether it belongs to the model.

The same declaration prepares folders of pictures for calibration and evaluation, and is signed into the bundle, where
a device's runtime applies it with the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgepack.errors import RecipeError
from edgepack_runtime._fields import Fields
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.prediction import Predictor
from edgepack_runtime.processing import MAX_SIDE, Image, Processing, take_processing
from edgepack_runtime.tensors import TensorSpec

__all__ = ["DEFAULTS", "Preparation", "take_preparation"]

DTYPES = ("float32", "uint8", "int8")
# What a file may leave out; a bundle states it.
DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "image": {
        "input": "",
        "layout": "nhwc",
        "colours": "rgb",
        "fit": "stretch",
        "short_side": 0,
        "fill": 0,
        "resize": "bilinear",
        "divisor": 1.0,
        "mean": [0.0],
        "std": [1.0],
    },
    "audio": {"input": "", "mean": 0.0, "std": 1.0},
    "mel": {
        "low": 0.0,
        "filters": "tensorflow",
        "padding": "none",
        "power": 2,
        "log": "natural",
        "guard": "add",
        "epsilon": 1e-6,
        "order": "time",
    },
    "classes": {"output": "", "activation": "none", "top": 5, "threshold": -1e9},
    "boxes": {
        "boxes": "",
        "scores": "",
        "classes": "",
        "count": "",
        "layout": "rows",
        "order": "xyxy",
        "unit": "share",
        "objectness": "none",
        "background": 0,
        "activation": "none",
        "threshold": 0.25,
        "suppress": "class",
        "overlap": 0.5,
        "top": 100,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A declaration, and the `size` (height, width) and `dtype` of the source's input, which data are prepared for.

    `shape` is the input's for sound, without a batch. A bundle carries none of them: they are those of its model. An
    empty name of an input or output is the only one.
    """

    declared: Processing
    size: tuple[int, int] = (0, 0)
    dtype: str = "float32"
    shape: tuple[int, ...] = ()

    def for_model(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], labels: Sequence[str]
    ) -> Processing:
        """Return what is declared, with the names and the layout of this model.

        Raises:
            RecipeError: it does not belong to the model or the labels.
        """
        image, audio, classes = self.declared.image, self.declared.audio, self.declared.classes
        boxes = self.declared.boxes
        if image is not None:
            image = replace(image, input=image.input or _only(inputs, "image.input"))
            image = replace(image, layout=self._layout(image, inputs))
        if audio is not None:
            audio = replace(audio, input=audio.input or _only(inputs, "audio.input"))
        if classes is not None:
            classes = replace(classes, output=classes.output or _only(outputs, "classes.output"))
        if boxes is not None:
            boxes = replace(boxes, boxes=boxes.boxes or _only(outputs, "boxes.boxes"))
            # One output with all of it, where none is named for the scores.
            boxes = replace(boxes, scores=boxes.scores or boxes.boxes)
        fitted = replace(self.declared, image=image, audio=audio, classes=classes, boxes=boxes)
        try:
            Predictor(fitted, inputs, outputs, labels)
        except SchemaError as error:
            raise RecipeError(error.message, hint="what edgepack.toml declares has to be true of the model") from None
        return fitted

    def _layout(self, image: Image, inputs: Sequence[TensorSpec]) -> str:
        """Return the layout in which the model has pictures of this size: a build may have turned it."""
        channels = (1,) if image.colours == "gray" else (3,)
        shapes = {"nhwc": (*self.size, *channels), "nchw": (*channels, *self.size)}
        for spec in inputs:
            if spec.name == image.input:
                if spec.dtype != self.dtype and (spec.dtype.startswith("float") or spec.quantization is None):
                    raise RecipeError(f"processing.image.dtype is {self.dtype}, the model takes {spec}")
                if self.dtype != "float32" and spec.quantization is not None:
                    raise RecipeError(
                        f"processing.image: the model takes {spec}, which was quantized before it came here",
                        hint="build from the float model: pictures cannot be prepared for two quantizations",
                    )
                for layout in (image.layout, *shapes):
                    if spec.shape in (shapes[layout], (1, *shapes[layout])):
                        return layout
                raise RecipeError(
                    f"processing.image declares {image.colours} of {list(self.size)}, the model takes {spec}",
                    hint="size is [height, width]",
                )
        return image.layout


def take_preparation(fields: Fields) -> Preparation | None:
    """Return what the table ``processing`` declares; None without one.

    Raises:
        SchemaError: a field is missing, unknown, wrong, or beyond what a device may be made to do.
    """
    table = fields.take("processing", dict, {})
    if not table:
        return None
    whole, size, dtype = dict(table), (0, 0), "float32"
    path = f"{fields.path}.processing"
    if isinstance(table.get("image"), dict):
        image = dict(table["image"])
        size = _size(image.pop("size", None), path)
        dtype = image.pop("dtype", dtype)
        if dtype not in DTYPES:
            raise SchemaError(f"{path}.image.dtype: {dtype!r} is none of {', '.join(DTYPES)}")
        whole["image"] = image
    sound = dict(table["audio"]) if isinstance(table.get("audio"), dict) else {}
    shape = sound.pop("shape", None)
    for name, defaults in DEFAULTS.items():
        if isinstance(whole.get(name), dict):
            whole[name] = {**defaults, **(sound if name == "audio" else whole[name])}
    declared = take_processing(Fields(whole, path))
    return Preparation(declared=declared, size=size, dtype=str(dtype), shape=_shape(declared, shape, path))


def _shape(declared: Processing, found: object, path: str) -> tuple[int, ...]:
    """Return the shape of what sound becomes: that of its features, unless another one of as many is declared."""
    audio, mel = declared.audio, declared.mel
    if audio is None:
        return ()
    own: tuple[int, ...] = (audio.samples,)
    if mel is not None:
        frames = mel.frames(audio.samples)
        own = (frames, mel.bins) if mel.order == "time" else (mel.bins, frames)
    if found is None:
        return own
    sides = [side for side in found if type(side) is int and side >= 1] if isinstance(found, list) else []
    if not sides or found != sides or math.prod(sides) != math.prod(own):
        raise SchemaError(
            f"{path}.audio.shape: expected {math.prod(own)} numbers like {[*own]} or {[*own, 1]}, got {found!r}",
            hint="it is the shape of the model's input without the batch",
        )
    return tuple(sides)


def _size(found: object, path: str) -> tuple[int, int]:
    sides = [side for side in found if type(side) is int and 1 <= side <= MAX_SIDE] if isinstance(found, list) else []
    if len(sides) != 2 or found != sides:
        raise SchemaError(
            f"{path}.image.size: expected [height, width], each from 1 to {MAX_SIDE}, got {found!r}",
            hint="it is the size of the model's input",
        )
    return sides[0], sides[1]


def _only(specs: Sequence[TensorSpec], where: str) -> str:
    if len(specs) != 1:
        raise RecipeError(
            f"processing.{where} is missing: there are {', '.join(map(str, specs)) or 'none'}",
            hint="name one of them",
        )
    return specs[0].name
