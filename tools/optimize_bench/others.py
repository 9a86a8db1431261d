"""What a user would get by hand: ai-edge-quantizer's stock recipes, and TensorFlow's default int8 quantization."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgepack.release import Work
from edgepack.toolchain import ensure, locate
from edgepack_runtime.tensors import Array

__all__ = ["stock_models", "tensorflow_models"]

STOCK = (
    "dynamic_wi8_afp32", "dynamic_legacy_wi8_afp32", "dynamic_wi4_afp32", "weight_only_wi8_afp32",
    "weight_only_wi4_afp32", "static_wi8_ai8", "static_wi8_ai16",
)  # fmt: skip

_STOCK = """
import sys, numpy as np
from ai_edge_quantizer import quantizer, recipe
name, model, data, out = sys.argv[1:]
worker = quantizer.Quantizer(model, getattr(recipe, name)())
with np.load(data) as found:
    samples = {"serving_default": [{n: found[n][i] for n in found} for i in range(len(found[found.files[0]]))]}
statistics = worker.calibrate(samples) if worker.need_calibration else None
open(out, "wb").write(bytes(worker.quantize(statistics).quantized_model))
"""

_TENSORFLOW = """
import sys, numpy as np, tensorflow as tf
kind, model, data, out = sys.argv[1:]
found = np.load(data)
(name,) = found.files
key = "serving_default"
converter = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=[key])
converter.optimizations = [tf.lite.Optimize.DEFAULT]
taken = list(tf.saved_model.load(model).signatures[key].structured_input_signature[1])[0]
if kind != "dynamic":
    converter.representative_dataset = lambda: ({taken: found[name][i : i + 1].astype(np.float32)}
                                                for i in range(len(found[name])))
open(out, "wb").write(converter.convert())
"""


def stock_models(work: Work) -> Iterator[tuple[str, bytes | str]]:
    """Yield each stock recipe's name, and the model it makes of the float one or the reason why there is none."""
    for name in STOCK:
        yield (
            f"ai-edge-quantizer {name}",
            _made(sys.executable, _STOCK, (name, work.model.data, work.samples.calibration_feeds())),
        )


def tensorflow_models(saved_model: Path, calibration: Array) -> Iterator[tuple[str, bytes | str]]:
    """Yield TensorFlow's default quantizations of a SavedModel: dynamic range, and int8 with float inputs."""
    python = ensure(locate("tensorflow"), offline=False, say=print)
    for kind, name in (("dynamic", "TensorFlow dynamic range"), ("int8", "TensorFlow default int8")):
        yield name, _made(str(python), _TENSORFLOW, (kind, saved_model, {"x": calibration}))


def _made(python: str, script: str, given: tuple[str, bytes | Path, dict[str, Array]]) -> bytes | str:
    name, model, feeds = given
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
        data, out = Path(folder) / "data.npz", Path(folder) / "out.tflite"
        np.savez(data, **feeds)  # type: ignore[arg-type]
        if isinstance(model, bytes):
            source = Path(folder) / "float.tflite"
            source.write_bytes(model)
        else:
            source = model
        command = [python, "-c", script, name, str(source), str(data), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
        if done.returncode or not out.exists():
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:150]
        return out.read_bytes()
