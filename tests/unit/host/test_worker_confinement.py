"""What a child process is kept from, as root and as an ordinary user: sockets, others' files, a life of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack import worker
from edgepack.errors import WorkerError
from edgepack.worker import Limits, Workplace, run_task
from workerkit.tasks import Ask, Tell

TESTS = Path(__file__).resolve().parents[2]
KIT = f'"workerkit={TESTS / "workerkit"}"'
DENIED = "Permission denied"


def _kernel_has(flags: int) -> bool:
    child = os.fork()
    if child == 0:
        import ctypes

        libc = ctypes.CDLL(None)
        os._exit(0 if libc.unshare(flags) == 0 or libc.unshare(0x10000000 | flags) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def _has_landlock() -> bool:
    import ctypes

    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) > 0


def _may_become_nobody() -> bool:
    """Return whether another user can run our interpreter and read what a child reads."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    files = [worker.__file__, str(TESTS / "workerkit" / "tasks.py")]
    code = f"import numpy\nfor name in {files!r}: open(name).close()"
    command = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


needs_landlock = pytest.mark.skipif(not _has_landlock(), reason="this kernel has no Landlock")
needs_namespaces = pytest.mark.skipif(
    not _kernel_has(0x60000000), reason="this machine lets nobody into namespaces of their own"
)


def interpreter(folder: Path, command: str) -> Path:
    folder.mkdir(exist_ok=True)
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    return script


@pytest.fixture(params=["us", "nobody"])
def place(request, tmp_path):
    """Return a workplace of the user who runs the tests, and one of a user who may nothing."""
    command = f'exec "{sys.executable}" "$@" {KIT}'
    if request.param == "nobody":
        if not _may_become_nobody():
            pytest.skip("needs root, to become somebody else")
        command = f"chmod 777 .\nexec setpriv --reuid 65534 --clear-groups {command.removeprefix('exec ')}"
        tmp_path.chmod(0o755)
    return Workplace(python=interpreter(tmp_path / "python", command), limits=Limits(seconds=60))


@pytest.fixture
def us(tmp_path):
    script = interpreter(tmp_path / "ours", f'exec "{sys.executable}" "$@" {KIT}')
    return Workplace(python=script, limits=Limits(seconds=60))


@pytest.fixture
def open_folder():
    """Return a folder that every user can get at; pytest's own are the user's alone."""
    folder = Path(worker.tempfile.mkdtemp(prefix="edgepack-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def ask(function: str, place: Workplace, **fields: object) -> str:
    return run_task(f"workerkit.tasks:{function}", Ask(**({"arrays": {}} | fields)), Tell, place).text


def _processes_with(word: str) -> list[Path]:
    return [p for p in Path("/proc").iterdir() if p.name.isdigit() and word.encode() in _command_line(p)]


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def running(word: str) -> bool:
    """Return whether a process with `word` on its command line lives, a moment after it should not."""
    deadline = time.monotonic() + 2
    while _processes_with(word) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(_processes_with(word))


# Sockets


def test_a_child_can_open_no_socket_of_any_family(place):
    assert ask("open_sockets", place) == DENIED


@needs_namespaces
def test_a_child_sees_no_network_interface_but_its_own_loop(place):
    assert "interfaces=lo" in ask("look_around", place).splitlines()


def older_kernel(tmp_path: Path, without: str) -> tuple[Workplace, list[str]]:
    heard: list[str] = []
    start = f'"{sys.executable}" "{TESTS / "workerkit" / "older_kernel.py"}" {without}'
    script = interpreter(tmp_path / "older", f'exec {start} "{sys.executable}" "$@" {KIT}')
    return Workplace(python=script, say=heard.append), heard


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@needs_namespaces
def test_without_seccomp_a_child_is_still_in_a_network_of_its_own(tmp_path, listener):
    place, heard = older_kernel(tmp_path, "seccomp,landlock")
    assert ask("connect", place, number=listener) == "Network is unreachable"
    assert [gap for gap in heard if "network" in gap] == []


def test_without_namespaces_a_child_still_opens_no_socket(tmp_path):
    place, heard = older_kernel(tmp_path, "namespaces")
    assert ask("open_sockets", place) == DENIED
    assert heard == []


def test_a_network_that_cannot_be_taken_away_is_told(tmp_path):
    place, heard = older_kernel(tmp_path, "namespaces,seccomp")
    assert ask("echo", place, text="works") == "works"
    assert "converters and engines are not cut off from the network on this machine (Function not impl" in heard[0]


# Files


@needs_landlock
def test_a_key_beside_the_model_cannot_be_read(place, open_folder):
    model, key = open_folder / "model.onnx", open_folder / "release.pem"
    model.write_text("model")
    key.write_text("secret")
    assert ask("try_to", place, source=model, text=str(key)) == DENIED


def test_the_model_itself_can_be_read(place, open_folder):
    (open_folder / "model.onnx").write_text("model")
    assert ask("try_to", place, source=open_folder / "model.onnx", text=str(open_folder / "model.onnx")) == "model"


def test_a_folder_stands_for_everything_in_it(place, open_folder):
    (open_folder / "variables").mkdir()
    (open_folder / "variables" / "index").write_text("weights")
    told = ask("try_to", place, source=open_folder, text=str(open_folder / "variables" / "index"))
    assert told == "weights"


@needs_landlock
@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/hostname", "/root/.bashrc", "/var/log/dpkg.log"])
def test_files_of_the_machine_cannot_be_read(us, path):
    assert ask("try_to", us, text=path) == DENIED


@needs_landlock
def test_the_environment_of_the_parent_cannot_be_read(place):
    assert ask("try_to", place, text=f"/proc/{os.getpid()}/environ") == DENIED


@needs_landlock
@needs_namespaces
def test_shared_memory_of_other_programs_cannot_be_attached(place):
    import ctypes

    libc = ctypes.CDLL(None)
    segment = libc.shmget(0, ctypes.c_size_t(4096), 0o1600)
    assert segment >= 0
    try:
        assert ask("attach_shared_memory", place, number=segment) == "Invalid argument"
    finally:
        libc.shmctl(segment, 0, None)


def test_the_model_cannot_be_changed(place, open_folder):
    model = open_folder / "model.onnx"
    model.write_text("model")
    model.chmod(0o666)
    assert ask("try_to", place, source=model, text=str(model), number=1) == DENIED
    assert model.read_text() == "model"


@needs_landlock
@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm"])
def test_no_file_can_be_left_where_everybody_may_write(place, folder):
    path = Path(folder, f"edgepack-left-{os.getpid()}")
    assert ask("try_to", place, text=str(path), number=1) == DENIED
    assert not path.exists()


def test_the_scratch_folder_can_be_written(place, open_folder):
    assert ask("try_to", place, scratch=open_folder, text=str(open_folder / "out"), number=1) == "written"


@needs_namespaces
def test_without_landlock_the_work_is_done_and_the_gap_is_told(tmp_path):
    place, heard = older_kernel(tmp_path, "landlock")
    assert ask("echo", place, text="works") == "works"
    assert heard == [
        "converters and engines are not kept from other files on this machine (Landlock: Function not implemented)"
    ]


# Rights and signals


def test_a_child_has_none_of_roots_rights_but_those_over_files(place):
    (rights,) = (line for line in ask("look_around", place).splitlines() if line.startswith("rights="))
    assert int(rights.removeprefix("rights="), 16) & ~0xF == 0


@needs_namespaces
def test_a_child_cannot_signal_its_parent(place):
    assert ask("signal_a_process", place, number=os.getpid()) == "No such process"


# A life of its own


@needs_namespaces
def test_a_grandchild_in_a_session_of_its_own_ends_with_the_work(place):
    heard: list[str] = []
    word = f"edgepack-grandchild-{os.getpid()}-{time.monotonic_ns()}"
    assert ask("leave_a_grandchild", replace(place, log=heard.append), text=word) == "gone"
    assert word in heard[0]
    assert not running(word)


def test_a_child_that_hangs_is_stopped_with_everything_it_started(place):
    heard: list[str] = []
    word = f"edgepack-sleeper-{os.getpid()}-{time.monotonic_ns()}"
    hurried = replace(place, limits=replace(place.limits, seconds=2), log=heard.append)
    with pytest.raises(WorkerError, match=r"did not finish within 2 s and was stopped"):
        ask("hang_with_a_child", hurried, text=word)
    assert word in heard[0]
    assert not running(word)


@needs_namespaces
def test_a_grandchild_does_not_outlive_a_parent_that_is_killed(us, tmp_path):
    word = f"edgepack-orphan-{os.getpid()}-{time.monotonic_ns()}"
    code = (
        "import sys; from pathlib import Path; from edgepack.worker import *; from workerkit.tasks import *\n"
        f"run_task('workerkit.tasks:hang_with_a_child', Ask(arrays={{}}, text={word!r}), Tell, "
        f"Workplace(python=Path({str(us.python)!r})))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as parent:
        deadline = time.monotonic() + 20
        while len(_processes_with(word)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(_processes_with(word)) >= 2
        parent.send_signal(signal.SIGKILL)
    assert not running(word)


@needs_namespaces
def test_a_child_that_multiplies_is_stopped(place):
    few = replace(place, limits=replace(place.limits, processes=5))
    with pytest.raises(WorkerError, match=r"^workerkit.tasks started more processes than allowed and was stopped$"):
        ask("multiply", few, number=20)


@needs_namespaces
def test_as_many_processes_as_allowed_are_given(place):
    assert ask("multiply", replace(place, limits=replace(place.limits, processes=20)), number=20) == "many"


def test_a_child_that_never_stops_printing_is_stopped(us, monkeypatch):
    monkeypatch.setattr(worker, "_MAX_PRINTED", 4 << 20)
    with pytest.raises(WorkerError, match=r"^workerkit.tasks printed more than 4 MiB and was stopped$"):
        ask("babble", us)


def test_no_more_than_the_end_of_what_was_printed_is_kept(us, monkeypatch):
    heard: list[str] = []
    monkeypatch.setattr(worker, "_MAX_PRINTED", 4 << 20)
    with pytest.raises(WorkerError):
        ask("babble", replace(us, log=heard.append))
    assert len(heard[0]) <= 64 << 10
