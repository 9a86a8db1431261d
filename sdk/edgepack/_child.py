"""The child side of `edgepack.worker`: run as a script by the Python of some toolchain.

Reads one request frame from standard input, runs one function, writes one reply frame. Only the standard library,
numpy, `edgepack` and `edgepack_runtime` are needed here; the two packages are found where the parent has them,
without exposing the rest of the parent's site-packages to this environment.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import resource
import signal
import sys
import traceback
import typing
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG = 1


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


def _leave_the_network() -> str:
    """Move into an empty network namespace; return '' or why that is not possible here."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return ""
    return os.strerror(ctypes.get_errno())


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
    # Before anything is imported: numpy starts threads, and then only root can leave the network.
    network = _leave_the_network()
    # Converters print to standard output, which carries the reply: it gets a private descriptor.
    reply = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    roots = dict(item.split("=", 1) for item in sys.argv[1:])
    sys.meta_path.insert(0, _OurPackages(roots))
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
        answer = {"result": body.value, "network": network}
        blobs = body.blobs
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is told to the parent, which wraps it
        answer, blobs = {"error": _describe(error)}, ()
    wire.write_message(reply, wire.Message(answer, blobs))
    return 0


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
