"""What happens before a model and behind it, as a bundle declares it: data alone, bounded whatever it says.

See ``docs/processing.md``, and ``docs/bundle-format.md``, "What happens before and behind a model".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgepack_runtime._fields import Fields

__all__ = ["MAX_SIDE", "Classes", "Image", "Processing", "take_processing"]

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
    "classes": {
        "output": str,
        "activation": ("none", "softmax", "sigmoid"),
        "top": (1, 1000),
        "threshold": _OFFSET,
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
class Classes:
    """How scores become labels: the `top` best after `activation`, those from `threshold` on."""

    output: str
    activation: str
    top: int
    threshold: float


_PARTS: dict[str, Any] = {"image": Image, "classes": Classes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """What is declared, at least one part of it."""

    image: Image | None = None
    classes: Classes | None = None

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
    return Processing(**parts)


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
