"""A conversion that computes something else is refused with the first layer that differs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_converters import made_by, python_of

import edgepack
import edgepack_runtime

pytestmark = pytest.mark.slow
SOURCES = Path(__file__).parent / "sources"
PACKAGES = [str(Path(package.__path__[0]).parent) for package in (edgepack, edgepack_runtime)]


def answers(script: str, toolchain: str, folder: Path) -> list[str]:
    command = [str(python_of(toolchain)), str(SOURCES / script)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(PACKAGES)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line for line in done.stdout.splitlines() if "differ" in line or "layer" in line]


def test_tensorflow_names_the_operation_a_converter_gets_wrong(tmp_path: Path) -> None:
    right, wrong = answers("bisect_tensorflow.py", "tensorflow", tmp_path)
    assert right.startswith("no layer can be named")
    assert wrong.startswith("first differs at node 'functional_1/second_1/Relu' (Relu): 0.")


def test_a_build_names_the_first_layer_beyond_what_it_is_told_to_accept(shop, tmp_path: Path) -> None:
    model = made_by("make_tensorflow.py", "tensorflow", tmp_path) / "network.keras"
    np.save(tmp_path / "images.npy", np.random.default_rng(7).normal(size=(9, 12, 12, 3)).astype(np.float32))
    (tmp_path / "edgepack.toml").write_text(
        f'[model]\npath = "{model.name}"\n[data]\ncalibration = "images.npy"\n'
        '[build]\nprofiles = ["raspberry-pi-4"]\n[converter]\nmax_difference = 1e-12\n'
    )
    done = shop.run("build", cwd=tmp_path)
    assert done.code == 1
    assert "differs from TensorFlow by" in done.err
    assert "; first differs at node 'network" in done.err or "; first differs at node 'functional" in done.err
