"""Vectors of what happens before and behind a model, as a manifest declares it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tools.vectors.layout import parts
from tools.vectors.manifest import TABLE, spec_of
from tools.vectors.vector import Vector, good, refused

__all__ = ["processing"]

_IMAGE: dict[str, Any] = {
    "input": "image",
    "layout": "nhwc",
    "colours": "rgb",
    "fit": "stretch",
    "short_side": 0,
    "fill": 0,
    "resize": "bilinear",
    "divisor": 255.0,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
_CLASSES: dict[str, Any] = {"output": "scores", "activation": "softmax", "top": 5, "threshold": 0.0}
_WHOLE = {"image": _IMAGE, "classes": _CLASSES}
# Lists of changes to the part, each of which is right.
_RIGHT: Mapping[str, tuple[dict[str, Any], ...]] = {
    "image": (
        *({"layout": "nchw"}, {"colours": "bgr"}, {"resize": "antialias"}, {"resize": "pillow"}),
        *({"resize": "nearest"}, {"mean": [0]}, {"mean": [-1e9, 1e9, 0], "std": [1e-9]}, {"divisor": 1e9}),
        {"colours": "gray", "mean": [127.5], "std": [1]},
        {"fit": "crop"},
        {"fit": "short_side", "short_side": 1},
        {"fit": "short_side", "short_side": 4096},
        *({"fit": "pad"}, {"fit": "pad", "fill": 255}, {"input": ""}),
    ),
    "classes": (
        *({"activation": "none"}, {"activation": "sigmoid"}, {"top": 1}, {"top": 1000}),
        *({"threshold": -1e9}, {"threshold": 1e9}, {"threshold": 1}, {"output": "\0"}),
    ),
}
_WRONG: Mapping[str, tuple[dict[str, Any], ...]] = {
    "image": (
        *({"layout": "hwc"}, {"layout": "NHWC"}, {"colours": "grey"}, {"fit": "contain"}, {"fit": "crop\0"}),
        *({"fit": "short_side"}, {"short_side": 256}, {"fit": "pad", "short_side": 256}),
        *({"fit": "short_side", "short_side": side} for side in (-1, 4097, 256.0, True, 2**53 - 1)),
        *({"fit": "pad", "fill": fill} for fill in (-1, 256, 0.0, True, [0])),
        *({"fill": 1}, {"fit": "crop", "fill": 114}, {"resize": "bicubic"}, {"resize": ""}),
        *({"divisor": divisor} for divisor in (0, 0.0, -1, 9e-10, 1.1e9, 1e308, True, "255", [255])),
        *({"mean": mean} for mean in ([], [0, 0], [0] * 4, [1.1e9], [-1.1e9], ["0"], [True], [[0]], 0.5)),
        *({"std": std} for std in ([], [1, 1], [1] * 4, [0], [1, 1, 0], [-1], [9e-10], [1.1e9], [True], 1.0)),
        *({"colours": "gray"}, {"colours": "gray", "mean": [0]}, {"colours": "gray", "std": [1]}),
    ),
    "classes": (
        *({"activation": "relu"}, {"top": 0}, {"top": -1}, {"top": 1001}, {"top": 1.0}, {"top": True}),
        *({"threshold": 1.1e9}, {"threshold": -1.1e9}, {"threshold": "0"}, {"threshold": True}),
    ),
}


def processing() -> Iterator[Vector]:
    """What a reader of manifests must take, and what it must not. One to which they are opaque skips the group."""
    yield _good("all parts", _WHOLE)
    for name, part in _WHOLE.items():
        yield _good(f"{name} alone", {name: part})
        for change in _RIGHT[name]:
            yield _good(f"{name} with {_shown(change)}", {name: part | change})
        for change in _WRONG[name]:
            yield _refused(f"{name} with {_shown(change)}, which is wrong", {name: part | change})
        for member, found in part.items():
            yield _refused(
                f"{name} without {member}", {name: {key: item for key, item in part.items() if key != member}}
            )
            yield _refused(f"{name}/{member} is null", {name: part | {member: None}})
            wrong: object = 1 if isinstance(found, str) else "1"
            yield _refused(f"{name}/{member} is {type(wrong).__name__}", {name: part | {member: wrong}})
        yield _refused(f"an unknown member in {name}", {name: part | {"nobody knows": 1}})
        yield _refused(f"{name} is null", _WHOLE | {name: None})
        yield _refused(f"{name} is a list", _WHOLE | {name: [part]})
    for told, wrong in {"no part": {}, "null": None, "a list": [_IMAGE], "a text": "image"}.items():
        yield _refused(told, wrong)
    yield _refused("an unknown part", _WHOLE | {"text": {}})
    yield _refused("an unknown part alone", {"text": {}})


def _shown(change: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in change.items())


def _good(name: str, table: object) -> Vector:
    spec = spec_of(TABLE | {"processing": table})
    return good(name, parts(spec).file(), spec, reads_manifest=True)


def _refused(name: str, table: object) -> Vector:
    return refused(name, parts(spec_of(TABLE | {"processing": table})).file(), ("meta", 0), reads_manifest=True)
