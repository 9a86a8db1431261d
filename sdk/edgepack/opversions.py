"""Operator versions, written into the file so that an old runtime refuses what it would compute wrongly.

A TFLite file states a version for every operator, and a runtime refuses versions it has no kernel for. That is the
only guard against an old kernel computing a newer operator wrongly without a word (tflite-runtime 2.14 does, on
per-channel dense weights), and quantizers do not keep it: they change types and leave the versions. `stamp` puts
them right, and with them the ``min_runtime_version`` the file carries.
"""

from __future__ import annotations

import csv
import importlib.resources
from functools import cache
from typing import Any

from edgepack import _flatbuffer_edit
from edgepack._oprules import needed_version
from edgepack.flatbuffer import ModelView, read_model

__all__ = ["BUILT_IN_CUSTOM", "minimum_runtime", "release", "required_versions", "stamp"]

# Custom by name only: both engines' wheels have it, in one version.
BUILT_IN_CUSTOM = ("TFLite_Detection_PostProcess",)

_METADATA = "min_runtime_version"
_METADATA_BYTES = 16


def required_versions(model: ModelView) -> tuple[int, ...]:
    """Return for each entry of the operator table the version its operators need, never below the one stated.

    The stated version is kept when it is higher: whoever wrote the file may know of a feature not looked at here.
    """
    versions = [code.version for code in model.opcodes]
    for graph, operator in model.operators():
        if operator.name != "CUSTOM":
            versions[operator.opcode] = max(versions[operator.opcode], needed_version(graph, operator))
    return tuple(versions)


def release(text: str) -> tuple[int, ...]:
    """Return a release number as something to compare: ``2.14.4`` is below ``2.15.0``.

    Raises:
        ValueError: it is not numbers between dots.
    """
    return tuple(int(part) for part in text.split("."))


@cache
def _first_runtimes() -> dict[tuple[str, int], str]:
    table = importlib.resources.files("edgepack").joinpath("data", "op_versions.csv")
    with table.open(encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        return {(row["op"], int(row["version"])): row["min_tensorflow_runtime"] for row in rows}


def minimum_runtime(operator: str, version: int) -> str | None:
    """Return the first TensorFlow release whose runtime has this version, or None if the table has no row."""
    return _first_runtimes().get((operator, version))


def stamp(model: bytes) -> bytes:
    """Return the model with true operator versions and a true ``min_runtime_version``.

    Weights that lay behind the flatbuffer, as ai-edge-quantizer puts them when there are many, are moved into it:
    not every reader looks there. A model that needs no change is returned as it is.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(model)
    versions = required_versions(view)
    known = [minimum_runtime(code.name, v) for code, v in zip(view.opcodes, versions, strict=True)]
    runtime = max((text for text in known if text), key=release, default="")
    stated = tuple(code.version for code in view.opcodes)
    if versions == stated and runtime == view.min_runtime_version and not view.has_external_buffers:
        return model
    edited = _flatbuffer_edit.unpack(model)
    for code, version in zip(edited.operatorCodes, versions, strict=True):
        code.version = version
    _set_metadata(edited, runtime)
    return _flatbuffer_edit.pack(edited)


def _set_metadata(model: Any, runtime: str) -> None:
    # TensorFlow reserves 16 bytes, and readers expect them.
    content = runtime.encode("ascii").ljust(_METADATA_BYTES, b"\0")
    _flatbuffer_edit.set_metadata(model, _METADATA, content)
