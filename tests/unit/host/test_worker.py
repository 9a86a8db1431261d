"""Real child processes: whatever they do, the parent gets an answer or one of our errors."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack import _wire
from edgepack._wire import Message
from edgepack.errors import PassError, WorkerError
from edgepack.worker import Limits, Workplace, abandoned_folders, run_task, scratch_folder
from edgepack_runtime.errors import EdgepackError, InputError
from workerkit.tasks import Ask, Tell

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a workplace whose interpreter is ours and also finds `workerkit`, as one more root for `_child`."""
    return Workplace(python=_interpreter(tmp_path_factory.mktemp("python")), limits=Limits(seconds=60))


def _interpreter(folder: Path, command: str = "") -> Path:
    script = folder / "python"
    command = command or f'exec "{sys.executable}" "$@" "workerkit={TESTS / "workerkit"}"'
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    return script


def ask(function: str, place: Workplace, **fields: object) -> Tell:
    return run_task(f"workerkit.tasks:{function}", Ask(**({"arrays": {}} | fields)), Tell, place)


@pytest.fixture(scope="module")
def surroundings(place):
    """Return what a child sees, with a secret in our own environment."""
    os.environ["EDGEPACK_TEST_SECRET"] = "hunter2"
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        lines = ask("look_around", place).text.splitlines()
    finally:
        del os.environ["EDGEPACK_TEST_SECRET"], os.environ["OMP_NUM_THREADS"]
    return dict(line.partition("=")[::2] for line in lines)


def test_arrays_and_text_go_there_and_back(place):
    arrays = {"b": np.arange(6, dtype=np.int16).reshape(2, 3), "a": np.array([1.5], np.float32)}
    told = ask("echo", place, text="grüße\n", arrays=arrays)
    assert told.text == "grüße\n"
    assert list(told.arrays) == ["b", "a"]
    np.testing.assert_array_equal(told.arrays["b"], arrays["b"])


def test_what_the_child_prints_does_not_corrupt_its_reply(place):
    heard: list[str] = []
    assert ask("shout", replace(place, log=heard.append)).text == "still whole"
    assert [word in heard[0] for word in ("standard output", "descriptor 1", "child's child", "error")] == [True] * 4


def test_signals_come_through_once_a_child_has_been_started(place):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    ask("echo", place)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_an_error_of_ours_comes_back_as_its_class_with_its_hint(place):
    with pytest.raises(PassError, match=r"^no scales for this one$") as caught:
        ask("refuse", place)
    assert caught.value.hint == "calibrate it"


def test_a_runtime_error_of_ours_comes_back_as_its_class(place):
    with pytest.raises(InputError, match=r"expected dtype int8"):
        ask("refuse_input", place)


def test_an_error_class_that_is_not_in_our_tree_is_a_failure(place):
    with pytest.raises(WorkerError, match=r"workerkit.tasks failed: not in our tree"):
        ask("refuse_with_a_class_of_its_own", place)


def test_a_foreign_exception_is_told_in_one_line(place):
    heard: list[str] = []
    with pytest.raises(WorkerError) as caught:
        ask("fail", replace(place, log=heard.append))
    assert caught.value.message == "workerkit.tasks failed: ValueError: first line"
    assert "Traceback" in heard[0]


def test_a_childs_words_cannot_command_the_terminal(place):
    with pytest.raises(PassError) as caught:
        ask("draw", place)
    assert (caught.value.message, caught.value.hint) == ("[2Jgone  and a second line", "ring")


def test_a_crash_names_its_signal(place):
    with pytest.raises(WorkerError, match=r"workerkit.tasks crashed \(SIGSEGV\)"):
        ask("null_pointer", place)


def test_an_exit_code_is_told_with_the_last_words(place):
    with pytest.raises(WorkerError, match=r"ended with exit code 7") as caught:
        ask("leave", place, number=7)
    assert caught.value.hint == "its last words: going now"


def test_a_child_that_leaves_quietly_sent_no_valid_reply(place):
    with pytest.raises(WorkerError, match=r"sent no valid reply: message: ended after 0 of"):
        ask("leave", place, number=0)


def test_another_answer_than_promised_is_no_valid_reply(place):
    with pytest.raises(WorkerError, match=r"sent no valid reply: .* a Tell has the fields"):
        ask("answer_otherwise", place)


def test_an_unknown_function_is_a_failure(place):
    with pytest.raises(WorkerError, match=r"has no attribute 'nothing'"):
        ask("nothing", place)


def test_more_memory_than_allowed_is_told_as_such(place):
    limits = replace(place.limits, memory_bytes=1 << 30)
    with pytest.raises(WorkerError, match=r"^workerkit.tasks ran into its memory limit$"):
        ask("eat_memory", replace(place, limits=limits), number=2 << 30)


def test_a_library_that_aborts_for_lack_of_memory_ran_into_the_limit(place):
    said = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc"
    with pytest.raises(WorkerError, match=r"^workerkit.tasks ran into its memory limit$") as caught:
        ask("abort", place, text=said)
    assert caught.value.hint == "its last words: what():  std::bad_alloc"


def test_a_library_that_aborts_for_another_reason_crashed(place):
    with pytest.raises(WorkerError, match=r"^workerkit.tasks crashed \(SIGABRT\)$"):
        ask("abort", place, text="an assertion failed")


@pytest.mark.parametrize(
    "said",
    [
        "onnxruntime cannot run the model: Exception during initialization: std::bad_alloc",
        "TensorFlow cannot run the model: ResourceExhaustedError: OOM when allocating tensor with shape[9,9]",
        "PyTorch cannot run the model: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
    ],
)
def test_an_error_of_a_framework_without_memory_says_what_the_limit_is(place, said):
    with pytest.raises(PassError) as caught:
        ask("refuse_in_words", place, text=said)
    assert "memory limit of a child process" in (caught.value.hint or "")


def test_memory_within_the_limit_is_given(place):
    assert ask("eat_memory", place, number=1 << 20).text == str(1 << 20)


def test_more_cpu_time_than_allowed_is_told_as_such(place):
    limits = replace(place.limits, cpu_seconds=1)
    with pytest.raises(WorkerError, match=r"used up its CPU time"):
        ask("burn", replace(place, limits=limits))


def test_a_larger_file_than_allowed_cannot_be_written(place):
    limits = replace(place.limits, file_bytes=1000)
    with pytest.raises(WorkerError, match=r"File too large"):
        ask("write_much", replace(place, limits=limits), number=2000)


def test_the_environment_of_the_caller_is_not_handed_on(surroundings):
    handed = {name for name in surroundings if name.startswith("$")}
    assert handed - {"$OMP_NUM_THREADS", "$PWD", "$SHLVL", "$_"} == {
        "$PATH", "$HOME", "$TMPDIR", "$LANG",
        "$TF_CPP_MIN_LOG_LEVEL", "$TF_ENABLE_ONEDNN_OPTS", "$CUDA_VISIBLE_DEVICES",
    }  # fmt: skip


def test_what_tunes_numeric_libraries_is_handed_on(surroundings):
    assert surroundings["$OMP_NUM_THREADS"] == "1"


def test_a_child_works_in_a_private_folder_that_is_its_home(surroundings):
    assert surroundings["mode"] == "0o700"
    assert surroundings["cwd"] == surroundings["home"] == surroundings["temporary"]


def test_the_private_folder_is_gone_afterwards(surroundings):
    assert not Path(surroundings["cwd"]).exists()


def test_a_child_dumps_no_core_and_leads_a_session_of_its_own(surroundings):
    assert (surroundings["core"], surroundings["session"]) == ("0", "True")


def test_nothing_is_left_in_a_childs_standard_input(surroundings):
    assert surroundings["stdin"] == "0"


def test_an_interpreter_that_is_not_there_is_a_worker_error(tmp_path):
    with pytest.raises(WorkerError, match=r"cannot start .*No such file"):
        ask("echo", Workplace(python=tmp_path / "python"))


def _reply(value: object, blobs: tuple[bytes, ...] = ()) -> bytes:
    frame = io.BytesIO()
    _wire.write_message(frame, Message(value, blobs))
    return frame.getvalue()


GOOD = {"result": {"text": "x", "arrays": []}}


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage of some length to fill a head",
        _reply(GOOD)[:-1],
        _reply("text"),
        _reply({}),
        _reply({"error": 5}),
        _reply({"error": {"error": ["PassError"], "message": "x", "hint": ""}}),
        _reply({"error": {"error": "PassError", "message": "x", "hint": "", "extra": 1}}),
        _reply({"result": {"text": 5, "arrays": []}}),
        _reply({"result": {"text": "x", "arrays": [["a", {"blob": 1, "dtype": "float32", "shape": []}]]}}),
        _reply(
            {"result": {"text": "x", "arrays": [["a", {"blob": 0, "dtype": "object", "shape": [1]}]]}}, (b"x" * 8,)
        ),
        _reply({"result": {"text": "x", "arrays": [["a", {"blob": 0, "dtype": "int8", "shape": [-5]}]]}}, (b"x",)),
        b"EPKW" + (1).to_bytes(4, "little") + (2).to_bytes(8, "little") + b"{}" + b"\xff" * 8,
        b"EPKW" + (0).to_bytes(4, "little") + (1 << 63).to_bytes(8, "little"),
    ],
)
def test_a_hostile_reply_is_a_worker_error(tmp_path, reply):
    (tmp_path / "reply").write_bytes(reply)
    hostile = _interpreter(tmp_path, f'cat >/dev/null; cat "{tmp_path / "reply"}"')
    with pytest.raises(WorkerError, match=r"sent no valid reply"):
        ask("echo", Workplace(python=hostile))


@pytest.mark.parametrize("name", ["GateError", "SystemExit", "__class__", "annotations", "TYPE_CHECKING"])
def test_a_hostile_reply_cannot_choose_the_class_of_an_error(tmp_path, name):
    (tmp_path / "reply").write_bytes(_reply({"error": {"error": name, "message": "m", "hint": ""}}))
    hostile = _interpreter(tmp_path, f'cat >/dev/null; cat "{tmp_path / "reply"}"')
    with pytest.raises(EdgepackError) as caught:
        ask("echo", Workplace(python=hostile))
    assert type(caught.value) is WorkerError


def test_a_scratch_folder_is_private():
    with scratch_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_scratch_folder_is_gone_after_an_error():
    def fail_inside(folder: Path) -> None:
        (folder / "file").write_text("x")
        raise KeyError

    with pytest.raises(KeyError), scratch_folder() as folder:
        fail_inside(folder)
    assert not folder.exists()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def old(folder):
    folder.mkdir(exist_ok=True)
    os.utime(folder, (1, 1))
    return folder


def test_the_scratch_folder_of_a_process_that_was_killed_is_found(temporary):
    code = (
        "import os, sys, tempfile; from edgepack.worker import scratch_folder; tempfile.tempdir = sys.argv[1]\n"
        "with scratch_folder(): os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(temporary)], env=environment, check=False)
    (left,) = temporary.iterdir()
    assert abandoned_folders() == ()
    assert (old(left),) == abandoned_folders()


def test_a_scratch_folder_in_use_is_not_abandoned(temporary):
    with scratch_folder() as folder:
        old(folder)
        assert abandoned_folders() == ()


@pytest.mark.parametrize("name", ["edgepack-board-abcdefgh", "edgepack-doctor-x", "edgepack-ABCDEFGH", "other"])
def test_folders_of_other_names_are_nobodys_scratch(temporary, name):
    old(temporary / name)
    assert abandoned_folders() == ()


def test_a_link_is_no_scratch_folder(temporary):
    (temporary / "edgepack-abcdefgh").symlink_to(old(temporary / "elsewhere"))
    assert abandoned_folders() == ()
