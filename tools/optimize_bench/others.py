"""What a user would get by hand: ai-edge-quantizer's stock recipes, TensorFlow's default, onnx2tf's int8 options."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgepack.release import Work
from edgepack.toolchain import ensure, locate
from edgepack_runtime.tensors import Array

__all__ = ["onnx2tf_models", "stock_models", "tensorflow_models"]

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
if model.endswith((".keras", ".hdf5")):
    network = tf.keras.models.load_model(model, compile=False)
    # TensorFlow's converter asks a Keras model for an attribute that Keras 3 no longer has.
    folder = out + ".saved"
    network.export(folder, verbose=False)
    model = folder
key = "serving_default"
converter = tf.lite.TFLiteConverter.from_saved_model(model, signature_keys=[key])
converter.optimizations = [tf.lite.Optimize.DEFAULT]
taken = list(tf.saved_model.load(model).signatures[key].structured_input_signature[1])[0]
if kind != "dynamic":
    converter.representative_dataset = lambda: ({taken: found[name][i : i + 1].astype(np.float32)}
                                                for i in range(len(found[name])))
open(out, "wb").write(converter.convert())
"""

_ONNX2TF = """
import sys, numpy as np, onnx, onnx2tf
kind, model, data, out = sys.argv[1:]
graph = onnx.load(model).graph
constants = {tensor.name for tensor in graph.initializer}
(name,) = [taken.name for taken in graph.input if taken.name not in constants]
found = np.load(data)
np.save(out + "/samples.npy", found[found.files[0]])
onnx2tf.convert(input_onnx_file_path=model, output_folder_path=out, output_signaturedefs=True, non_verbose=True,
                keep_shape_absolutely_input_names=[name], copy_onnx_input_output_names_to_tflite=True,
                output_dynamic_range_quantized_tflite=True, output_integer_quantized_tflite=True, quant_type=kind,
                custom_input_op_name_np_data_path=[[name, out + "/samples.npy", [0.0], [1.0]]])
"""
_ONNX2TF_KINDS = (
    "dynamic_range_quant", "integer_quant", "full_integer_quant", "integer_quant_with_int16_act",
    "full_integer_quant_with_int16_act",
)  # fmt: skip
_SECONDS = 900


def stock_models(work: Work) -> Iterator[tuple[str, bytes | str]]:
    """Yield each stock recipe's name, and the model it makes of the float one or the reason why there is none."""
    for name in STOCK:
        given = (name, work.model.data, work.samples.calibration_feeds())
        with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
            out = Path(folder) / "out.tflite"
            yield f"ai-edge-quantizer {name}", _file(out, _ran(sys.executable, _STOCK, given, out))


def tensorflow_models(source: Path, calibration: Array) -> Iterator[tuple[str, bytes | str]]:
    """Yield TensorFlow's default quantizations of a SavedModel or a Keras model: dynamic range, and int8."""
    python = str(ensure(locate("tensorflow"), offline=False, say=print))
    for kind, name in (("dynamic", "TensorFlow dynamic range"), ("int8", "TensorFlow default int8")):
        with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
            out = Path(folder) / "out.tflite"
            yield name, _file(out, _ran(python, _TENSORFLOW, (kind, source, {"x": calibration}), out))


def onnx2tf_models(source: Path, calibration: Array) -> Iterator[tuple[str, bytes | str]]:
    """Yield what onnx2tf's options for int8 make of an ONNX file; it writes what it can before it gives up."""
    python = str(ensure(locate("onnx"), offline=False, say=print))
    for scales in ("per-channel", "per-tensor"):
        with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
            # It rewrites the file it is given.
            copy, out = Path(folder) / "model.onnx", Path(folder) / "out"
            shutil.copyfile(source, copy)
            out.mkdir()
            said = _ran(python, _ONNX2TF, (scales, copy, {"x": calibration}), out)
            for kind in _ONNX2TF_KINDS:
                yield f"onnx2tf {kind} {scales}", _file(out / f"model_{kind}.tflite", said)


def _ran(python: str, script: str, given: tuple[str, bytes | Path, dict[str, Array]], out: Path) -> str:
    """Run a tool's script, and return the last that it said if it failed."""
    name, model, feeds = given
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
        data, source = Path(folder) / "data.npz", Path(folder) / "float.tflite"
        np.savez(data, **feeds)  # type: ignore[arg-type]
        if isinstance(model, bytes):
            source.write_bytes(model)
        command = [
            python,
            "-c",
            script,
            name,
            str(source if isinstance(model, bytes) else model),
            str(data),
            str(out),
        ]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, errors="replace", timeout=_SECONDS
            )
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:150]
            return said if done.returncode else ""
    return f"not done after {_SECONDS} s"


def _file(path: Path, said: str) -> bytes | str:
    return path.read_bytes() if path.exists() else said or "it wrote no such file"
