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
_AUDIO: dict[str, Any] = {"input": "wave", "rate": 16000, "samples": 16000, "mean": 0.5, "std": 2.0}
_MEL: dict[str, Any] = {
    "frame": 400,
    "hop": 160,
    "fft": 512,
    "bins": 64,
    "low": 125.0,
    "high": 7500.0,
    "filters": "tensorflow",
    "padding": "none",
    "power": 1,
    "log": "natural",
    "guard": "add",
    "epsilon": 0.001,
    "order": "time",
}
_CLASSES: dict[str, Any] = {"output": "scores", "activation": "softmax", "top": 5, "threshold": 0.0}
_BOXES: dict[str, Any] = {
    "boxes": "boxes",
    "scores": "scores",
    "classes": "",
    "count": "",
    "layout": "rows",
    "order": "cxcywh",
    "unit": "share",
    "objectness": "none",
    "background": 0,
    "activation": "sigmoid",
    "threshold": 0.25,
    "suppress": "class",
    "overlap": 0.5,
    "top": 100,
}
_PARTS = {"image": _IMAGE, "audio": _AUDIO, "mel": _MEL, "classes": _CLASSES, "boxes": _BOXES}
# What a part cannot be without.
_WITH: Mapping[str, dict[str, Any]] = {"mel": {"audio": _AUDIO}, "boxes": {"image": _IMAGE}}
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
    "audio": (
        *({"rate": 1000}, {"rate": 192000}, {"samples": 1}, {"samples": 1 << 22}),
        *({"mean": -1e9}, {"std": 1e-9}, {"std": 1e9}, {"mean": 1}),
    ),
    "mel": (
        *({"filters": "librosa"}, {"filters": "torchaudio"}, {"padding": "zeros"}, {"padding": "reflect"}),
        *({"power": 2}, {"log": "none"}, {"log": "log10"}, {"log": "decibel"}, {"guard": "max"}, {"order": "mel"}),
        *({"frame": 2, "fft": 2}, {"fft": 1 << 14}, {"frame": 1 << 14, "fft": 1 << 14}, {"frame": 512}),
        *({"hop": 1}, {"hop": 1 << 14}, {"bins": 1}, {"bins": 512}, {"low": 0}, {"high": 8000}),
        *({"low": 7499}, {"low": 0, "high": 1}, {"epsilon": 1e-30}, {"epsilon": 1}),
    ),
    "classes": (
        *({"activation": "none"}, {"activation": "sigmoid"}, {"top": 1}, {"top": 1000}),
        *({"threshold": -1e9}, {"threshold": 1e9}, {"threshold": 1}, {"output": "\0"}),
    ),
    "boxes": (
        *({"layout": "columns"}, {"order": "xyxy"}, {"order": "yxyx"}, {"order": "xywh"}, {"unit": "pixels"}),
        *({"objectness": "column"}, {"background": 1}, {"objectness": "column", "background": 1}),
        *({"classes": "kinds", "count": "n"}, {"activation": "none"}, {"activation": "softmax"}),
        *({"suppress": "none"}, {"suppress": "all"}, {"overlap": 0}, {"overlap": 1}, {"top": 1}, {"top": 1000}),
        *({"threshold": -1e9}, {"threshold": 1}, {"scores": "boxes"}, {"boxes": ""}),
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
    "audio": (
        *({"rate": rate} for rate in (0, 999, 192001, 16000.0, -16000)),
        *({"samples": samples} for samples in (0, -1, (1 << 22) + 1, 1.0, 2**53 - 1)),
        *({"mean": 1.1e9}, {"mean": -1.1e9}, {"mean": [0]}, {"std": 0}, {"std": -1}, {"std": 9e-10}, {"std": 1.1e9}),
    ),
    "mel": (
        *({"filters": "htk"}, {"padding": "same"}, {"log": "log2"}, {"guard": "clip"}, {"order": "frequency"}),
        *({"power": 0}, {"power": 3}, {"power": 1.5}, {"power": True}, {"bins": 0}, {"bins": 513}),
        *({"hop": 0}, {"hop": -1}, {"hop": (1 << 14) + 1}, {"frame": 1}, {"frame": 513}, {"fft": 399}),
        *({"frame": 1, "fft": 1}, {"fft": (1 << 14) + 1}, {"fft": 2**53 - 1}, {"fft": 512.0}),
        *({"low": -0.1}, {"low": 7499.5}, {"low": 7500}, {"low": 9000}, {"high": 8000.5}, {"high": 1.1e5}),
        *({"low": 0, "high": 0.5}, {"epsilon": 0}, {"epsilon": -1}, {"epsilon": 9e-31}, {"epsilon": 1.5}),
    ),
    "classes": (
        *({"activation": "relu"}, {"top": 0}, {"top": -1}, {"top": 1001}, {"top": 1.0}, {"top": True}),
        *({"threshold": 1.1e9}, {"threshold": -1.1e9}, {"threshold": "0"}, {"threshold": True}),
    ),
    "boxes": (
        *({"layout": "nhwc"}, {"order": "xxyy"}, {"unit": "inches"}, {"objectness": "row"}, {"suppress": "soft"}),
        *({"background": 2}, {"background": -1}, {"background": True}, {"background": 1.0}, {"activation": "relu"}),
        *({"overlap": -0.1}, {"overlap": 1.1}, {"overlap": True}, {"top": 0}, {"top": 1001}, {"top": 1.0}),
        *({"threshold": 1.1e9}, {"classes": "kinds", "background": 1}),
        {"classes": "kinds", "objectness": "column"},
    ),
}


def processing() -> Iterator[Vector]:
    """What a reader of manifests must take, and what it must not. One to which they are opaque skips the group."""
    yield _good("a picture and classes", {"image": _IMAGE, "classes": _CLASSES})
    yield _good("sound, its features and classes", {name: _PARTS[name] for name in ("audio", "mel", "classes")})
    for name, part in _PARTS.items():
        beside = _WITH.get(name, {})
        yield _good(f"{name} as it is", {name: part} | beside)
        for change in _RIGHT[name]:
            yield _good(f"{name} with {_shown(change)}", {name: part | change} | beside)
        for change in _WRONG[name]:
            yield _refused(f"{name} with {_shown(change)}, which is wrong", {name: part | change} | beside)
        for member, found in part.items():
            bare = {key: item for key, item in part.items() if key != member}
            yield _refused(f"{name} without {member}", {name: bare} | beside)
            wrong: object = 1 if isinstance(found, str) else "1"
            yield _refused(f"{name}/{member} is {type(wrong).__name__}", {name: part | {member: wrong}} | beside)
        yield _refused(f"an unknown member in {name}", {name: part | {"nobody knows": 1}} | beside)
        yield _refused(
            f"{name} is null", {name: None} | beside | {"classes": None if name == "classes" else _CLASSES}
        )
        yield _refused(f"{name} is a list", {name: [part]} | beside)
    yield _refused("features without sound", {"mel": _MEL})
    yield _refused("features of a picture", {"mel": _MEL, "image": _IMAGE})
    yield _refused("boxes without a picture", {"boxes": _BOXES})
    yield _refused("boxes in sound", {"boxes": _BOXES, "audio": _AUDIO})
    yield _refused("boxes and classes", {"boxes": _BOXES, "image": _IMAGE, "classes": _CLASSES})
    yield _refused("a picture and sound", {"image": _IMAGE, "audio": _AUDIO})
    yield _refused("features above half the rate", {"mel": _MEL, "audio": _AUDIO | {"rate": 14999}})
    yield _good("features up to half the rate", {"mel": _MEL, "audio": _AUDIO | {"rate": 15000}})
    for told, wrong in {"no part": {}, "null": None, "a list": [_IMAGE], "a text": "image"}.items():
        yield _refused(told, wrong)
    yield _refused("an unknown part", {"classes": _CLASSES, "text": {}})
    yield _refused("an unknown part alone", {"text": {}})


def _shown(change: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in change.items())


def _good(name: str, table: object) -> Vector:
    spec = spec_of(TABLE | {"processing": table})
    return good(name, parts(spec).file(), spec, reads_manifest=True)


def _refused(name: str, table: object) -> Vector:
    return refused(name, parts(spec_of(TABLE | {"processing": table})).file(), ("meta", 0), reads_manifest=True)
