"""Run one plug-in function in a child process: own environment, no network, no keys, limits on what it takes.

Whatever touches a stranger's file or a heavy framework goes through here, so that a converter that crashes, hangs,
eats memory or prints to standard output is a message and not an accident, and so that code hidden in a model never
runs in the process that holds the signing key.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import edgepack_runtime
from edgepack import _wire
from edgepack import errors as host_errors
from edgepack._wire import Message
from edgepack.errors import WorkerError
from edgepack_runtime import errors as runtime_errors
from edgepack_runtime.errors import EdgepackError, SchemaError

__all__ = ["Call", "Limits", "Workplace", "abandoned_folders", "run_task", "scratch_folder"]

T = TypeVar("T")
_TAIL_BYTES = 64 << 10
_MAX_PRINTED = 256 << 20
# The exit code `_child` keeps for that.
_TOO_MANY_PROCESSES = 113
_MAX_WORDS = 2000
# As tempfile names it, and not a folder of ours that is named for its purpose.
_SCRATCH = re.compile(r"edgepack-[a-z0-9_]{8}")
_SETTLED_SECONDS = 10
# As C++, TensorFlow, onnxruntime, PyTorch and LLVM say it.
_OUT_OF_MEMORY = re.compile(r"bad_alloc|OOM when allocating|an't allocate memory|annot allocate memory|out of memory")
# What `edgepack.cli` ends by.
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may take: seconds of wall time and of CPU, bytes of anonymous memory and of one file, processes.

    CPU time and memory are each process's own; `processes` are those it starts beside itself.
    """

    seconds: int = 1800
    cpu_seconds: int = 3600
    memory_bytes: int = 12 << 30
    file_bytes: int = 8 << 30
    processes: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where a child runs: the toolchain's interpreter, its limits, and who hears of it.

    `log` is called with at most the last 64 KiB of its standard error, `say` with what could not be taken from it on
    this machine, such as the network.
    """

    python: Path
    limits: Limits = Limits()
    log: Callable[[str], None] | None = None
    say: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The first half of a request frame: which function, under which limits."""

    function: str
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """What the child says of an exception; `error` is the class where it is one of ours, else empty."""

    error: str
    message: str
    hint: str


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a private folder (mode 0700) that is gone afterwards, whatever happened.

    Only a process that is killed leaves it; a lock on the folder, which the kernel gives back, tells that.
    """
    with tempfile.TemporaryDirectory(prefix="edgepack-", ignore_cleanup_errors=True) as folder:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(held)


def abandoned_folders() -> tuple[Path, ...]:
    """Return the scratch folders of this user whose process was killed."""
    return tuple(sorted(path for path in Path(tempfile.gettempdir()).glob("edgepack-*") if _is_abandoned(path)))


def _is_abandoned(path: Path) -> bool:
    if not _SCRATCH.fullmatch(path.name):
        return False
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(held)
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(held)
    # One that was made this moment is locked in the next.
    return found.st_uid == os.geteuid() and time.time() - found.st_mtime > _SETTLED_SECONDS


def run_task(function: str, request: object, result_type: type[T], place: Workplace) -> T:
    """Return what `function` of a plug-in module gives for `request`, computed in a child process.

    Args:
        function: ``module:function``; it takes one dataclass and returns one.
        request: the dataclass it takes. Of the user's files the child may read those it names, and write to the
            folder named `scratch`; a folder stands for everything in it.
        result_type: the dataclass it returns; the reply is checked against it field by field.
        place: where it runs, under which limits.

    Raises:
        EdgepackError: the one the plug-in raised.
        WorkerError: it crashed, hung, hit a limit, or replied with something else.
    """
    body = _wire.encode(request)
    call = Call(
        function=function,
        cpu_seconds=place.limits.cpu_seconds,
        memory_bytes=place.limits.memory_bytes,
        file_bytes=place.limits.file_bytes,
    )
    frame = io.BytesIO()
    _wire.write_message(frame, Message([_wire.encode(call).value, body.value], body.blobs))
    # The reply goes to a memory file, not a pipe: its size is limited as any file's is, it touches no disk, and a
    # grandchild that keeps it open holds nobody up.
    with scratch_folder() as scratch, _memory_file() as replies:
        process, words = _start(_command(place, request), scratch, replies)
        try:
            process.communicate(frame.getvalue(), timeout=place.limits.seconds)
        except subprocess.TimeoutExpired:
            raise WorkerError(
                f"{_module(function)} did not finish within {place.limits.seconds} s and was stopped"
            ) from None
        finally:
            _stop(process)
            tail = words.end()
            if place.log is not None and tail:
                place.log(tail)
        replies.seek(0)
        output = replies.read()
    if words.too_many:
        raise WorkerError(f"{_module(function)} printed more than {_MAX_PRINTED >> 20} MiB and was stopped")
    reply = _Reply(name=_module(function), code=process.returncode, output=output, tail=tail)
    message, gaps = _answer(reply)
    if place.say is not None:
        for gap in gaps:
            place.say(gap)
    try:
        return _wire.decode(result_type, message, f"{reply.name}: reply")
    except SchemaError as error:
        raise WorkerError(f"{reply.name} sent no valid reply: {error}") from None


def _memory_file() -> BinaryIO:
    return os.fdopen(os.memfd_create("edgepack-reply"), "rb")


def _command(place: Workplace, request: object) -> list[str]:
    here = Path(__file__).resolve().parent
    roots = {"edgepack": here, "edgepack_runtime": Path(edgepack_runtime.__file__).resolve().parent}
    # -B: compiled modules would be written beside the sources.
    command = [str(place.python), "-I", "-B", "-X", "faulthandler", str(here / "_child.py")]
    command += [f"{name}={folder}" for name, folder in roots.items()]
    command.append(f"processes:={place.limits.processes}")
    return command + list(_reach(request))


def _reach(value: object, name: str = "") -> Iterator[str]:
    """Yield what the child is told of the user's files it may reach: those that are named in the request."""
    if isinstance(value, Path):
        yield f"{'write' if name == 'scratch' else 'read'}:={value}"
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _reach(getattr(value, field.name), field.name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _reach(item, name)


class _Words:
    """Reads what a child prints, keeps the end of it, and stops the child when it does not cease."""

    def __init__(self, source: int, process: subprocess.Popen[bytes]) -> None:
        self.too_many = False
        self._tail = b""
        self._source, self._process = source, process
        self._thread = threading.Thread(target=self._read, name="edgepack-worker-words", daemon=True)
        # A handler that raises would be lost in the middle of this, or end it in an error of `threading`.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _read(self) -> None:
        read = 0
        with os.fdopen(self._source, "rb", buffering=0) as source:
            while data := source.read(_TAIL_BYTES):
                self._tail = (self._tail + data)[-_TAIL_BYTES:]
                read += len(data)
                if read > _MAX_PRINTED and not self.too_many:
                    self.too_many = True
                    self._process.kill()

    def end(self) -> str:
        """Return the end of what was printed, once the child is gone."""
        # A grandchild that got away may keep its end open; nobody waits for its words.
        self._thread.join(timeout=1)
        return self._tail.decode("utf-8", "replace").strip()


def _start(command: list[str], scratch: Path, replies: BinaryIO) -> tuple[subprocess.Popen[bytes], _Words]:
    source, errors = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=replies,
            stderr=errors,
            cwd=scratch,
            env=_environment(scratch),
            start_new_session=True,
        )
    except OSError as error:
        os.close(source)
        raise WorkerError(f"cannot start {command[0]}: {error.strerror}") from None
    finally:
        os.close(errors)
    return process, _Words(source, process)


def _environment(scratch: Path) -> dict[str, str]:
    """Return the child's whole environment: nothing of the caller's but what tunes numeric libraries."""
    kept = {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS_", "OMP_", "MKL_"))}
    return kept | {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Eigen's own sums of long convolutions are off by up to 1e-4 of the range (basic-pitch), oneDNN's by 1e-6.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
    }


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _module(function: str) -> str:
    return function.partition(":")[0].removeprefix("edgepack.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What a child left: its exit code, its reply frame, the end of its standard error."""

    name: str
    code: int
    output: bytes
    tail: str


def _answer(reply: _Reply) -> tuple[Message, tuple[str, ...]]:
    """Return the result as it came over the pipe, and what could not be taken from the child on this machine."""
    # Python's own report of a crash ends with a list of modules, which says nothing.
    before = reply.tail.partition("Fatal Python error:")[0].strip() or reply.tail.partition("\nExtension modules:")[0]
    last = next((line for line in reversed(before.splitlines()) if line.strip()), "")
    hint = f"its last words: {_one_line(last)[:300]}" if last else None
    if reply.code == -signal.SIGABRT and _OUT_OF_MEMORY.search(reply.tail):
        raise WorkerError(f"{reply.name} ran into its memory limit", hint=hint)
    if reply.code != 0:
        raise WorkerError(f"{reply.name} {_end(reply.code)}", hint=hint)
    try:
        message = _wire.read_message(io.BytesIO(reply.output))
        answer = message.value
        if not isinstance(answer, dict) or not ({"result", "error"} & answer.keys()):
            raise SchemaError("reply: neither result nor error")
        if "error" in answer:
            raise _rebuild(reply.name, _wire.decode(_Failure, Message(answer["error"], ()), f"{reply.name}: error"))
    except SchemaError as error:
        raise WorkerError(f"{reply.name} sent no valid reply: {error}", hint=hint) from None
    gaps = answer.get("gaps")
    return Message(answer["result"], message.blobs), tuple(
        _one_line(str(gap)) for gap in (gaps if isinstance(gaps, list) else ())
    )


def _end(code: int) -> str:
    if code == _TOO_MANY_PROCESSES:
        return "started more processes than allowed and was stopped"
    if code == -signal.SIGXCPU:
        return "used up its CPU time and was stopped"
    if code == -signal.SIGXFSZ:
        return "wrote a larger file than allowed and was stopped"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _one_line(text: str) -> str:
    """Return the child's words as one line that a terminal shows and does not obey."""
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_WORDS].strip()


def _rebuild(name: str, failure: _Failure) -> EdgepackError:
    """Return the child's error as one of our classes; only names in our two trees are looked up."""
    message, hint = _one_line(failure.message), _one_line(failure.hint) or None
    if hint is None and _OUT_OF_MEMORY.search(message):
        hint = "that is the memory limit of a child process: the model asks for more than a converter may take"
    for module in (host_errors, runtime_errors):
        found = getattr(module, failure.error, None) if failure.error in module.__all__ else None
        if found is not None and failure.error != "GateError":
            rebuilt = found(message, hint=hint)
            assert isinstance(rebuilt, EdgepackError)  # noqa: S101 - both trees hold nothing else
            return rebuilt
    if message.startswith("MemoryError"):
        return WorkerError(f"{name} ran into its memory limit")
    return WorkerError(f"{name} failed: {message}", hint="run again with --verbose to see its output")
