"""Run a program as under a kernel that lacks some system calls: ``older_kernel.py landlock,seccomp PROGRAM ...``."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# The system call's number on x86-64 and on 64-bit ARM, and its first argument where that tells which one is meant.
CALLS = {
    "landlock": (444, 444, None),
    "links": (86, 37, None),
    "namespaces": (272, 97, None),
    "seccomp": (157, 167, 22),
}
_ENOSYS = 38


def forbid(names: list[str]) -> None:
    """Have the kernel answer these calls of this process, and of all it starts, with ENOSYS."""
    column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    program = []
    for name in names:
        number, argument = CALLS[name][column], CALLS[name][2]
        checks = [(0x20, 0, 0, 0), (0x15, 0, 1 if argument is None else 3, number)]
        if argument is not None:
            checks += [(0x20, 0, 0, 16), (0x15, 0, 1, argument)]
        program += [*checks, (0x06, 0, 0, 0x00050000 | _ENOSYS)]
    program.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc, zero = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong(0)
    libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero)
    if libc.prctl(22, ctypes.c_ulong(2), filters, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    forbid(sys.argv[1].split(","))
    os.execv(sys.argv[2], sys.argv[2:])
