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
    """What a task is asked: words, a number, arrays."""

    text: str = ""
    number: int = 0
    arrays: Mapping[str, Array]


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


def leave(ask: Ask) -> Tell:
    print("going now", file=sys.stderr, flush=True)
    os._exit(ask.number)


def hang_with_a_child(ask: Ask) -> Tell:
    """Write the id of a child's child to the file named, and wait for good."""
    sleeper = subprocess.Popen(["/bin/sleep", "600"])
    Path(ask.text).write_text(str(sleeper.pid))
    time.sleep(600)
    raise AssertionError("waited")


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


def look_around(ask: Ask) -> Tell:
    facts = {
        "cwd": str(Path.cwd()),
        "mode": oct(Path.cwd().stat().st_mode & 0o777),
        "home": str(Path.home()),
        "temporary": tempfile.gettempdir(),
        "core": str(resource.getrlimit(resource.RLIMIT_CORE)[0]),
        "session": str(os.getsid(0) == os.getpid()),
        "stdin": str(len(sys.stdin.buffer.read())),
    }
    Path("left behind").write_text("x")
    lines = [f"{k}={v}" for k, v in facts.items()] + [f"${k}={v}" for k, v in sorted(os.environ.items())]
    return Tell(text="\n".join(lines), arrays={})
