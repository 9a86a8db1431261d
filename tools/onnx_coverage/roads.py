"""What a fork in a toolchain's Python does with one case: convert it by one road.

A folder of `tools.onnx_coverage.cases` gets ``ROAD.json``, what the converter said, ``ROAD.tflite``, and
``ROAD.reference.npz``, what the model's own framework computes.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.model import ConversionRequest
from edgepack_runtime.errors import EdgepackError
from tools.onnx_coverage.cases import read_arrays, write_arrays

__all__ = ["MODULES", "warm", "work"]

# A road and the plug-in that is it.
MODULES = {"onnx2tf": "edgepack.converters.onnx", "onnx-tf": "edgepack.converters.onnx_tf"}

# What takes long to be imported and is imported late.
_FRAMEWORKS = {
    "onnx2tf": ("onnx2tf.onnx2tf", "onnxruntime", "onnxslim", "onnxsim", "onnx.inliner"),
    "onnx-tf": ("onnxruntime", "onnxslim", "onnxsim", "onnx.inliner"),
}


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give an empty folder that has the same name in every fork: `warm` has done what onnx2tf does once for each."""
    folder = Path(tempfile.gettempdir()) / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def warm(road: str) -> None:
    """Do what would take its time in every fork."""
    for name in (MODULES[road], *_FRAMEWORKS[road]):
        importlib.import_module(name)
    if road == "onnx-tf":
        from edgepack.converters._onnx_tf_shim import fitted

        fitted()
    if road == "onnx2tf":
        from onnx2tf.tflite_builder.schema_loader import load_schema_module

        load_schema_module(str(Path(tempfile.gettempdir()) / "scratch" / "attempt" / "out"))


def work(road: str, folder: Path) -> None:
    """Convert the case in `folder` by `road`, as a build does: what the converter says is written down."""
    converter: Any = importlib.import_module(MODULES[road])
    with _scratch() as scratch:
        request = ConversionRequest(
            source=folder / "model.onnx", options="{}", feeds=read_arrays(folder, "inputs"), scratch=scratch
        )
        try:
            conversion = converter.convert(request)
        except EdgepackError as error:
            said: dict[str, object] = {
                "error": type(error).__name__, "message": error.message, "hint": error.hint or "",
            }  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the worker wraps it in the same way
            said = {"error": "WorkerError", "message": f"{type(error).__name__}: {error}", "hint": ""}
        else:
            (folder / f"{road}.tflite").write_bytes(conversion.tflite)
            reference = {name: list(map(np.asarray, value)) for name, value in conversion.reference.items()}
            write_arrays(folder / f"{road}.reference.npz", reference)
            said = {"error": "", "tool": conversion.tool, "notes": list(conversion.notes)}
    (folder / f"{road}.json").write_text(json.dumps(said))
