"""Examine the toolchains, and how far this machine keeps a child process from what is none of its business."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from edgepack.errors import ToolchainError
from edgepack.toolchain import Toolchain, base_python, cache_root, list_toolchains
from edgepack.worker import Limits, Workplace, abandoned_folders, run_task
from edgepack_runtime.errors import EdgepackError

__all__ = [
    "ERROR",
    "GOOD",
    "WARNING",
    "Finding",
    "Installed",
    "Probe",
    "Sight",
    "examine_toolchains",
    "folder_bytes",
    "installed",
    "look",
    "size_in_words",
]

GOOD, WARNING, ERROR = "good", "warning", "error"
# What a toolchain is for, and so has to be importable; of an engine, its interpreter.
_MODULES = {
    "ethos-u-vela": ("ethosu.vela.vela",),
    "onnx": ("onnxruntime", "onnx2tf"),
    "onnx-tf": ("onnxruntime", "tensorflow"),
    "sklearn": ("onnxruntime", "skl2onnx", "skops.io"),
    "tensorflow": ("tensorflow", "tf_keras"),
    "torch": ("onnx", "torch"),
    "tflite-micro": ("tflite_micro.python.tflite_micro.runtime",),
    "torch-litert": ("litert_torch",),
}
_ENGINE = re.compile(r"engine-(.+)-\d[^-]*")
# What venv puts in beside the lock.
_BESIDE = frozenset({"pip", "setuptools", "wheel"})
_ROOM_WANTED = 5 << 30
_PROBE_LIMITS = Limits(seconds=300)
_EATEN, _ALLOWED = 2 << 30, 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one thing; `severity` is one of `GOOD`, `WARNING`, `ERROR`."""

    subject: str
    severity: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One shipped toolchain on this machine; `bytes` is what it takes on disk."""

    toolchain: Toolchain
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a child is asked: to import these, to read this file, which it was not given, and to take memory."""

    modules: tuple[str, ...] = ()
    forbidden: str = ""
    eat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a child sees: packages as NAME==VERSION, what it cannot import and why, and how far it reaches."""

    packages: tuple[str, ...]
    failed: tuple[str, ...]
    interfaces: tuple[str, ...]
    opens_sockets: bool
    reads_files: bool
    alone: bool


def look(probe: Probe) -> Sight:
    """Return what this process sees (runs in the child)."""
    bytearray(probe.eat)
    failed = []
    for name in probe.modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever a broken package raises is the finding
            failed.append(f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
    return Sight(
        packages=tuple(sorted(f"{_normal(d.metadata['Name'])}=={d.version}" for d in distributions())),
        failed=tuple(failed),
        interfaces=_interfaces(),
        opens_sockets=_opens_sockets(),
        reads_files=bool(probe.forbidden) and _reads(Path(probe.forbidden)),
        # The first process of a namespace is a watcher, this one the second.
        alone=os.getpid() <= 2,
    )


def _opens_sockets() -> bool:
    try:
        socket.socket().close()
    except OSError:
        return False
    return True


def _interfaces() -> tuple[str, ...]:
    lines = Path("/proc/self/net/dev").read_text("ascii").splitlines()[2:]
    return tuple(sorted(line.partition(":")[0].strip() for line in lines))


def _reads(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def _normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def folder_bytes(folder: Path) -> int:
    """Return what a folder takes on disk; what cannot be read counts nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                found = Path(where, name).lstat()
            except OSError:
                continue
            total += found.st_blocks * 512 if stat.S_ISREG(found.st_mode) else 0
    return total


def installed() -> tuple[Installed, ...]:
    """Return every shipped toolchain, with what it takes; nothing if it is not installed."""
    return tuple(Installed(toolchain=t, bytes=folder_bytes(t.folder)) for t in list_toolchains())


def examine_toolchains(names: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what is found, the machine first; `names` are the toolchains to examine, none for all installed ones.

    Raises:
        ToolchainError: there is no toolchain of a name.
    """
    known = {toolchain.name: toolchain for toolchain in list_toolchains()}
    for name in names:
        if name not in known:
            raise ToolchainError(f"there is no toolchain {name!r}", hint=f"known are {', '.join(known)}")
    yield from _machine()
    for toolchain in known.values():
        if toolchain.name in names or (not names and toolchain.installed):
            yield from _toolchain(toolchain)
    if not names:
        yield from _leftovers(known.values())
        yield from _abandoned()


def _machine() -> Iterator[Finding]:
    try:
        yield Finding(subject="Python 3.11", severity=GOOD, text=base_python())
    except ToolchainError as error:
        yield Finding(subject="Python 3.11", severity=ERROR, text=error.message, remedy=error.hint or "")
    yield _room()
    place = Workplace(python=Path(sys.executable), limits=_PROBE_LIMITS)
    with tempfile.NamedTemporaryFile(prefix="edgepack-doctor-") as forbidden:
        try:
            sight = run_task(f"{__name__}:look", Probe(forbidden=forbidden.name), Sight, place)
        except EdgepackError as error:
            yield Finding(subject="child process", severity=ERROR, text=error.message, remedy=error.hint or "")
            return
    yield from _confinement(sight)
    yield _memory_limit()


def _room() -> Finding:
    folder = cache_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{size_in_words(free)} free for {cache_root()}"
    if not os.access(folder, os.W_OK):
        remedy = "give yourself write access, or name another folder in EDGEPACK_CACHE"
        return Finding(subject="disk", severity=ERROR, text=f"{folder} cannot be written", remedy=remedy)
    if free < _ROOM_WANTED:
        remedy = "the largest toolchains take 2 GB and more; name another folder in EDGEPACK_CACHE"
        return Finding(subject="disk", severity=WARNING, text=text, remedy=remedy)
    return Finding(subject="disk", severity=GOOD, text=text)


def _confinement(sight: Sight) -> Iterator[Finding]:
    own = sight.interfaces in ((), ("lo",))
    if not own and sight.opens_sockets:
        yield Finding(
            subject="network",
            severity=WARNING,
            text="converters can reach the network: neither a network namespace nor seccomp works here",
            remedy="code in a model could send what it sees; convert strangers' models on another machine",
        )
    else:
        ways = [*(["a network namespace of their own"] if own else []), *([] if sight.opens_sockets else ["seccomp"])]
        yield Finding(subject="network", severity=GOOD, text=f"kept from converters by {' and '.join(ways)}")
    if sight.reads_files:
        yield Finding(
            subject="files",
            severity=WARNING,
            text="converters can read your files: this kernel has no Landlock (Linux 5.13), or it is switched off",
            remedy="keep signing keys on another machine, or in a token",
        )
    else:
        yield Finding(subject="files", severity=GOOD, text="kept from converters by Landlock, but for the source")
    if sight.alone:
        yield Finding(subject="processes", severity=GOOD, text="what a converter starts ends with it")
    else:
        yield Finding(
            subject="processes",
            severity=WARNING,
            text="a converter's child in a session of its own could outlive it: no process namespace works here",
            remedy="in a container, allow user namespaces",
        )


def _memory_limit() -> Finding:
    limits = Limits(seconds=60, memory_bytes=_ALLOWED)
    place = Workplace(python=Path(sys.executable), limits=limits)
    try:
        run_task(f"{__name__}:look", Probe(eat=_EATEN), Sight, place)
    except EdgepackError as error:
        if "memory limit" in error.message:
            return Finding(subject="memory limit", severity=GOOD, text="a child that takes too much is stopped")
        return Finding(subject="memory limit", severity=ERROR, text=error.message, remedy=error.hint or "")
    return Finding(
        subject="memory limit",
        severity=ERROR,
        text=f"a child that may take {size_in_words(_ALLOWED)} took {size_in_words(_EATEN)}",
        remedy="do not convert strangers' models here: one could take all memory",
    )


def _toolchain(toolchain: Toolchain) -> Iterator[Finding]:
    again = f"rm -r {toolchain.folder} && edgepack toolchain install {toolchain.name}"

    def broken(text: str) -> Finding:
        return Finding(subject=toolchain.name, severity=ERROR, text=text, remedy=again)

    if not toolchain.installed:
        remedy = f"edgepack toolchain install {toolchain.name}"
        yield Finding(subject=toolchain.name, severity=WARNING, text="not installed", remedy=remedy)
        return
    place = Workplace(python=toolchain.python, limits=_PROBE_LIMITS)
    try:
        sight = run_task(f"{__name__}:look", Probe(modules=_modules(toolchain.name)), Sight, place)
    except EdgepackError as error:
        yield broken(error.message)
        return
    problems = [*_differences(toolchain, sight.packages), *(f"cannot import {text}" for text in sight.failed)]
    yield from map(broken, problems)
    if not problems:
        packages = len(_pinned(toolchain))
        size = size_in_words(folder_bytes(toolchain.folder))
        text = f"{packages} packages as the lock says, imports in a child without a network; {size}"
        yield Finding(subject=toolchain.name, severity=GOOD, text=text)


def _modules(name: str) -> tuple[str, ...]:
    if engine := _ENGINE.fullmatch(name):
        return (f"{engine[1].replace('-', '_')}.interpreter",)
    return _MODULES.get(name, ())


def _pinned(toolchain: Toolchain) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", toolchain.requirements, re.MULTILINE)
    return {_normal(name): version for name, version in lines}


def _differences(toolchain: Toolchain, packages: Sequence[str]) -> Iterator[str]:
    """Yield what is installed in another way than the lock says."""
    pinned = _pinned(toolchain)
    found = dict(package.split("==", 1) for package in packages)
    for name, version in pinned.items():
        if name not in found:
            yield f"{name} {version} is missing"
        elif found[name] != version:
            yield f"{name} is {found[name]}, the lock says {version}"
    for name in sorted(found.keys() - pinned.keys() - _BESIDE):
        yield f"{name} {found[name]} is not in the lock"


def _leftovers(known: Iterable[Toolchain]) -> Iterator[Finding]:
    """Yield folders that no toolchain of this edgepack uses, and installations that did not end."""
    root = cache_root() / "toolchains"
    current = {toolchain.folder.name: toolchain for toolchain in known}
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if not folder.is_dir():
            continue
        complete = (folder / ".complete").exists()
        if (folder.name in current and complete) or _is_being_made(folder):
            continue
        stale = "of an older lock file, or of an engine version without one"
        what = stale if complete else "an installation that did not end"
        text = f"{what}; {size_in_words(folder_bytes(folder))}"
        yield Finding(subject=folder.name, severity=WARNING, text=text, remedy=f"rm -r {folder}")


def _abandoned() -> Iterator[Finding]:
    """Yield the private folders of builds that were killed: the model may lie in one."""
    for folder in abandoned_folders():
        text = f"left in {folder.parent} by a build that was killed; {size_in_words(folder_bytes(folder))}"
        yield Finding(subject=folder.name, severity=WARNING, text=text, remedy=f"rm -r {folder}")


def _is_being_made(folder: Path) -> bool:
    lock = folder.parent / f".{folder.name}.lock"
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def size_in_words(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"
