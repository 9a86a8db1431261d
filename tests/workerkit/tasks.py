"""Well and badly behaved plug-in functions: one dataclass in, one dataclass out."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import PassError
from edgepack_runtime.errors import EdgepackError, InputError
from edgepack_runtime.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a task is asked: words, a number, arrays, and the files it is told of."""

    text: str = ""
    number: int = 0
    arrays: Mapping[str, Array]
    source: Path | None = None
    scratch: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """What a task answers."""

    text: str
    arrays: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """What nobody expects."""

    text: str


def echo(ask: Ask) -> Tell:
    return Tell(text=ask.text, arrays=ask.arrays)


def shout(ask: Ask) -> Tell:
    print("to standard output")
    sys.stdout.flush()
    os.write(1, b"EPKW to descriptor 1\n")
    subprocess.run(["/bin/echo", "from a child's child"], check=True)
    print("to standard error", file=sys.stderr)
    return Tell(text="still whole", arrays={})


def answer_otherwise(ask: Ask) -> Other:
    return Other(text="surprise")


def refuse(ask: Ask) -> Tell:
    raise PassError("no scales for this one", hint="calibrate it")


def refuse_input(ask: Ask) -> Tell:
    raise InputError("input 'x': expected dtype int8")


def refuse_with_a_class_of_its_own(ask: Ask) -> Tell:
    class TerribleError(EdgepackError):
        pass

    raise TerribleError("not in our tree")


def fail(ask: Ask) -> Tell:
    raise ValueError("first line\nsecond line")


def draw(ask: Ask) -> Tell:
    raise PassError("\x1b[2Jgone\r\nand a second line", hint="\x07ring")


def interrupt(ask: Ask) -> Tell:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("still alive")


def null_pointer(ask: Ask) -> Tell:
    ctypes.string_at(0)
    raise AssertionError("still alive")


def abort(ask: Ask) -> Tell:
    print(ask.text, file=sys.stderr, flush=True)
    os.abort()


def refuse_in_words(ask: Ask) -> Tell:
    raise PassError(ask.text)


def leave(ask: Ask) -> Tell:
    print("going now", file=sys.stderr, flush=True)
    os._exit(ask.number)


def _start_a_sleeper(word: str, **options: bool) -> None:
    """Start a process that sleeps for good and has `word` on its command line."""
    subprocess.Popen(["/bin/sh", "-c", f"sleep 600; : {word}"], **options)
    print("sleeping:", word, file=sys.stderr, flush=True)


def hang_with_a_child(ask: Ask) -> Tell:
    _start_a_sleeper(ask.text)
    time.sleep(600)
    raise AssertionError("waited")


def leave_a_grandchild(ask: Ask) -> Tell:
    """Leave a process behind that is in no group and no session of ours, and has no parent any more."""
    if os.fork() == 0:
        os.setsid()
        _start_a_sleeper(ask.text, start_new_session=True)
        os._exit(0)
    os.wait()
    return Tell(text="gone", arrays={})


def multiply(ask: Ask) -> Tell:
    for _ in range(ask.number):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    time.sleep(2)
    return Tell(text="many", arrays={})


def babble(ask: Ask) -> Tell:
    while True:
        os.write(2, b"and so on\n" * 1000)


def eat_memory(ask: Ask) -> Tell:
    return Tell(text=str(len(bytearray(ask.number))), arrays={})


def burn(ask: Ask) -> Tell:
    while True:
        pass


def write_much(ask: Ask) -> Tell:
    Path("large").write_bytes(bytes(ask.number))
    return Tell(text="written", arrays={})


def connect(ask: Ask) -> Tell:
    try:
        socket.create_connection(("127.0.0.1", ask.number), timeout=2).close()
    except OSError as error:
        return Tell(text=str(error.strerror), arrays={})
    return Tell(text="connected", arrays={})


def try_to(ask: Ask) -> Tell:
    """Read the file `text`, or write it if `number` is 1; tell the content or the error."""
    try:
        if ask.number:
            Path(ask.text).write_text("written")
        return Tell(text=Path(ask.text).read_text(errors="replace"), arrays={})
    except OSError as error:
        return Tell(text=str(error.strerror), arrays={})


def open_sockets(ask: Ask) -> Tell:
    """Open a socket of every family there is; tell what happened, each outcome once."""
    outcomes = set()
    for family in socket.AddressFamily:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
                outcomes.add(f"opened {family.name}")
            except OSError as error:
                outcomes.add(str(error.strerror))
    return Tell(text=", ".join(sorted(outcomes)), arrays={})


def attach_shared_memory(ask: Ask) -> Tell:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    found = libc.shmat(ctypes.c_int(ask.number), None, ctypes.c_int(0))
    refused = found == ctypes.c_void_p(-1).value
    return Tell(arrays={}, text=os.strerror(ctypes.get_errno()) if refused else "attached")


def signal_a_process(ask: Ask) -> Tell:
    try:
        os.kill(ask.number, signal.SIGCONT)
    except OSError as error:
        return Tell(text=str(error.strerror), arrays={})
    return Tell(text="reached", arrays={})


def _leads_a_session() -> bool:
    """Return whether the session is this process's own, or that of the process which watches over it."""
    me, _, _, parent, _, session = Path("/proc/self/stat").read_text().split()[:6]
    return session in (me, parent)


def _interfaces() -> list[str]:
    return [line.partition(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]]


def _rights() -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("CapEff"))


def look_around(ask: Ask) -> Tell:
    facts = {
        "cwd": str(Path.cwd()),
        "mode": oct(Path.cwd().stat().st_mode & 0o777),
        "home": str(Path.home()),
        "temporary": tempfile.gettempdir(),
        "core": str(resource.getrlimit(resource.RLIMIT_CORE)[0]),
        "session": str(_leads_a_session()),
        "interfaces": ",".join(_interfaces()),
        "rights": _rights(),
        "stdin": str(len(sys.stdin.buffer.read())),
    }
    Path("left behind").write_text("x")
    lines = [f"{k}={v}" for k, v in facts.items()] + [f"${k}={v}" for k, v in sorted(os.environ.items())]
    return Tell(text="\n".join(lines), arrays={})
