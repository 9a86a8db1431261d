"""scikit-learn's models: each computes the same as TFLite or is refused, as docs/sklearn-coverage.md says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgepack
import edgepack_runtime
from doctext import rows, section, text_of
from edgepack.toolchain import ensure, locate

pytestmark = [pytest.mark.slow, pytest.mark.long]

HERE = Path(__file__).resolve().parent
COVERAGE = text_of(HERE.parents[1] / "docs" / "sklearn-coverage.md")
CONVERTED = {cells[0]: cells[1].replace("`", "").split(", ") for cells in rows(section(COVERAGE, "## Converted"))}
REFUSED = {cells[0]: cells[1] for cells in rows(section(COVERAGE, "## Refused"))}


def in_toolchain(script: str, toolchain: str, folder: Path) -> None:
    python = ensure(locate(toolchain), offline=False, say=print)
    roots = [str(Path(package.__file__).resolve().parents[1]) for package in (edgepack, edgepack_runtime)]
    path = str(HERE / "sources" / script)
    code = f"import runpy, sys; sys.path[:0] = {roots!r}; runpy.run_path({path!r}, run_name='__main__')"
    command = [str(python), "-I", "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where each model's files are, by its name, without a suffix."""
    folder = tmp_path_factory.mktemp("sklearn")
    in_toolchain("sklearn_models.py", "sklearn", folder)
    in_toolchain("onnx_to_tflite.py", "onnx", folder)
    names = {}
    for path in sorted(folder.glob("*.joblib")):
        if path.with_suffix(".npz").exists():
            with np.load(path.with_suffix(".npz")) as archive:
                names[str(archive["name"])] = path.with_suffix("")
        else:
            names[path.with_suffix(".txt").read_text().partition("\n")[0]] = path.with_suffix("")
    return names


def test_every_model_that_is_tried_is_in_the_table(models: dict[str, Path]) -> None:
    assert sorted(models) == sorted([*CONVERTED, *REFUSED])


@pytest.mark.parametrize("name", CONVERTED)
def test_a_scikit_learn_model_computes_the_same_as_tflite(models: dict[str, Path], name: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    tflite = models[name].with_suffix(".tflite")
    assert tflite.exists(), models[name].with_suffix(".txt").read_text()
    with np.load(models[name].with_suffix(".npz")) as archive:
        samples = archive["x"][:, None]
        wanted = {key.removeprefix("out:"): archive[key] for key in archive.files if key.startswith("out:")}
    runner = Interpreter(model_content=tflite.read_bytes()).get_signature_runner("serving_default")
    found = [runner(x=sample) for sample in samples]
    assert sorted(wanted) == sorted(CONVERTED[name])
    for output, values in wanted.items():
        told = np.stack([row[output] for row in found])
        assert np.abs(told - values).max() <= 1e-4 * (np.ptp(values) or 1), output


@pytest.mark.parametrize("name", REFUSED)
def test_a_scikit_learn_model_is_refused_with_this_reason(models: dict[str, Path], name: str) -> None:
    assert REFUSED[name] in models[name].with_suffix(".txt").read_text()
