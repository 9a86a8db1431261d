"""Take from a child process what a stranger's model has no business with: sockets, root's rights, others' files.

They hold for the calling thread and for whatever it starts later, for good and without any right; so `_child` calls
this before something heavy is imported that starts threads. What a kernel cannot do is told and not fatal.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["drop_rights", "keep_to_files", "refuse_sockets"]

_PR_CAPBSET_DROP, _CAPABILITY_VERSION, _LAST_CAPABILITY = 24, 0x20080522, 63
# Root's rights over files stay, as Landlock bounds them: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER.
_KEPT_CAPABILITIES = 0b1111

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
# By machine: its number in linux/audit.h, and that of socket(2). io_uring, another way to one, is 425 everywhere.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425
_X32 = 0x40000000
_EACCES = 13

# linux/landlock.h; the numbers of its three system calls are the same on every machine we know.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_TCP, _SIGNALS_AND_ABSTRACT_SOCKETS = 3, 3

# What programs read: their own files, what the C library and Python look up, what the kernel tells of the machine.
# Of /etc only single files: keys lie there too.
_SYSTEM_FILES = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/passwd",
    "/etc/group", "/etc/nsswitch.conf", "/etc/mime.types", "/etc/host.conf", "/etc/os-release",
    "/sys", "/dev/random", "/dev/urandom",
    # Not all of /proc: other processes' environments hold passwords, and root may read them whatever Landlock says.
    "/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/sys", "/proc/uptime",
    "/proc/version",
)  # fmt: skip
# /proc/self: the lab sets its peak of memory back there.
_WRITABLE_SYSTEM_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/proc/self")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _failed(what: str) -> str:
    return f"{what}: {os.strerror(ctypes.get_errno())}"


def _give_up_new_rights(libc: ctypes.CDLL) -> bool:
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    return bool(libc.prctl(ctypes.c_int(_PR_SET_NO_NEW_PRIVS), one, zero, zero, zero) == 0)


def drop_rights() -> str:
    """Give up root's rights but those over files, also those in a namespace of one's own; return '' or why not."""
    libc, zero = _libc(), ctypes.c_ulong(0)
    for capability in range(_LAST_CAPABILITY + 1):
        if not _KEPT_CAPABILITIES >> capability & 1:
            libc.prctl(ctypes.c_int(_PR_CAPBSET_DROP), ctypes.c_ulong(capability), zero, zero, zero)
    kept = _KEPT_CAPABILITIES if os.geteuid() == 0 else 0
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable, the low 32 bits and the high ones.
    rights = struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    return "" if libc.capset(header, rights) == 0 else _failed("capset")


def refuse_sockets() -> str:
    """Have the kernel answer socket(2) with EACCES (seccomp(2)); return '' or why that is not possible here."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return f"no rules for {platform.machine()}"
    architecture, socket_call = machine
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    program = (
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, 5, architecture),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, 3, 0, _X32),
        (equal, 2, 0, socket_call),
        (equal, 1, 0, _IO_URING_SETUP),
        (give, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        (give, 0, 0, 0x00050000 | _EACCES),  # SECCOMP_RET_ERRNO
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    # struct sock_fprog, whose pointer is aligned.
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc, zero = _libc(), ctypes.c_ulong(0)
    if not _give_up_new_rights(libc):
        return _failed("no_new_privs")
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    if libc.prctl(ctypes.c_int(_PR_SET_SECCOMP), mode, filters, zero, zero) != 0:
        return _failed("seccomp")
    return ""


def _own_files() -> list[str]:
    """Return where this Python and everything on its path lies."""
    found = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *sys.path}
    return sorted(path for path in found if path and path != "/")


def keep_to_files(readable: Iterable[str], writable: Iterable[str]) -> str:
    """Shut every file but these, the system's and this Python's own (landlock(7)); return '' or why not.

    A folder stands for everything in it. From Landlock's fourth version on TCP is shut as well, and from the sixth
    signals to processes outside.
    """
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return _failed("Landlock")
    handled = _REFER - 1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    # An older kernel refuses a longer structure than its own.
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("=QQQ", handled, _TCP, _SIGNALS_AND_ABSTRACT_SOCKETS)[:size]
    rules = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if rules < 0:
        return _failed("Landlock")
    try:
        for path in (*_SYSTEM_FILES, *_own_files(), *readable):
            _allow(libc, rules, path, _READ)
        for path in (*_WRITABLE_SYSTEM_FILES, *writable):
            _allow(libc, rules, path, handled)
        if not _give_up_new_rights(libc) or libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)) != 0:
            return _failed("Landlock")
    finally:
        os.close(rules)
    return ""


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # What is not there, or out of this user's reach, needs no rule.
        return
    try:
        rights &= -1 if Path(path).is_dir() else _OF_FILES
        rule = struct.pack("=Qi", rights, place)
        libc.syscall(_ADD_RULE, rules, ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)
