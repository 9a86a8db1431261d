"""A build leaves what it was asked for and nothing else: nothing at home, in the temporary folder, by the model.

It makes no socket, and needs none: its children cannot (tests/unit/host/test_worker_confinement.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepack.toolchain import cache_root

pytestmark = pytest.mark.slow

# Where the kernel lets it, there is no network; and whoever makes a socket all the same is found out.
ALONE = """
import ctypes, os, runpy, sys

def refuse_sockets(event, arguments):
    if event == "socket.__new__":
        os.write(2, b"a socket was made")
        os._exit(9)

libc = ctypes.CDLL(None)
libc.unshare(0x40000000) == 0 or libc.unshare(0x50000000)
sys.addaudithook(refuse_sockets)
sys.argv[0] = "edgepack"
runpy.run_module("edgepack", run_name="__main__")
"""
DIGITS = Path(__file__).parent.parent / "data" / "mnist"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a model was built with a home and a temporary folder of its own, and no network."""
    folder = tmp_path_factory.mktemp("isolation")
    for name in ("home", "temporary", "models", "work"):
        (folder / name).mkdir()
    shutil.copy(DIGITS / "model.onnx", folder / "models")
    shutil.copy(DIGITS / "model.onnx", folder / "before.onnx")
    data = folder / "models" / "calibration.npz"
    with np.load(DIGITS / "digits.npz") as archive:
        np.savez(data, Input3=(archive["x"][:100, None] / 255).astype(np.float32))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")} | {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        "EDGEPACK_CACHE": str(cache_root()),
        "EDGEPACK_HOME": str(folder / "identity"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", ALONE, "build", folder / "models" / "model.onnx", "--calibration", data]
    done = subprocess.run(
        [*map(str, command), "-o", str(folder / "out"), "--profile", "local"],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["home", "temporary", "work"])
def test_a_build_leaves_nothing_in(after: Path, name: str) -> None:
    assert contents(after / name) == {}
    assert list((after / name).iterdir()) == []


def test_a_build_leaves_the_model_as_it_was_and_nothing_beside_it(after: Path) -> None:
    found = contents(after / "models")
    assert sorted(found) == ["calibration.npz", "model.onnx"]
    assert found["model.onnx"] == (after / "before.onnx").read_bytes()


def test_a_build_leaves_its_bundle_and_nothing_else_where_it_was_told_to(after: Path) -> None:
    assert [path.suffix for path in (after / "out").iterdir()] == [".edgepack"]
