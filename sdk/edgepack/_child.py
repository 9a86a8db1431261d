"""The child side of `edgepack.worker`: run as a script by the Python of some toolchain.

Reads one request frame from standard input, runs one function, writes one reply frame. Only the standard library,
numpy, `edgepack` and `edgepack_runtime` are needed here; the two packages are found where the parent has them,
without exposing the rest of the parent's site-packages to this environment.

Where the kernel allows it there are three processes: the one the parent started, which only watches; the first of a
process namespace of its own, with which everything in that namespace ends; and the one that does the work.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import resource
import select
import signal
import sys
import time
import traceback
import typing
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_MS = 250
# What the watching process ends with when there were too many; `edgepack.worker` makes words of it.
_TOO_MANY_PROCESSES = 113


class _OurPackages:
    """A finder for exactly the packages the parent named."""

    def __init__(self, roots: dict[str, str]) -> None:
        self.roots = roots

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.roots:
            return None
        folder = Path(self.roots[name])
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def _end_with_the_parent() -> None:
    """Have the kernel end this process when its parent is gone, however that happened (prctl(2))."""
    import ctypes

    zero = ctypes.c_ulong(0)
    ctypes.CDLL(None).prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL), zero, zero, zero)


def _leave_the_network() -> tuple[bool, str]:
    """Move into an empty network namespace, and if possible have later children in a process namespace.

    Return whether the latter was possible, and '' or why the former was not.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for processes in (_CLONE_NEWPID, 0):
        # A user namespace is for those who are not root, and costs root its rights over others' files.
        for user in (0, _CLONE_NEWUSER):
            if libc.unshare(user | processes | _CLONE_NEWNET) == 0:
                # Other programs' shared memory of the old kind, which no rule about files is asked for.
                libc.unshare(_CLONE_NEWIPC)
                return processes != 0, ""
    return False, os.strerror(ctypes.get_errno())


def _go_on_in_a_family(most: int) -> None:
    """Return in a new process, all of whose descendants end with it; this one watches, and ends as that one does."""
    first = os.fork()
    if first == 0:
        _be_the_first()
    worker = os.fork()
    if worker == 0:
        _end_with_the_parent()
        return
    os.closerange(0, 2)
    code, too_many = _watch(first, worker, most)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    if too_many:
        os._exit(_TOO_MANY_PROCESSES)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _be_the_first() -> None:
    """Be the process that others' orphans are handed to, until killed."""
    _end_with_the_parent()
    os.closerange(0, 3)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.1)


def _watch(first: int, worker: int, most: int) -> tuple[int, bool]:
    """Return how the worker ended, negative for a signal, and whether more processes than `most` were why."""
    ended = select.poll()
    ended.register(os.pidfd_open(worker), select.POLLIN)
    family = Path(f"/proc/{first}/ns/pid").stat().st_ino
    too_many = False
    while not ended.poll(_LOOK_EVERY_MS):
        # Not counted: the first, and the worker itself.
        if _members(family) - 2 > most:
            too_many = True
            os.kill(first, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), too_many


def _members(family: int) -> int:
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                count += (process / "ns" / "pid").stat().st_ino == family
            except OSError:
                continue
    return count


def _limit(kind: int, value: int, grace: int = 0) -> None:
    """Set a limit, and `grace` above it the hard one."""
    _, hard = resource.getrlimit(kind)
    soft, hard = (
        wanted if hard == resource.RLIM_INFINITY else min(wanted, hard) for wanted in (value, value + grace)
    )
    resource.setrlimit(kind, (soft, hard))


def main() -> int:
    """Serve one request; the exit code is 0 when a reply was written, whatever it says."""
    _end_with_the_parent()
    told = [item.split("=", 1) for item in sys.argv[1:]]
    paths = {kind: [path for name, path in told if name == kind] for kind in ("read:", "write:")}
    (most,) = [int(number) for name, number in told if name == "processes:"]
    roots = {name: path for name, path in told if not name.endswith(":")}
    # All of this before anything is imported: numpy starts threads, which would not be confined.
    has_family, network = _leave_the_network()
    if has_family:
        _go_on_in_a_family(most)
    sys.meta_path.insert(0, _OurPackages(roots))
    gaps = _confine(network, [*roots.values(), *paths["read:"]], [str(Path.cwd()), *paths["write:"]])
    # Converters print to standard output, which carries the reply: it gets a private descriptor.
    reply = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    wire = importlib.import_module("edgepack._wire")
    call_type = importlib.import_module("edgepack.worker").Call

    frame = wire.read_message(sys.stdin.buffer)
    call = wire.decode(call_type, wire.Message(frame.value[0], ()))
    _limit(resource.RLIMIT_CORE, 0)
    # At the hard limit the kernel kills without a reason that the parent could tell.
    _limit(resource.RLIMIT_CPU, call.cpu_seconds, grace=5)
    _limit(resource.RLIMIT_FSIZE, call.file_bytes)
    _limit(resource.RLIMIT_DATA, call.memory_bytes)
    try:
        module_name, _, function_name = call.function.partition(":")
        function = getattr(importlib.import_module(module_name), function_name)
        (request_type,) = [h for n, h in typing.get_type_hints(function).items() if n != "return"]
        result = function(wire.decode(request_type, wire.Message(frame.value[1], frame.blobs), "request"))
        body = wire.encode(result)
        answer = {"result": body.value, "gaps": gaps}
        blobs = body.blobs
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is told to the parent, which wraps it
        answer, blobs = {"error": _describe(error)}, ()
    wire.write_message(reply, wire.Message(answer, blobs))
    return 0


def _confine(network: str, readable: list[str], writable: list[str]) -> list[str]:
    """Give up all but what the work needs; return what this kernel cannot take away, a sentence each."""
    confine = importlib.import_module("edgepack._confine")
    confine.drop_rights()
    sockets = confine.refuse_sockets()
    files = confine.keep_to_files(readable, writable)
    gaps = []
    if network and sockets:
        gaps.append(f"converters and engines are not cut off from the network on this machine ({network}; {sockets})")
    if files:
        gaps.append(f"converters and engines are not kept from other files on this machine ({files})")
    return gaps


def _describe(error: Exception) -> dict[str, object]:
    root = importlib.import_module("edgepack_runtime.errors").EdgepackError
    if isinstance(error, root):
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint or ""}
    if not isinstance(error, MemoryError):
        traceback.print_exc(file=sys.stderr)
    first_line = (str(error).strip().splitlines() or [""])[0][:400]
    return {"error": "", "message": f"{type(error).__name__}: {first_line}".rstrip(": "), "hint": ""}


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Frameworks' exit handlers crash or hang at times; the reply is out, nothing is left to clean up here.
    os._exit(code)
