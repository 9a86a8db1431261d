"""A declaration from edgepack.toml to a label: the build and the device prepare pictures by the same code."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack_runtime.device import Device
from edgepack_runtime.session import open_bundle

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parent.parent / "data" / "mnist"
DECLARED = """
[processing.image]
size = [28, 28]
layout = "nchw"
colours = "gray"
divisor = 255

[processing.classes]
activation = "softmax"
top = 1
"""


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "digits.npz") as archive:
        order = np.random.default_rng(0).permutation(len(archive["x"]))
        return archive["x"][order], archive["y"][order]


@pytest.fixture(scope="module")
def project(shop, pictures, tmp_path_factory) -> Path:
    """Return a project whose data are pixels, built for a 64-bit board in the integers of its inputs and outputs."""
    project = tmp_path_factory.mktemp("declared") / "project"
    assert shop.run("init", project, "--model", "digits.onnx").code == 0
    shutil.copy(DIGITS / "model.onnx", project / "digits.onnx")
    x, y = pictures
    np.savez(project / "calibration.npz", x=x[:100])
    np.savez(project / "evaluation.npz", x=x[100:1100], y=y[100:1100].astype(np.int64))
    (project / "labels.txt").write_text("\n".join(f"a {number}" for number in range(10)))
    text = (project / "edgepack.toml").read_text()
    text = text.replace("# labels =", "labels =").replace("# evaluation =", "evaluation =")
    (project / "edgepack.toml").write_text(text + DECLARED)
    return project


def test_what_the_build_measured_on_pictures_is_what_the_device_finds_in_them(shop, project, pictures):
    done = shop.run("build", "--json", cwd=project)
    assert done.code == 0, done.err
    (bundle,) = done.json()["bundles"]
    measured = bundle["candidates"][-1]["drops"][0]["candidate"]["value"]
    board = Device.from_file(project / "keys" / "device.json")
    path = project / "dist" / "digits-1.0.0-raspberry-pi-4.edgepack"
    x, y = (array[100:1100] for array in pictures)
    with open_bundle(path, device=replace(board, state=None, engine_policy="self-test")) as session:
        right = sum(
            session.predict(pixels).found[0].label == f"a {label}" for pixels, label in zip(x, y, strict=True)
        )
    assert right / 1000 == pytest.approx(measured, abs=0.002)


def test_a_declaration_of_another_size_is_refused_before_anything_is_tried(shop, project, tmp_path):
    other = shutil.copytree(project, tmp_path / "other")
    text = (other / "edgepack.toml").read_text()
    (other / "edgepack.toml").write_text(text.replace("size = [28, 28]", "size = [32, 28]"))
    done = shop.run("build", cwd=other)
    assert (done.code, "shape [1, 32, 28], expected [1, 28, 28]" in done.err) == (1, True), done.err
