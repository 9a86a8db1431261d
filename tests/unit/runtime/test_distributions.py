"""Which version of an engine is installed, as `importlib.metadata` would say it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from edgepack_runtime.engines._distributions import installed_version


@pytest.mark.parametrize("name", ["numpy", "cryptography", "ai-edge-litert", "no-such-engine"])
def test_a_version_is_the_one_that_importlib_tells(name):
    try:
        wanted = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        wanted = None
    assert installed_version(name) == wanted


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("tflite_runtime-2.14.0.dist-info", "2.14.0"),
        ("tflite_runtime-2.5.0.post1.egg-info", "2.5.0.post1"),
        ("tflite_runtime-2.5.0-py3.9.egg-info", "2.5.0"),
        ("TFLite_Runtime-2.14.0+local.dist-info", "2.14.0+local"),
        ("tflite_runtime_nightly-2.14.0.dist-info", None),
        ("tflite_runtime", None),
        ("tflite_runtime-2.14.0.dist-info.bak", None),
    ],
)
def test_folders_of_wheels_and_of_debian_are_read(monkeypatch, tmp_path, entry, found):
    (tmp_path / entry).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "missing"), str(tmp_path)])
    assert installed_version("tflite-runtime") == found


def test_the_first_on_the_path_counts(monkeypatch, tmp_path):
    for folder, version in (("a", "2.0"), ("b", "1.0")):
        (tmp_path / folder / f"engine-{version}.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "b"), str(tmp_path / "a")])
    assert installed_version("engine") == "1.0"


def test_opening_a_bundle_imports_nothing_that_a_device_does_not_need_for_it():
    script = (
        "import sys; import edgepack_runtime.device, edgepack_runtime.session; "
        "from edgepack_runtime.engines import installed; installed(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    idle = {"importlib.metadata", "email", "zipfile", "difflib", "asyncio", "argparse", "secrets"}
    idle |= {f"edgepack_runtime.{name}" for name in ("statefile", "storefile", "trust_update", "pool", "latency")}
    assert imported & idle == set()
