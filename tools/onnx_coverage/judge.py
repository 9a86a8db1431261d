"""What the host's own engine computes from a road's result, beside what the test case says is right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tools.onnx_coverage.cases import Case, read_arrays, read_case
from tools.onnx_coverage.results import DISPUTED, EQUAL, NEAR, WRONG

__all__ = ["warm", "work"]

# What a build accepts of a float32 output, as a share of its range (`edgepack.parity`).
_NEAR = 1e-4
_ORDER = (EQUAL, NEAR, DISPUTED, WRONG)


def warm(_: str) -> None:
    """Import what every fork needs."""
    importlib.import_module("ai_edge_litert.interpreter")


def work(road: str, folder: Path) -> None:
    """Write into `folder` the verdict on ``ROAD.tflite``, and what was found where it is not equal."""
    verdict, found = _found(read_case(folder), folder, road)
    (folder / f"{road}.found.json").write_text(json.dumps([verdict, found]))


def _found(case: Case, folder: Path, road: str) -> tuple[str, str]:
    from ai_edge_litert.interpreter import Interpreter

    tflite = (folder / f"{road}.tflite").read_bytes()
    runner: Any = Interpreter(model_content=tflite).get_signature_runner("serving_default")
    feeds, wanted = read_arrays(folder, "inputs"), read_arrays(folder, "outputs")
    reference = read_arrays(folder, f"{road}.reference")
    details = runner.get_input_details()
    if set(details) != set(feeds) or set(runner.get_output_details()) != set(case.outputs):
        return WRONG, f"takes {sorted(details)} and gives {sorted(runner.get_output_details())}"
    worst = (EQUAL, "")
    for i in range(case.sets):
        # Not ascontiguousarray: it makes a vector of a scalar.
        given = {name: np.array(array[i], order="C") for name, array in feeds.items()}
        for name, value in runner(**given).items():
            if name not in wanted:
                return WRONG, f"output {name!r}: the test has no plain tensor for it"
            # A batch of 1 is left out of the reference.
            says = reference[name][i].reshape(value.shape)
            verdict, said = _verdict(wanted[name][i], value, says, case)
            worst = max(
                worst, (verdict, f"output {name!r}: {said}" if said else ""), key=lambda v: _ORDER.index(v[0])
            )
    return worst


def _verdict(wanted: Any, found: Any, reference: Any, case: Case) -> tuple[str, str]:
    """Return how a tensor compares with the test's, and with onnxruntime's where that is another."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return WRONG, f"{found.dtype}{list(found.shape)}, expected {wanted.dtype}{list(wanted.shape)}"
    if _close(found, wanted, case):
        return EQUAL, ""
    with np.errstate(all="ignore"):
        first, second = wanted.astype(np.float64), found.astype(np.float64)
        distance = float(np.nanmax(np.abs(first - second)))
        extent = float(np.nanmax(first) - np.nanmin(first))
    if wanted.dtype.kind == "f" and np.isfinite(second).all() and distance <= _NEAR * extent:
        return NEAR, f"differs by up to {distance:.1e}, the output's range is {extent:.1e}"
    if _close(found, reference, case):
        return DISPUTED, "as onnxruntime gives it, which is not what the test says"
    return WRONG, f"differs by up to {distance:.3g}, beyond rtol {case.rtol:g}, atol {case.atol:g}"


def _close(found: Any, wanted: Any, case: Case) -> bool:
    # The comparison of onnx.backend.test.runner.
    return bool(np.allclose(found, wanted, rtol=case.rtol, atol=case.atol, equal_nan=True))
