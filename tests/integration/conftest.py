"""What the integration tests share: the digits model, its data, and one real build of it for two engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

DIGITS = Path(__file__).parent.parent / "data" / "mnist"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@dataclass(frozen=True)
class Shop:
    """A folder with data files and an identity of its own, in which `edgepack` is run as a user would."""

    folder: Path

    def run(self, *arguments: object, cwd: Path | None = None) -> Done:
        environment = os.environ | {"EDGEPACK_HOME": str(self.folder / "identity"), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "edgepack", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd or self.folder,
            env=environment,
            timeout=900,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def build(self, *arguments: object, model: Path = DIGITS / "model.onnx", out: str = "out") -> Done:
        return self.run("build", model, "--calibration", "calibration.npz", "-o", out, *arguments)

    def refused(self, *arguments: object, **options: object) -> str:
        """Run a build that must be refused; return its error line."""
        done = self.build(*arguments, **options)
        assert done.code == 1, (done.code, done.out, done.err)
        assert "Traceback" not in done.err
        assert not (self.folder / options.get("out", "out")).exists()
        errors = [line for line in done.err.splitlines() if line.startswith("edgepack: error:")]
        assert len(errors) == 1, done.err
        return errors[0]


def write_digits(folder: Path) -> None:
    with np.load(DIGITS / "digits.npz") as archive:
        x = (archive["x"][:, None] / 255).astype(np.float32)
        y = archive["y"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    np.savez(folder / "calibration.npz", Input3=x[order[:100]])
    np.savez(folder / "evaluation.npz", Input3=x[order[100:1100]], y=y[order[100:1100]])


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    write_digits(folder)
    return Shop(folder)


@pytest.fixture(scope="session")
def built(shop) -> Done:
    """One build of the digits model for a 32-bit and a 64-bit board, with labels."""
    done = shop.run(
        "build", DIGITS / "model.onnx", "--name", "digits", "--calibration", "calibration.npz",
        "--evaluation", "evaluation.npz", "--profile", "raspberry-pi-3", "--profile", "raspberry-pi-4",
        "--json", "-o", "dist",
    )  # fmt: skip
    assert done.code == 0, done.err
    return done
