"""What a build without a network says it lacks: everything, at once, and nothing it could do without."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.errors import ToolchainError
from edgepack.offline import refuse_missing
from edgepack.profiles import load_profile
from edgepack.toolchain import Toolchain, engine_toolchain, locate

PROFILE = load_profile("raspberry-pi-4")
ENGINES = [engine_toolchain(PROFILE.engine.name, version).name for version in PROFILE.engine.versions]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path))


def make(*toolchains: Toolchain) -> None:
    for toolchain in toolchains:
        toolchain.folder.mkdir(parents=True)
        (toolchain.folder / ".complete").touch()


def make_engines() -> None:
    make(*(engine_toolchain(PROFILE.engine.name, version) for version in PROFILE.engine.versions))


def lacking(source: str, *via: str) -> str:
    with pytest.raises(ToolchainError) as caught:
        refuse_missing(source, via, (PROFILE,))
    names = caught.value.message.partition("installing: ")[2]
    assert caught.value.hint == f"run `edgepack toolchain install {names.replace(',', '')}` while online"
    return names


def test_everything_that_is_missing_is_named_at_once() -> None:
    assert lacking("torchscript") == ", ".join(["torch", "onnx", *ENGINES])


def test_what_is_there_is_not_named() -> None:
    make(locate("torch"))
    make_engines()
    assert lacking("torchscript") == "onnx"


def test_a_later_road_that_is_there_is_enough() -> None:
    make(locate("onnx-tf"))
    make_engines()
    refuse_missing("onnx", (), (PROFILE,))


def test_only_the_road_that_was_asked_for_counts() -> None:
    make(locate("onnx-tf"))
    make_engines()
    assert lacking("onnx", "onnx2tf") == "onnx"


def test_a_source_without_conversion_needs_the_engines_alone() -> None:
    assert lacking("tflite") == ", ".join(ENGINES)
