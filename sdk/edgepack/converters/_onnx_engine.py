"""Run a TFLite file on samples in a process of its own: some files end the process that runs them.

The second half of this module is that process: it is started as a script by the toolchain's Python, and needs numpy
and ai-edge-litert only.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["engine_rows"]

_SECONDS = 300


def engine_rows(data: bytes, feeds: Mapping[str, Any], folder: Path) -> list[list[Any]]:
    """Return, for each output of the graph in order, its values on every sample of `feeds` [n, *shape].

    Args:
        data: the TFLite file.
        feeds: by the graph's inputs, in their order.
        folder: a private folder.

    Raises:
        ConversionError: the engine refuses the file, crashes or does not end.
    """
    from edgepack.errors import ConversionError

    model, samples, results = (folder / name for name in ("run.tflite", "feeds.npz", "rows.npz"))
    model.write_bytes(data)
    arrays: dict[str, Any] = {f"i{k}": np.ascontiguousarray(value) for k, value in enumerate(feeds.values())}
    np.savez(samples, **arrays)
    command = [sys.executable, "-I", str(Path(__file__).resolve()), str(model), str(samples), str(results)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConversionError(f"ai-edge-litert does not finish the result within {_SECONDS} s") from None
    if done.returncode < 0:
        raise ConversionError(f"ai-edge-litert crashes on the result ({signal.Signals(-done.returncode).name})")
    if done.returncode > 0:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no output")
        raise ConversionError(f"ai-edge-litert cannot run the result: {last.strip()[:240]}")
    with np.load(results) as archive:
        return [list(archive[f"o{k}"]) for k in range(len(archive.files))]


def _main(model: str, samples: str, results: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=2)
    interpreter.allocate_tensors()
    with np.load(samples) as archive:
        feeds = [archive[f"i{k}"] for k in range(len(archive.files))]
    outputs = interpreter.get_output_details()
    rows: list[list[Any]] = [[] for _ in outputs]
    for sample in zip(*feeds, strict=True):
        for value, detail in zip(sample, interpreter.get_input_details(), strict=True):
            interpreter.set_tensor(detail["index"], np.array(value, order="C"))
        interpreter.invoke()
        for row, detail in zip(rows, outputs, strict=True):
            row.append(interpreter.get_tensor(detail["index"]))
    arrays: dict[str, Any] = {f"o{k}": np.stack(row) for k, row in enumerate(rows)}
    np.savez(results, **arrays)


if __name__ == "__main__":
    _main(*sys.argv[1:])
