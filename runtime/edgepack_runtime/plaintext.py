"""Where a decrypted model lives: in memory, never on disk, and not in a core dump.

On Linux that is a sealed `memfd`: one copy, which an engine opens by its path and nobody can change any more.
Elsewhere it is a `bytes` object, which is weaker: the engine makes a copy of its own, and `bytes` cannot be wiped.
Neither stops root on a running device, and neither keeps pages out of swap.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType

from edgepack_runtime._room import Room, room_in, wipe
from edgepack_runtime.errors import FileError

__all__ = ["PlaintextModel", "Room", "forbid_core_dumps"]

Fill = Callable[[Room], None]

# Linux ABI, the same on every architecture (fcntl.h, memfd.h, prctl.h); Python lacks some, by version and libc.
_MFD_CLOEXEC_ALLOW_SEALING = 0x1 | 0x2
_MFD_NOEXEC_SEAL = 0x8
_F_ADD_SEALS = 1033
_F_SEAL_SEAL_SHRINK_GROW_WRITE = 0x1 | 0x2 | 0x4 | 0x8
_PR_SET_DUMPABLE = 4


class PlaintextModel:
    """A decrypted model, to be handed to an engine: by `path` if that is not None, else by `content`.

    Close it after the engine has loaded it; pages that the engine has mapped live on until the engine lets go. A
    sealed memfd cannot be overwritten, so closing does not wipe it: the kernel takes the pages back and clears them
    before anybody else gets them.
    """

    __slots__ = ("_content", "_fd", "size")

    def __init__(self, size: int, fill: Fill) -> None:
        """Make room for `size` bytes and have `fill` write them.

        Args:
            size: the model's length.
            fill: writes each byte of the model, or raises; what it had written is then given back, and its error
                passed on.

        Raises:
            FileError: there is not enough memory, or the kernel refuses an anonymous file.
        """
        if size > sys.maxsize:
            raise FileError(f"a model of {size} bytes is more than this Python can hold")
        self.size = size
        self._fd: int | None = None
        self._content: bytes | None = None
        if sys.platform == "linux" and hasattr(os, "memfd_create"):
            self._fd = _sealed_memfd(size, fill)
        else:
            self._content = _private_bytes(size, fill)

    @property
    def path(self) -> str | None:
        """A path this process can open, as long as this is open; None where there is only `content`."""
        return None if self._fd is None else f"/proc/self/fd/{self._fd}"

    @property
    def content(self) -> bytes | None:
        """The model itself, where there is no `path`."""
        return self._content

    def close(self) -> None:
        """Let go of the model; `path` and `content` are None from now on."""
        fd, self._fd, self._content = self._fd, None, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> PlaintextModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PlaintextModel of {self.size} bytes>"


def forbid_core_dumps() -> bool:
    """Keep this process's memory out of core dumps, for good, and return whether that holds now.

    On Linux also nobody of the same user may attach a debugger or read `/proc/<pid>/mem`. Elsewhere only the size
    limit of core files is set to 0, and on Windows nothing is done.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        # prctl is variadic and reads unsigned longs: untyped integers would be passed as 32 bits.
        zero = ctypes.c_ulong(0)
        return int(libc.prctl(ctypes.c_int(_PR_SET_DUMPABLE), zero, zero, zero, zero)) == 0
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return True
    return False


def _sealed_memfd(size: int, fill: Fill) -> int:
    import fcntl  # not on Windows

    try:
        fd = _memfd()
    except OSError as error:
        raise FileError(f"no memory file for the model: {error.strerror}") from None
    try:
        os.ftruncate(fd, size)
        # Written and not mapped: that takes half the time, and memory that runs out is an error and no SIGBUS.
        fill(Room(size, partial(_write_at, fd), partial(os.ftruncate, fd, 0)))
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SEAL_SHRINK_GROW_WRITE)
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise FileError(f"not enough memory for a model of {size} bytes") from None
        raise FileError(f"no memory file of {size} bytes for the model: {error.strerror or error}") from None
    finally:
        os.close(fd)
    return reader


def _write_at(fd: int, at: int, piece: bytes | bytearray | memoryview) -> None:
    left = memoryview(piece)
    while left:
        done = os.pwrite(fd, left, at)
        left, at = left[done:], at + done


def _memfd() -> int:
    try:
        # Linux 6.3 and later may be set up to refuse memory files that could be executed.
        return os.memfd_create("edgepack-model", _MFD_CLOEXEC_ALLOW_SEALING | _MFD_NOEXEC_SEAL)
    except OSError:
        # Before that the flag is unknown; any other error comes again.
        return os.memfd_create("edgepack-model", _MFD_CLOEXEC_ALLOW_SEALING)


def _private_bytes(size: int, fill: Fill) -> bytes:
    buffer = bytearray(size)
    try:
        fill(room_in(memoryview(buffer)))
        return bytes(buffer)
    finally:
        wipe(buffer)
