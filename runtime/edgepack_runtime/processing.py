"""What happens before a model and behind it, as a bundle declares it: data alone, bounded whatever it says.

See ``docs/processing.md``, and ``docs/bundle-format.md``, "What happens before and behind a model".
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields

__all__ = ["MAX_SIDE", "Audio", "Boxes", "Classes", "Image", "Mel", "Processing", "take_processing"]

MAX_SIDE = 4096
_LARGE = 1e9
_DIVISOR = (1e-9, _LARGE)
_OFFSET = (-_LARGE, _LARGE)
# A type; the choices; the least and the most, of the type they have; in a list: the bounds of each of its numbers.
_RULES: dict[str, dict[str, Any]] = {
    "image": {
        "input": str,
        "layout": ("nhwc", "nchw"),
        "colours": ("rgb", "bgr", "gray"),
        "fit": ("stretch", "crop", "short_side", "pad"),
        "short_side": (0, MAX_SIDE),
        "fill": (0, 255),
        "resize": ("bilinear", "antialias", "pillow", "nearest"),
        "divisor": _DIVISOR,
        "mean": [_OFFSET],
        "std": [_DIVISOR],
    },
    "audio": {
        "input": str,
        "rate": (1000, 192_000),
        "samples": (1, 1 << 22),
        "mean": _OFFSET,
        "std": _DIVISOR,
    },
    "mel": {
        "frame": (2, 1 << 14),
        "hop": (1, 1 << 14),
        "fft": (2, 1 << 14),
        "bins": (1, 512),
        "low": (0.0, 1e5),
        "high": (1.0, 1e5),
        "filters": ("tensorflow", "librosa", "torchaudio"),
        "padding": ("none", "zeros", "reflect"),
        "power": (1, 2),
        "log": ("none", "natural", "log10", "decibel"),
        "guard": ("add", "max"),
        "epsilon": (1e-30, 1.0),
        "order": ("time", "mel"),
    },
    "classes": {
        "output": str,
        "activation": ("none", "softmax", "sigmoid"),
        "top": (1, 1000),
        "threshold": _OFFSET,
    },
    "boxes": {
        "boxes": str,
        "scores": str,
        "classes": str,
        "count": str,
        "layout": ("rows", "columns"),
        "order": ("xyxy", "yxyx", "xywh", "cxcywh"),
        "unit": ("share", "pixels"),
        "objectness": ("none", "column"),
        "background": (0, 1),
        "activation": ("none", "softmax", "sigmoid"),
        "threshold": _OFFSET,
        "suppress": ("none", "class", "all"),
        "overlap": (0.0, 1.0),
        "top": (1, 1000),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """How a picture becomes the input: fitted, its colours in order, and (value / divisor - mean) / std."""

    input: str
    layout: str
    colours: str
    fit: str
    short_side: int
    fill: int
    resize: str
    divisor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """How sound becomes the input: `samples` of it at `rate`, or their `Mel` features, as (value - mean) / std."""

    input: str
    rate: int
    samples: int
    mean: float
    std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mel:
    """Frames of `frame` samples, one every `hop`, as `bins` bands from `low` to `high` of a Fourier transform."""

    frame: int
    hop: int
    fft: int
    bins: int
    low: float
    high: float
    filters: str
    padding: str
    power: int
    log: str
    guard: str
    epsilon: float
    order: str

    def frames(self, samples: int) -> int:
        """Return how many frames so many samples have."""
        # A padded frame is as long as its transform, and half of it lies before the first sample.
        reach = samples - self.frame if self.padding == "none" else samples + self.fft // 2 * 2 - self.fft
        return max(0, 1 + reach // self.hop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """How scores become labels: the `top` best after `activation`, those from `threshold` on."""

    output: str
    activation: str
    top: int
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """How outputs become boxes with labels: the `top` best from `threshold` on that overlap no better one."""

    boxes: str
    scores: str
    classes: str
    count: str
    layout: str
    order: str
    unit: str
    objectness: str
    background: int
    activation: str
    threshold: float
    suppress: str
    overlap: float
    top: int


_PARTS: dict[str, Any] = {"image": Image, "audio": Audio, "mel": Mel, "classes": Classes, "boxes": Boxes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """What is declared, at least one part of it."""

    image: Image | None = None
    audio: Audio | None = None
    mel: Mel | None = None
    classes: Classes | None = None
    boxes: Boxes | None = None

    def to_json(self) -> dict[str, object]:
        """Return the table `take_processing` reads."""
        return {name: part for name, part in asdict(self).items() if part is not None}


def take_processing(fields: Fields) -> Processing:
    """Return what a table declares; every member of a part has to be there.

    Raises:
        SchemaError: a field is missing, unknown, wrong, or beyond what a device may be made to do.
    """
    said = fields.names()
    parts = {name: _part(fields.take_table(name), name) for name in _PARTS if name in said}
    if not parts:
        fields.refuse("image", f"expected at least one of {', '.join(_PARTS)}")
    fields.finish()
    found = Processing(**parts)
    if found.audio is not None and found.image is not None:
        fields.refuse("audio", "there is an image too")
    if found.boxes is not None and (found.image is None or found.classes is not None):
        fields.refuse("boxes", "belong to an image, and are no classes")
    if found.mel is not None and (found.audio is None or found.mel.high * 2 > found.audio.rate):
        fields.refuse("mel", "belongs to audio of at least twice the rate of its high")
    return found


def _part(fields: Fields, name: str) -> Any:
    found = {member: _value(fields, member, rule) for member, rule in _RULES[name].items()}
    part = _PARTS[name](**found)
    if isinstance(part, Image):
        for member in ("mean", "std"):
            if len(found[member]) not in ((1,) if part.colours == "gray" else (1, 3)):
                fields.refuse(member, "expected one number, or one for each colour")
        if (part.fit == "short_side") != (part.short_side > 0):
            fields.refuse("short_side", 'above 0 with fit "short_side", and 0 with every other')
        if part.fill and part.fit != "pad":
            fields.refuse("fill", 'above 0 with fit "pad" only')
    elif isinstance(part, Mel) and (part.frame > part.fft or part.low + 1 > part.high):
        fields.refuse("frame", "above fft, or high is not at least 1 above low")
    elif isinstance(part, Boxes) and part.classes and (part.background or part.objectness != "none"):
        fields.refuse("classes", "an output with the classes leaves no background and no objectness among the scores")
    fields.finish()
    return part


def _value(fields: Fields, name: str, rule: Any) -> Any:
    if isinstance(rule, type):
        return fields.take(name, rule)
    if isinstance(rule, list):
        numbers = fields.take(name, list)
        if not all(isinstance(x, int | float) and not isinstance(x, bool) and _within(x, *rule) for x in numbers):
            fields.refuse(name, f"expected numbers from {rule[0][0]:g} to {rule[0][1]:g}")
        return tuple(map(float, numbers))
    if isinstance(rule[0], str):
        return fields.take_choice(name, rule)
    found = fields.take(name, type(rule[0]))
    if not _within(found, rule):
        fields.refuse(name, f"{found} is not from {rule[0]:g} to {rule[1]:g}")
    return found


def _within(value: float, bounds: tuple[float, float]) -> bool:
    # NaN, which TOML can spell, is within nothing.
    return bounds[0] <= value <= bounds[1]
