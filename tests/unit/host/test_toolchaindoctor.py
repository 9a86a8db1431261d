"""The doctor finds what is broken, left over or missing, and says how far this machine bounds a child."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from test_worker_confinement import KIT, TESTS, needs_landlock, needs_namespaces
from typer.testing import CliRunner

from edgepack import toolchaindoctor
from edgepack.cli.app import app
from edgepack.errors import ToolchainError
from edgepack.toolchain import Toolchain, list_toolchains, locate
from edgepack.toolchaindoctor import ERROR, GOOD, WARNING, Finding, examine_toolchains

ENGINE = "engine-ai-edge-litert-2.3.0"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(name: str, command: str) -> Toolchain:
    """Return a toolchain that counts as installed; its Python is a script."""
    toolchain = locate(name)
    toolchain.python.parent.mkdir(parents=True)
    toolchain.python.write_text(f"#!/bin/sh\n{command}\n")
    toolchain.python.chmod(0o755)
    (toolchain.folder / ".complete").touch()
    return toolchain


def of(subject: str, *names: str) -> list[Finding]:
    return [finding for finding in examine_toolchains(names) if finding.subject == subject]


@pytest.mark.parametrize("toolchain", list_toolchains(), ids=lambda t: t.name)
def test_of_every_shipped_toolchain_it_is_known_what_must_be_importable(toolchain: Toolchain) -> None:
    assert toolchaindoctor._modules(toolchain.name)


@pytest.mark.parametrize("toolchain", list_toolchains(), ids=lambda t: t.name)
def test_every_shipped_toolchain_says_what_it_is_for(toolchain: Toolchain) -> None:
    assert len(toolchain.purpose) > 20


def test_a_python_that_does_not_start_is_an_error_with_the_way_out() -> None:
    toolchain = made(ENGINE, "exit 3")
    (finding,) = of(ENGINE)
    assert (finding.severity, finding.text) == (ERROR, "toolchaindoctor ended with exit code 3")
    assert finding.remedy == f"rm -r {toolchain.folder} && edgepack toolchain install {ENGINE}"


def test_other_packages_than_the_locks_are_errors() -> None:
    made(ENGINE, f'exec "{sys.executable}" "$@"')
    texts = [finding.text for finding in of(ENGINE) if finding.severity == ERROR]
    assert "pytest" in " ".join(text for text in texts if text.endswith("is not in the lock"))


def test_a_package_of_another_version_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sight = ("ai-edge-litert==2.2.0", "numpy==1.0")
    texts = list(toolchaindoctor._differences(locate(ENGINE), sight))
    assert "ai-edge-litert is 2.2.0, the lock says 2.3.0" in texts
    assert any(text.startswith("cryptography ") and text.endswith(" is missing") for text in texts)


def test_names_are_compared_as_package_registries_do() -> None:
    pinned = [f"{name.replace('-', '_').upper()}=={v}" for name, v in toolchaindoctor._pinned(locate(ENGINE)).items()]
    normal = [f"{toolchaindoctor._normal(p.split('==')[0])}=={p.split('==')[1]}" for p in pinned]
    assert list(toolchaindoctor._differences(locate(ENGINE), normal)) == []


def test_a_module_that_cannot_be_imported_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toolchaindoctor._MODULES, "onnx", ("json", "no_such_module"))
    made("onnx", f'exec "{sys.executable}" "$@"')
    texts = [finding.text for finding in of("onnx")]
    assert [t for t in texts if t.startswith("cannot import")] == [
        "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"
    ]


def test_a_toolchain_that_is_not_installed_is_a_warning_if_asked_for() -> None:
    (finding,) = of("onnx", "onnx")
    assert (finding.severity, finding.text, finding.remedy) == (
        WARNING,
        "not installed",
        "edgepack toolchain install onnx",
    )


def test_an_unknown_toolchain_is_refused_with_those_there_are() -> None:
    with pytest.raises(ToolchainError, match=r"there is no toolchain 'pytorch'") as caught:
        list(examine_toolchains(["pytorch"]))
    assert "onnx" in str(caught.value.hint)


def test_an_installation_that_did_not_end_is_found_with_what_it_holds() -> None:
    folder = locate("onnx").folder
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(bytes(3_000_000))
    (finding,) = of(folder.name)
    assert (finding.severity, finding.remedy) == (WARNING, f"rm -r {folder}")
    assert finding.text.startswith("an installation that did not end; 3.0 MB")


def test_what_a_killed_build_left_is_found_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "edgepack-abcdefgh"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(bytes(3_000_000))
    os.utime(folder, (1, 1))
    (finding,) = of(folder.name)
    assert (finding.severity, finding.remedy) == (WARNING, f"rm -r {folder}")
    assert finding.text == f"left in {tmp_path} by a build that was killed; 3.0 MB"


def test_an_installation_that_goes_on_is_no_leftover() -> None:
    folder = locate("onnx").folder
    folder.mkdir(parents=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert of(folder.name) == []


def test_a_toolchain_of_an_older_lock_file_is_found(cache: Path) -> None:
    folder = cache / "toolchains" / "onnx-0123456789ab"
    folder.mkdir(parents=True)
    (folder / ".complete").touch()
    (finding,) = of(folder.name)
    assert finding.text.startswith("of an older lock file, or of an engine version without one; ")


def test_the_python_that_toolchains_are_made_with_is_named() -> None:
    (finding,) = of("Python 3.11")
    assert finding.severity == GOOD
    assert Path(finding.text).exists()


def test_the_memory_limit_is_tried() -> None:
    assert [finding.severity for finding in of("memory limit")] == [GOOD]


@needs_namespaces
@needs_landlock
def test_a_machine_that_can_do_all_is_found_good() -> None:
    found = {f.subject: f.severity for f in examine_toolchains()}
    assert {subject: found[subject] for subject in ("network", "files", "processes")} == dict.fromkeys(
        ("network", "files", "processes"), GOOD
    )


@pytest.mark.parametrize(
    ("without", "subject", "said"),
    [
        ("namespaces,seccomp", "network", "converters can reach the network"),
        ("landlock", "files", "converters can read your files"),
        ("namespaces", "processes", "could outlive it"),
    ],
)
def test_what_a_machine_cannot_do_is_a_warning_that_says_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str, subject: str, said: str
) -> None:
    script = tmp_path / "python"
    kernel = TESTS / "workerkit" / "older_kernel.py"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{kernel}" {without} "{sys.executable}" "$@" {KIT}\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    (finding,) = of(subject)
    assert finding.severity == WARNING
    assert said in finding.text
    assert finding.remedy


def test_the_command_ends_with_1_if_something_is_broken_and_says_what() -> None:
    made(ENGINE, "exit 3")
    done = CliRunner().invoke(app, ["toolchain", "doctor", ENGINE, "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["good"], [f["severity"] for f in told["findings"] if f["subject"] == ENGINE]) == (False, [ERROR])


def test_warnings_alone_end_with_0(cache: Path) -> None:
    (cache / "toolchains" / "onnx-0123456789ab").mkdir(parents=True)
    assert CliRunner().invoke(app, ["toolchain", "doctor", "--json"]).exit_code == 0


def test_the_list_says_what_each_takes_and_is_for() -> None:
    toolchain = made(ENGINE, "exit 3")
    (toolchain.folder / "package").write_bytes(bytes(2_000_000))
    told = {
        item["name"]: item for item in json.loads(CliRunner().invoke(app, ["toolchain", "list", "--json"]).stdout)
    }
    assert told[ENGINE]["installed"]
    assert told[ENGINE]["bytes"] >= 2_000_000
    assert not told["onnx"]["installed"]
    assert told["onnx"]["purpose"].startswith("ONNX -> TFLite")
