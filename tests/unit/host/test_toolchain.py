"""Toolchains are found, refused while offline, and never believed half-made. Nothing is installed from a registry."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgepack.errors import ToolchainError
from edgepack.profiles import list_profiles
from edgepack.toolchain import cache_root, engine_toolchain, ensure, list_toolchains, locate


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silence(text: str) -> None:
    raise AssertionError(f"nothing was to be installed: {text}")


def make(toolchain):
    toolchain.python.parent.mkdir(parents=True)
    toolchain.python.touch()
    (toolchain.folder / ".complete").touch()
    return toolchain


@pytest.mark.parametrize("toolchain", list_toolchains(), ids=lambda t: t.name)
def test_every_line_of_a_shipped_lock_pins_one_version_with_a_hash(toolchain):
    joined = toolchain.requirements.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    assert [line for line in lines if not re.match(r"[A-Za-z0-9._-]+==\S+.*--hash=sha256:[0-9a-f]{64}", line)] == []


@pytest.mark.parametrize("toolchain", list_toolchains(), ids=lambda t: t.name)
def test_no_shipped_lock_names_a_registry(toolchain):
    assert "://" not in toolchain.requirements


def test_a_toolchain_is_found_by_its_name():
    assert locate("onnx").name == "onnx"


def test_an_unknown_toolchain_is_refused_with_those_there_are():
    with pytest.raises(ToolchainError, match=r"there is no toolchain 'pytroch'") as caught:
        locate("pytroch")
    assert "onnx" in caught.value.hint


@pytest.mark.parametrize("profile", list_profiles(), ids=lambda p: p.name)
def test_the_engine_of_every_shipped_profile_has_a_lock_with_hashes(profile):
    assert engine_toolchain(profile.engine.name, profile.engine.version).hashed


def test_an_engine_version_without_a_lock_is_pinned_all_the_same():
    toolchain = engine_toolchain("ai-edge-litert", "1.2.0")
    first, *beside = toolchain.requirements.splitlines()
    assert first == "ai-edge-litert==1.2.0"
    locked = engine_toolchain("tflite-runtime", "2.14.0").requirements
    assert {name.partition("==")[0] for name in beside} == {"cffi", "cryptography", "numpy", "pycparser"}
    assert all(f"{name} " in locked for name in beside)


def test_another_lock_is_another_folder():
    toolchains = [engine_toolchain("ai-edge-litert", version) for version in ("1.2.0", "1.3.0")]
    assert len({t.folder for t in toolchains}) == 2


def test_toolchains_lie_in_the_cache(cache):
    assert (cache_root(), locate("onnx").folder.parent) == (cache, cache / "toolchains")


def test_without_a_setting_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEPACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "edgepack"


def test_a_missing_toolchain_is_refused_while_offline_with_how_to_install_it(cache):
    with pytest.raises(ToolchainError, match=r"toolchain onnx is not installed, and --offline forbids") as caught:
        ensure(locate("onnx"), offline=True, say=silence)
    assert caught.value.hint == "run `edgepack toolchain install onnx` while online"
    assert not cache.exists()


def test_an_installed_toolchain_is_used_while_offline():
    toolchain = make(locate("onnx"))
    assert ensure(toolchain, offline=True, say=silence) == toolchain.python


def test_a_half_made_toolchain_is_not_believed():
    toolchain = make(locate("onnx"))
    (toolchain.folder / ".complete").unlink()
    with pytest.raises(ToolchainError, match=r"not installed"):
        ensure(toolchain, offline=True, say=silence)


def test_a_cache_that_cannot_be_written_is_refused(cache):
    cache.write_text("a file")
    with pytest.raises(ToolchainError, match=r"toolchain onnx: .*cache.*: (Not a directory|File exists)"):
        ensure(locate("onnx"), offline=False, say=silence)


@pytest.mark.slow
def test_a_lock_that_pip_refuses_leaves_nothing_behind(cache):
    said: list[str] = []
    corrupt = replace(locate("onnx"), requirements="this is !! no requirement\n")
    with pytest.raises(ToolchainError, match=r"toolchain onnx cannot be installed: Invalid requirement"):
        ensure(corrupt, offline=False, say=said.append)
    assert [p.name for p in (cache / "toolchains").iterdir() if not p.name.endswith(".lock")] == []
    assert said == [f"installing toolchain onnx (once; into {corrupt.folder})"]


@pytest.mark.slow
def test_a_lock_that_cannot_be_installed_gives_its_own_hint(cache):
    corrupt = replace(locate("torch"), requirements="# hint: look elsewhere\nthis is !! no requirement\n")
    with pytest.raises(ToolchainError) as caught:
        ensure(corrupt, offline=False, say=print)
    assert caught.value.hint == "look elsewhere"
