"""The two wheels as pip builds and installs them, in environments of their own."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "runtime"):
        # No build isolation: hatchling is pinned in the development environment, and nothing is downloaded.
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
             "--disable-pip-version-check", "-w", str(folder), str(source)],
            check=True,
        )  # fmt: skip
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_runtime_wheel_holds_the_runtime_alone(wheels):
    tops = {name.split("/")[0] for name in names(wheels["edgepack_runtime"])}
    assert tops == {"edgepack_runtime", "edgepack_runtime-0.1.0.dist-info"}


def test_the_runtime_wheel_stays_under_130_kb(wheels):
    # The goal is 120 kB; the store brought it to 128.
    assert wheels["edgepack_runtime"].stat().st_size <= 130_000


def test_the_runtime_wheel_needs_only_numpy_and_cryptography(wheels):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        text = archive.read("edgepack_runtime-0.1.0.dist-info/METADATA").decode()
    needs = [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert sorted(line.split()[1].split(">")[0] for line in needs) == ["cryptography", "numpy"]


def test_the_host_wheel_carries_profiles_lock_files_and_data(wheels):
    inside = names(wheels["edgepack"])
    for wanted in (
        "edgepack/device_profiles/raspberry-pi-4.toml",
        "edgepack/toolchains/onnx.txt",
        "edgepack/data/op_versions.csv",
    ):
        assert wanted in inside


def test_the_host_wheel_needs_no_framework(wheels):
    with zipfile.ZipFile(wheels["edgepack"]) as archive:
        text = archive.read("edgepack-0.1.0.dist-info/METADATA").decode()
    needs = [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not [line for line in needs if "tensorflow" in line or "onnx" in line or "torch" in line]


def test_the_runtime_imports_alone_and_the_sdk_does_not(wheels, tmp_path):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import edgepack_runtime\n"
        "try:\n    import edgepack\nexcept ImportError:\n    print('alone')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alone", done.stderr
