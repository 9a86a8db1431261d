"""A child process: what it answers, raises, and how it ends is told, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack_runtime.apart import apart
from edgepack_runtime.errors import EngineError, RollbackError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no child")


def do(work, seconds=30.0):
    return apart(work, what="trial", seconds=seconds)


def die_by(number):
    os.kill(os.getpid(), number)
    return {}


def raised(error):
    raise error


def test_an_answer_comes_from_another_process():
    assert do(lambda: {"pid": os.getpid()})["pid"] != os.getpid()


def test_an_answer_longer_than_a_pipe_comes_whole():
    assert do(lambda: {"text": "x" * 1_000_000}) == {"text": "x" * 1_000_000}


def test_an_error_of_the_tree_is_raised_as_what_it_is():
    with pytest.raises(RollbackError, match=r"^older$") as caught:
        do(lambda: raised(RollbackError("older", hint="publish again")))
    assert caught.value.hint == "publish again"


def test_an_engine_error_says_of_what():
    with pytest.raises(EngineError, match=r"^trial: node 3 failed$"):
        do(lambda: raised(EngineError("node 3 failed")))


def test_another_exception_is_an_engine_error_without_a_traceback(capfd):
    with pytest.raises(EngineError, match=r"^trial: MemoryError: "):
        do(lambda: raised(MemoryError()))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL])
def test_a_crash_is_told_by_its_signal(number):
    with pytest.raises(EngineError, match=f"its process was ended by {number.name}$"):
        do(lambda: die_by(number))


def test_a_kill_points_to_memory():
    with pytest.raises(EngineError, match="SIGKILL, as the kernel does when memory runs out"):
        do(lambda: die_by(signal.SIGKILL))


def test_a_process_that_just_ends_has_given_no_answer():
    with pytest.raises(EngineError, match="ended without an answer"):
        do(lambda: os._exit(0))


def test_half_an_answer_is_none():
    def die_half_way():
        write = os.write

        def half(writer, data):
            write(writer, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        os.write = half
        return {"text": "whole"}

    with pytest.raises(EngineError, match=r"^trial: its process was ended by SIGKILL"):
        do(die_half_way)


def test_a_child_that_hangs_is_killed():
    with pytest.raises(EngineError, match=r"no answer within 0\.2 seconds"):
        do(lambda: time.sleep(60), seconds=0.2)


def test_nothing_is_left_of_a_child():
    before = descriptors()
    for work in (dict, lambda: die_by(signal.SIGSEGV)):
        try:
            do(work)
        except EngineError:
            continue
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_handler_of_the_application_does_not_run_in_the_child():
    heard = []
    previous = signal.signal(signal.SIGTERM, lambda *_: heard.append("here"))
    try:
        with pytest.raises(EngineError, match="ended by SIGTERM"):
            do(lambda: die_by(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_what_the_application_has_not_written_yet_is_not_written_twice():
    program = (
        "from edgepack_runtime.apart import apart\n"
        "import atexit\n"
        "atexit.register(print, 'end')\n"
        "print('begun', end=' ')\n"
        "apart(dict, what='', seconds=9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "begun end\n"


def test_a_child_ends_with_its_parent_when_that_is_killed(tmp_path):
    told = tmp_path / "pid"
    program = (
        "import os, pathlib, sys, time\n"
        "from edgepack_runtime.apart import apart\n"
        "def work():\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "apart(work, what='', seconds=60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(told)])
    wait_until(lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(child))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
