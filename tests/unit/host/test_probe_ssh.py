"""A board is probed over ssh: here by a program of that name, which runs the command on this machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import edgepack_runtime
from edgepack.cli.app import app
from edgepack.errors import ProfileError
from edgepack.probe_ssh import RemoteBoard, probe_over_ssh
from edgepack.probed import read_probe
from edgepack.profiles import load_profile
from edgepack_runtime import engines
from probedocument import as_bytes, document

RUNTIME = Path(edgepack_runtime.__file__).parents[1]


class Ssh:
    """A program called ssh in a folder of its own, which is first on the PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.board = folder / "bin", folder / "board"
        self.folder.mkdir()
        self.board.mkdir()
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{os.environ['PATH']}")

    def does(self, body: str) -> Ssh:
        program = self.folder / "ssh"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.folder}/arguments\n{body}\n')
        program.chmod(0o700)
        return self

    def runs_it(self, *, path: str = "/usr/bin:/bin") -> Ssh:
        """As sshd: the last argument is a command line for the account's shell, in an environment of its own."""
        return self.does(f'for last; do :; done; cd /; exec env -i HOME=/ PATH={path} /bin/sh -c "$last"')

    def has_runtime(self) -> str:
        """Install edgepack-device on the board, and return the PATH it is on."""
        program = self.board / "edgepack-device"
        command = [sys.executable, "-m", "edgepack_runtime.cli"]
        program.write_text(f'#!/bin/sh\nPYTHONPATH={RUNTIME} exec {shlex.join(command)} "$@"\n')
        program.chmod(0o700)
        return f"{self.board}:/usr/bin:/bin"

    @property
    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().splitlines()


@pytest.fixture
def ssh(tmp_path, monkeypatch) -> Ssh:
    return Ssh(tmp_path, monkeypatch)


def python_alone(folder: Path) -> Path:
    """Return a Python with the engines of this one, and without edgepack and cryptography."""
    site = folder / "site"
    site.mkdir()
    kept = ("numpy", "ai_edge_litert", "tflite_runtime", "backports", "flatbuffers")
    for entry in map(Path, sys.path):
        if entry.name in ("site-packages", "dist-packages"):
            for item in entry.iterdir():
                if item.name.lower().startswith(kept):
                    (site / item.name).symlink_to(item)
    program = folder / "python"
    # Its own packages are not looked at (-S), those of the folder are.
    program.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} -S "$@"\n')
    program.chmod(0o700)
    return program


def test_an_installed_runtime_is_asked(ssh):
    ssh.runs_it(path=ssh.has_runtime())
    found = read_probe(probe_over_ssh(RemoteBoard(destination="pi@board", engine=engines.installed()[0][0])), "board")
    assert [engine.name for engine in found.engines] == [engines.installed()[0][0]]


def test_the_destination_stands_behind_two_dashes_and_nobody_is_asked_for_a_password(ssh):
    ssh.does("echo '{}'")
    probe_over_ssh(RemoteBoard(destination="ssh://pi@board:2222"))
    assert ssh.arguments == ["-T", "-o", "BatchMode=yes", "--", "ssh://pi@board:2222", "edgepack-device probe --json"]


@pytest.mark.parametrize("destination", ["-oProxyCommand=reboot", "", "a b", "a\nb", "a\x1bb"])
def test_what_is_no_destination_is_refused_before_ssh_is_started(ssh, destination):
    ssh.does("echo '{}'")
    with pytest.raises(ProfileError, match="is no destination for ssh"):
        probe_over_ssh(RemoteBoard(destination=destination))
    assert not (ssh.folder / "arguments").exists()


def test_the_boards_shell_takes_a_path_as_one_word(ssh):
    ssh.does("echo '{}'")
    probe_over_ssh(RemoteBoard(destination="board", python="/opt/my python;reboot"))
    assert ssh.arguments[-1] == "'/opt/my python;reboot' -m edgepack_runtime.cli probe --json"


def test_a_board_without_the_runtime_is_told_how_to_get_it_and_nothing_is_sent(ssh):
    ssh.runs_it()
    with pytest.raises(ProfileError, match="pi@board has no edgepack-device that runs the probe") as refused:
        probe_over_ssh(RemoteBoard(destination="pi@board"))
    assert "pip install edgepack-runtime" in refused.value.hint
    assert "--send" in refused.value.hint


def test_a_python_without_the_runtime_is_told(ssh, tmp_path):
    ssh.runs_it()
    with pytest.raises(ProfileError, match=r"that runs the probe: .*No module named"):
        probe_over_ssh(RemoteBoard(destination="board", python=str(python_alone(tmp_path))))


def test_a_sent_runtime_needs_python_numpy_and_an_engine_alone_and_leaves_nothing_behind(ssh, tmp_path):
    ssh.runs_it()
    place = tmp_path / "tmp"
    place.mkdir()
    python = python_alone(tmp_path)
    python.write_text(python.read_text().replace("exec", f"TMPDIR={place} exec"))
    found = read_probe(probe_over_ssh(RemoteBoard(destination="board", python=str(python), send=True)), "board")
    assert {m.verdict for m in found.engines[0].models if m.name.startswith("float32")} == {"right"}
    assert list(place.iterdir()) == []


def test_a_refusal_on_the_board_is_told_with_its_hint(ssh):
    ssh.runs_it(path=ssh.has_runtime())
    with pytest.raises(ProfileError, match=r"^board: other is not installed here$") as refused:
        probe_over_ssh(RemoteBoard(destination="board", engine="other"))
    assert "pip install" in refused.value.hint


def test_what_ssh_says_is_told(ssh):
    ssh.does("echo banner >&2; printf 'Permission denied (publickey).\\033[2J\\r\\n' >&2; exit 255")
    with pytest.raises(
        ProfileError, match=r"^ssh to board failed: Permission denied \(publickey\)\.\?\[2J$"
    ) as refused:
        probe_over_ssh(RemoteBoard(destination="board"))
    assert "ssh-copy-id" in refused.value.hint


def test_a_failure_without_a_refusal_is_told_by_its_last_line(ssh):
    ssh.does("echo '[1]'; echo 'Illegal instruction' >&2; exit 132")
    with pytest.raises(ProfileError, match=r"^board: Illegal instruction$"):
        probe_over_ssh(RemoteBoard(destination="board"))


@pytest.mark.parametrize("body", ["yes", "yes >&2 & yes", "cat /dev/zero"])
def test_a_board_that_never_stops_printing_is_cut_off(ssh, body):
    ssh.does(body if "&" not in body else f"({body})")
    with pytest.raises(ProfileError, match="printed more than 1048576 bytes"):
        probe_over_ssh(RemoteBoard(destination="board"))


def test_a_board_that_says_nothing_is_given_up(ssh, monkeypatch):
    monkeypatch.setattr("edgepack.probe_ssh._SECONDS", 0.3)
    ssh.does("exec sleep 60")
    with pytest.raises(ProfileError, match=r"no answer from the board within 0\.3 seconds"):
        probe_over_ssh(RemoteBoard(destination="board"))


def test_a_greeting_before_the_document_is_skipped(ssh):
    ssh.does("echo 'Welcome to the board'; echo '{\"x\": 1}'")
    assert probe_over_ssh(RemoteBoard(destination="board")) == b'{"x": 1}'


def test_without_ssh_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProfileError, match="ssh is not on the PATH") as refused:
        probe_over_ssh(RemoteBoard(destination="board"))
    assert "openssh-client" in refused.value.hint


def test_the_command_writes_the_profile_and_what_it_was_made_of(ssh, tmp_path):
    (tmp_path / "printed").write_bytes(as_bytes(document()))
    ssh.does(f"cat {tmp_path}/printed")
    done = CliRunner().invoke(app, ["probe", "pi@board", "--name", "my-board", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert load_profile(tmp_path / "my-board.toml").hardware.soc == "brcm,bcm2711"
    assert json.loads((tmp_path / "my-board.probe.json").read_text()) == document()


def test_a_board_that_lies_writes_nothing(ssh, tmp_path):
    ssh.does("echo '{\"edgepack_probe\": 1}'")
    assert CliRunner().invoke(app, ["probe", "pi@board", "-o", str(tmp_path / "out")]).exit_code == 1
    assert not (tmp_path / "out").exists()
