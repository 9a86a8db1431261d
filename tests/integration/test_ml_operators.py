"""ONNX's operators of classical machine learning, rewritten, compute what onnxruntime computes of the originals."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import edgepack
import edgepack_runtime
from edgepack.converters._onnx_ml import _REWRITINGS
from edgepack.toolchain import ensure, locate

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parent / "sources" / "ml_operators.py"
# Not of ai.onnx.ml; models of test_sklearn_models.py have them.
ELSEWHERE = {"CDist", "LpNormalization"}


@pytest.fixture(scope="session")
def differences() -> dict[str, float | str]:
    roots = [str(Path(package.__file__).resolve().parents[1]) for package in (edgepack, edgepack_runtime)]
    code = f"import runpy, sys; sys.path[:0] = {roots!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    python = ensure(locate("sklearn"), offline=False, say=print)
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_rewritten_operator_computes_what_onnxruntime_does(differences: dict[str, float | str]) -> None:
    wrong = {name: found for name, found in differences.items() if isinstance(found, str) or found > 1e-5}
    assert wrong == {}


def test_every_rewriting_is_tried(differences: dict[str, float | str]) -> None:
    tried = {name.split()[0].rstrip(",") for name in differences}
    assert tried | ELSEWHERE == set(_REWRITINGS)
