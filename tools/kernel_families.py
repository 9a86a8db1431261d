"""How far a board's kernels are from this machine's: models run here and emulated, under one and the same engine.

``python -m tools.kernel_families [--profile NAME …] [--models FOLDER]`` runs every .tflite file of the folder, or of
the prediction matrix, on random inputs under the profile's exact engine on this processor and on the emulated board,
and prints the largest difference as a share of each output's range, and the largest of each scheme. Models that the
engine refuses or crashes on are named. It takes some minutes; docs/conversion.md, "On the device", has the figures.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgepack.errors import WorkerError
from edgepack.flatbuffer import ModelView, TensorView, read_model
from edgepack.lab import LabRequest, LabResult
from edgepack.profiles import load_profile
from edgepack.schemes import scheme_of
from edgepack.toolchain import engine_toolchain, ensure
from edgepack.userland import board, userland_for
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import EngineError
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.tensors import Array

MATRIX = Path(__file__).parent / "prediction_matrix" / "models.zip"
SAMPLES = 6


def models(source: Path) -> dict[str, bytes]:
    """Return the .tflite files in an archive or a folder, by name."""
    if source.is_dir():
        return {path.name: path.read_bytes() for path in sorted(source.rglob("*.tflite"))}
    with zipfile.ZipFile(source) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".tflite")}


def inputs_of(view: ModelView) -> dict[str, TensorView]:
    """Return the inputs by the names that an engine gives them."""
    tensors = view.subgraphs[0].tensors
    if view.signatures:
        return {name: tensors[index] for name, index in view.signatures[0].inputs}
    return {tensors[index].name: tensors[index] for index in view.subgraphs[0].inputs}


def feeds_for(view: ModelView) -> dict[str, Array]:
    """Return random inputs, [SAMPLES, …] by name; indexes stay below ten."""
    draw = np.random.default_rng(0)
    feeds = {}
    for name, tensor in inputs_of(view).items():
        dtype, shape = np.dtype(tensor.dtype.lower()), (SAMPLES, *tensor.shape)
        low, high = (-100, 100) if dtype == np.int8 else (0, 10)
        feeds[name] = (draw.normal(size=shape) if dtype.kind == "f" else draw.integers(low, high, shape)).astype(
            dtype
        )
    return feeds


def difference(here: Mapping[str, Array], there: Mapping[str, Array]) -> float | None:
    """Return the largest difference as a share of its output's range; None where an output says nothing."""
    worst = 0.0
    for name, output in here.items():
        one, other = output.astype(np.float64), there[name].astype(np.float64)
        spread = float(np.ptp(one)) if np.isfinite(one).all() else 0.0
        if not spread:
            return None
        worst = max(worst, float(np.abs(one - other).max()) / spread)
    return worst


def compare(profile: DeviceProfile, found: Mapping[str, bytes]) -> dict[str, list[float]]:
    """Print a line a model; return the differences by scheme."""
    engine = profile.engine
    userland = userland_for(profile, offline=False, say=print)
    if userland is None:
        raise SystemExit(f"{profile.name} has this machine's processor")
    native = Workplace(python=ensure(engine_toolchain(engine.name, engine.version), offline=False, say=print))
    by_scheme: dict[str, list[float]] = defaultdict(list)
    with board(profile, userland) as python:
        for name, data in found.items():
            view = read_model(data)
            request = LabRequest(model=data, engine=engine.name, num_threads=2, feeds=feeds_for(view))
            try:
                here, there = (
                    run_task("edgepack.lab:replay", request, LabResult, place)
                    for place in (native, Workplace(python=python))
                )
            except (EngineError, WorkerError) as error:
                print(f"{profile.name:16} {name:44} refused: {error.message[:90]}", flush=True)
                continue
            far = difference(here.outputs, there.outputs)
            print(f"{profile.name:16} {name:44} {'constant' if far is None else f'{far:.2g}'}", flush=True)
            if far is not None:
                by_scheme[scheme_of(data)].append(far)
    return by_scheme


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="append", help="raspberry-pi-3 and raspberry-pi-4")
    parser.add_argument("--models", type=Path, default=MATRIX, help="a folder with .tflite files")
    arguments = parser.parse_args()
    found = models(arguments.models)
    for name in arguments.profile or ["raspberry-pi-3", "raspberry-pi-4"]:
        for scheme, far in sorted(compare(load_profile(name), found).items()):
            exact = sum(value == 0 for value in far)
            print(f"{name:16} {scheme:20} {len(far)} models, largest {max(far):.2g}, {exact} identical")
    return 0


if __name__ == "__main__":
    sys.exit(main())
