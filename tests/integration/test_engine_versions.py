"""A profile that lists further engine versions: a bundle is proven under each, and a device may have any of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack.profiles import load_profile, write_profile
from edgepack_runtime.profile import Source

pytestmark = pytest.mark.slow
MODEL = Path(__file__).parent.parent / "data" / "tiny" / "digits.tflite"


def board(folder: Path, version: str, *also: str, **limits: object) -> Path:
    """Return the file of a board with these engine versions."""
    base = load_profile("raspberry-pi-4")
    sources = dict(base.sources) | {"engine.also": Source(kind="assumed", text="for a test")}
    profile = replace(
        base,
        name="two-engines",
        aliases=(),
        engine=replace(base.engine, version=version, also=also),
        sources=tuple(sorted(sources.items())),
        **limits,
    )
    return write_profile(profile, folder)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "calibration.npz"
    x = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)
    np.savez(path, **{"x": x})
    return path


def test_the_evidence_names_each_version_and_a_device_may_have_the_second(shop, samples, tmp_path):
    path = board(tmp_path, "2.1.0", "2.3.0")
    done = shop.run(
        "build", MODEL, "--calibration", samples, "--profile", path, "--precision", "float32", "--json",
        "-o", tmp_path / "out", "--name", "digits",
    )  # fmt: skip
    assert done.code == 0, done.err
    (bundle,) = done.json()["bundles"]
    golden = [item["environment"] for item in bundle["manifest"]["evidence"] if item["check"] == "golden outputs"]
    assert [where.split(" on ")[0] for where in golden] == ["ai-edge-litert 2.1.0", "ai-edge-litert 2.3.0"]
    (file,) = (tmp_path / "out").iterdir()
    checked = shop.run("validate", file, "--profile", path, "--json")
    assert checked.code == 0, checked.err
    where = [c["environment"] for c in checked.json()["checks"] if c["check"] == "golden outputs"]
    assert [text.split(" on ")[0] for text in where] == ["ai-edge-litert 2.1.0", "ai-edge-litert 2.3.0"]
