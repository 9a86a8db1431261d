"""Do something in a child process, so that what crashes there is an answer here and not the end."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from edgepack_runtime import errors
from edgepack_runtime.errors import EdgepackError, EngineError

__all__ = ["Answer", "apart"]

Answer = dict[str, Any]
# Linux ABI (prctl.h).
_PR_SET_PDEATHSIG = 1
_BLOCK = 1 << 16


def apart(work: Callable[[], Answer], *, what: str, seconds: float) -> Answer:
    """Return what `work` returns, computed in a fork of this process; it crosses over as JSON.

    It is a fork and not another program, so that keys which were opened here need not be handed over. Anywhere but on
    Linux `work` is done in this process.

    Args:
        work: it must change nothing outside its process.
        what: begins the sentence that tells of a crash.
        seconds: after which the child is killed.

    Raises:
        EdgepackError: what `work` raised.
        EngineError: the child crashed, was killed, gave no answer in time, or failed in another way; or no process
            can be had.
    """
    if sys.platform != "linux":
        return work()
    parent = os.getpid()
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():
            # Of an application with threads: the child runs nothing but `work`, and is killed if it hangs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise EngineError(f"{what}: no process can be had for it: {error.strerror}") from None
    if child == 0:
        _be_the_child(work, writer, parent)
    os.close(writer)
    said: bytes | None = None
    try:
        said = _all_of(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        status = _ended(child, kill=said is None)
    if said is None:
        raise EngineError(f"{what}: no answer within {seconds:g} seconds", hint="the engine hangs on this model")
    # The line is ended last: what was cut short is no answer.
    if not said.endswith(b"\n"):
        raise EngineError(f"{what}: {_death(status)}", hint="the engine cannot run this model on this machine")
    return _understood(json.loads(said), what)


def _be_the_child(work: Callable[[], Answer], writer: int, parent: int) -> NoReturn:
    """Do the work, write the answer, and end without anything that this process was to do at its end."""
    try:
        # An application's own handlers are not for this process; it ends with its parent, however that ends.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()
        if "logging" in sys.modules:
            # The application's handlers may wait for a thread that is not here; the answer says everything.
            sys.modules["logging"].disable()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
        if os.getppid() == parent:
            _write_all(writer, json.dumps(_answer(work)).encode() + b"\n")
    finally:
        os._exit(0)


def _answer(work: Callable[[], Answer]) -> Answer:
    try:
        return {"answer": work()}
    except EdgepackError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - a traceback would show what the model is; this is what may be told
        return {"error": EngineError.__name__, "message": f"{type(error).__name__}: {error}"[:500], "hint": None}


def _understood(told: Answer, what: str) -> Answer:
    if "error" in told:
        kind = getattr(errors, told["error"], EngineError)
        message = told["message"] if kind is not EngineError else f"{what}: {told['message']}"
        raise kind(message, hint=told["hint"])
    answer: Answer = told["answer"]
    return answer


def _write_all(writer: int, data: bytes) -> None:
    while data:
        data = data[os.write(writer, data) :]


def _all_of(reader: int, deadline: float) -> bytes | None:
    """Return what comes until the other end is closed; None if it is not until then."""
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        if not (part := os.read(reader, _BLOCK)):
            return b"".join(parts)
        parts.append(part)


def _ended(child: int, *, kill: bool) -> int | None:
    """Wait for the end of the child and return its status; None if the application ignores its children's."""
    if kill:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None


def _death(status: int | None) -> str:
    if status is None or status >= 0:
        return "its process ended without an answer"
    # Real-time signals have no name.
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    memory = ", as the kernel does when memory runs out" if -status == signal.SIGKILL else ""
    return f"its process was ended by {name}{memory}"
