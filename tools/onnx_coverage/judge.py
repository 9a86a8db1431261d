"""What the host's own engine computes from a road's result, beside what the test case says is right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tools.onnx_coverage.cases import Case, read_arrays, read_case

__all__ = ["warm", "work"]


def warm(_: str) -> None:
    """Import what every fork needs."""
    importlib.import_module("ai_edge_litert.interpreter")


def work(road: str, folder: Path) -> None:
    """Write into `folder` what is wrong with ``ROAD.tflite``; '' for nothing."""
    found = _found(read_case(folder), folder, (folder / f"{road}.tflite").read_bytes())
    (folder / f"{road}.found.json").write_text(json.dumps(found))


def _found(case: Case, folder: Path, tflite: bytes) -> str:
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = Interpreter(model_content=tflite).get_signature_runner("serving_default")
    feeds, wanted = read_arrays(folder, "inputs"), read_arrays(folder, "outputs")
    details = runner.get_input_details()
    if set(details) != set(feeds) or set(runner.get_output_details()) != set(case.outputs):
        return f"takes {sorted(details)} and gives {sorted(runner.get_output_details())}"
    for i in range(case.sets):
        given = {name: np.ascontiguousarray(array[i]) for name, array in feeds.items()}
        for name, value in runner(**given).items():
            if name not in wanted:
                return f"output {name!r}: the test has no plain tensor for it"
            if said := _difference(wanted[name][i], value, case):
                return f"output {name!r}: {said}"
    return ""


def _difference(wanted: Any, found: Any, case: Case) -> str:
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return f"{found.dtype}{list(found.shape)}, expected {wanted.dtype}{list(wanted.shape)}"
    # The comparison of onnx.backend.test.runner.
    if np.allclose(found, wanted, rtol=case.rtol, atol=case.atol, equal_nan=True):
        return ""
    with np.errstate(all="ignore"):
        distance = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return f"differs by up to {np.nanmax(distance):.3g}, beyond rtol {case.rtol:g}, atol {case.atol:g}"
