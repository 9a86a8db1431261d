"""The models of the matrix: networks as TensorFlow, ai-edge-quantizer and edgepack's own passes quantize them."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgepack.model import PassRequest, PassResult
from edgepack.opversions import stamp
from edgepack.toolchain import ensure, locate
from edgepack.worker import Workplace, run_task
from edgepack_runtime.tensors import Array
from tools.prediction_matrix import networks

ARCHIVE = Path(__file__).parent / "models.zip"
_TRUTH = "truth.npz"
_SIGNATURE = "serving_default"
# ai-edge-quantizer's recipes under the names used here, and which of them are made of which network.
_RECIPES = {
    "dynamic8": "dynamic_wi8_afp32",
    "dynamic4": "dynamic_wi4_afp32",
    "dynamic4_block32": "dynamic_wi4b32_afp32",
    "dynamic2": "dynamic_wi2c_afp32",
    "dynamic2_block32": "dynamic_wi2b32_afp32",
    "weights8": "weight_only_wi8_afp32",
    "weights4": "weight_only_wi4_afp32",
    "static8": "static_wi8_ai8",
    "static16": "static_wi8_ai16",
}
_QUANTIZED: Mapping[str, tuple[str, ...]] = {
    "mlp": tuple(_RECIPES),
    "conv": ("dynamic8", "dynamic4", "dynamic2", "weights4", "static8", "static16"),
    "grouped": ("dynamic8", "dynamic4"),
    "upsample": ("dynamic8", "static8"),
    "attention": ("dynamic8", "dynamic4", "static8"),
    "embedding": ("dynamic8", "dynamic4"),
    "lstm": ("dynamic8",),
    "loop": ("dynamic8",),
    "open_batch": ("dynamic8",),
    "ratio": ("static8",),
}
# What edgepack makes: the pass, and the engine it is to be right on.
_LITERT, _TFLITE = "ai-edge-litert==2.3.0", "tflite-runtime==2.14.0"
_PASSES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "mlp": (("float16", _LITERT), ("dynamic_range", _LITERT), ("dynamic_range", _TFLITE), ("full_integer", _TFLITE)),
    "conv": (("dynamic_range", _LITERT), ("dynamic_range", _TFLITE), ("full_integer", _TFLITE)),
    "grouped": (("dynamic_range", _TFLITE), ("full_integer", _LITERT)),
    "upsample": (("full_integer", _TFLITE),),
    "attention": (("full_integer", _LITERT),),
    "lstm": (("full_integer", _TFLITE),),
}
# Stock files with nothing changed but the operator versions, as edgepack ships a source that is quantized already.
_STAMPED = (
    "mlp.dynamic8", "mlp.dynamic4", "mlp.dynamic4_block32", "mlp.dynamic2", "conv.dynamic8", "conv.dynamic4",
    "conv.weights4", "attention.dynamic4",
)  # fmt: skip


def make_models() -> dict[str, bytes]:
    """Return everything: models by name, and ``truth.npz`` with what TensorFlow computes of each network.

    Raises:
        ToolchainError: TensorFlow's environment cannot be made.
        PassError: a pass refuses its network.
    """
    files = _floats_and_stock()
    calibration = {name: networks.samples(name) for name in networks.NETWORKS}
    for network, recipes in _QUANTIZED.items():
        source = files[f"{network}.float32"]
        for name in recipes:
            files[f"{network}.{name}"] = _quantized(source, _RECIPES[name], calibration[network])
    for network, wanted in _PASSES.items():
        for scheme, engine in wanted:
            family = engine.partition("==")[0].replace("ai-edge-", "").replace("-runtime", "")
            made = _passed(files[f"{network}.float32"], scheme, engine, calibration[network])
            files[f"{network}.edgepack_{scheme}_{family}"] = made
    files.update({f"{name}_stamped": stamp(files[name]) for name in _STAMPED})
    return files


def _floats_and_stock() -> dict[str, bytes]:
    python = ensure(locate("tensorflow"), offline=False, say=print)
    with TemporaryDirectory() as folder:
        script = Path(networks.__file__)
        subprocess.run([python, "-B", script, folder], check=True, capture_output=True)
        return {path.name.removesuffix(".tflite"): path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _quantized(source: bytes, recipe_name: str, inputs: Array) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    wanted = getattr(recipe, recipe_name)()
    worker = quantizer.Quantizer(source, wanted)
    statistics = None
    if worker.need_calibration:
        # One sample at a time: over several, its calibration averages the ranges, and cuts what lies outside.
        each = [quantizer.Quantizer(source, wanted).calibrate({_SIGNATURE: [{"x": x}]}) for x in inputs]
        statistics = {
            name: {
                "min": _over(np.min, [s[name]["min"] for s in each]),
                "max": _over(np.max, [s[name]["max"] for s in each]),
            }
            for name in each[0]
        }
    return bytes(worker.quantize(statistics).quantized_model)


def _over(which: Callable[..., Array], found: Sequence[Array]) -> Array:
    return which(np.stack(found), axis=0)


def _passed(source: bytes, scheme: str, engine: str, inputs: Array) -> bytes:
    import sys

    options = '{"min_elements": 64}' if scheme == "dynamic_range" else "{}"
    request = PassRequest(model=source, engine=engine, options=options, calibration={"x": inputs})
    return run_task(
        f"edgepack.passes.{scheme}:run", request, PassResult, Workplace(python=Path(sys.executable))
    ).model


def write_archive(files: Mapping[str, bytes], path: Path = ARCHIVE) -> None:
    """Write the models into one compressed file, the same bytes for the same models."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name if name == _TRUTH else f"{name}.tflite")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=9)
    path.write_bytes(held.getvalue())


def read_archive(path: Path = ARCHIVE) -> dict[str, bytes]:
    """Return the committed models by name, without the truth."""
    return dict(_entries(path))


def read_truth(path: Path = ARCHIVE) -> dict[str, Array]:
    """Return what TensorFlow computed of each network's samples: [n, *shape] by network."""
    with zipfile.ZipFile(path) as archive, archive.open(_TRUTH) as file, np.load(io.BytesIO(file.read())) as truth:
        return dict(truth)


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".tflite"):
                yield name.removesuffix(".tflite"), archive.read(name)
