"""A board is probed over the system's real ssh, by a server with throwaway keys on this machine."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.profiles import load_profile
from edgepack_runtime import engines

pytestmark = pytest.mark.slow
PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def programs() -> dict[str, str]:
    found = {name: shutil.which(name, path=PLACES) for name in ("ssh", "sshd", "ssh-keygen")}
    if gone := [name for name, path in found.items() if path is None]:
        # Not even CI installs a server that listens to the world; tests/unit/host/test_probe_ssh.py needs none.
        pytest.skip(f"this test needs {', '.join(gone)}: apt-get install openssh-server (on Debian or Ubuntu)")
    return {name: str(path) for name, path in found.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Give the destination of a server, and a folder with an ssh that knows its keys."""
    found, port = programs(), free_port()
    for name in ("host", "user"):
        subprocess.run([found["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path / 'host'}\n"
        f"AuthorizedKeysFile {tmp_path / 'authorized'}\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    host = (tmp_path / "host.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host}")
    (tmp_path / "config").write_text(f"IdentityFile {tmp_path / 'user'}\nUserKnownHostsFile {tmp_path / 'known'}\n")
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {found["ssh"]} -F {tmp_path / "config"} "$@"\n')
    ssh.chmod(0o700)
    log = (tmp_path / "log").open("wb")
    running = subprocess.Popen([found["sshd"], "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=log)
    try:
        deadline = time.monotonic() + 10
        while not answers(port) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.poll() is None, (tmp_path / "log").read_text()
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}", tmp_path / "bin"
    finally:
        running.terminate()
        running.wait()
        log.close()


def edgepack(programs_in: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{programs_in}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "edgepack", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def test_a_board_is_probed_over_the_systems_ssh(server, tmp_path):
    destination, ssh = server
    done = edgepack(ssh, "probe", destination, "--send", "--python", sys.executable, "--name", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    assert load_profile(tmp_path / "here.toml").engine.name in dict(engines.installed())
    assert json.loads((tmp_path / "here.probe.json").read_text())["engines"][0]["models"]


def test_a_key_the_board_does_not_know_is_told_without_asking_for_a_password(server, tmp_path):
    destination, ssh = server
    (tmp_path / "authorized").write_text("")
    done = edgepack(ssh, "probe", destination, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"ssh to {destination} failed: " in done.stderr
    assert "Permission denied" in done.stderr
    assert "ssh-copy-id" in done.stderr
