"""The runtime's device tests, run again in the engines' own environments: the runtime and one engine, no more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgepack.lab import LabRequest, run_in_lab
from edgepack.toolchain import engine_toolchain, ensure
from edgepack.worker import Workplace
from pytestalone import link_pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ENGINES = [("tflite-runtime", "2.14.0"), ("ai-edge-litert", "2.3.0")]
DEVICE_TESTS = [f"tests/unit/runtime/test_{name}.py" for name in ("engines", "probe", "probing", "profile")]


@pytest.fixture(scope="module")
def pytest_alone(tmp_path_factory) -> Path:
    """A folder with pytest and what it needs, and nothing else of this environment."""
    return link_pytest(tmp_path_factory.mktemp("pytest-alone"))


def run(python: Path, pytest_alone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'runtime'}:{pytest_alone}", "PYTHONNOUSERSITE": "1"}
    return subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


@pytest.mark.parametrize(("engine", "version"), ENGINES)
def test_the_device_tests_pass_in_the_engines_own_environment(pytest_alone, engine, version):
    python = ensure(engine_toolchain(engine, version), offline=False, say=print)
    done = run(python, pytest_alone, "-m", "pytest", "-p", "no:cacheprovider", *DEVICE_TESTS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(("engine", "version"), ENGINES)
def test_no_framework_and_no_sdk_is_in_the_engines_environment(pytest_alone, engine, version):
    python = ensure(engine_toolchain(engine, version), offline=False, say=print)
    names = "edgepack", "tensorflow", "keras", "onnx", "torch", "typer"
    code = f"import importlib.util as u; print([n for n in {names!r} if u.find_spec(n)])"
    assert run(python, pytest_alone, "-c", code).stdout.strip() == "[]"


# The last one has no lock file: its environment is made from what a profile may name.
@pytest.mark.parametrize(("engine", "version"), [*ENGINES, ("ai-edge-litert", "2.1.0")])
def test_a_model_runs_in_the_environment_of_each_engine_version(engine, version):
    place = Workplace(python=ensure(engine_toolchain(engine, version), offline=False, say=print))
    model = (ROOT / "tests" / "data" / "engines" / "no_signature.tflite").read_bytes()
    feeds = {"serving_default_x:0": np.ones((2, 1, 8), np.float32)}
    request = LabRequest(model=model, engine=engine, version=version, num_threads=1, feeds=feeds)
    assert run_in_lab(request, place).engine_version == version
