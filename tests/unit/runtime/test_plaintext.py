"""Where plaintext lives: sealed, gone after a failure, not in a core dump."""

from __future__ import annotations

import errno
import inspect
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundlekit import seed
from edgepack_runtime.errors import FileError, PayloadError
from edgepack_runtime.plaintext import PlaintextModel, Room

MODEL = seed("plaintext model", 3 * mmap.PAGESIZE + 7)
linux = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux")


def fill(into: Room) -> None:
    into.write(0, MODEL)


def open_memfds() -> list[str]:
    links = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(fd.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return [link for link in links if "edgepack-model" in link]


@contextmanager
def for_writing(model: PlaintextModel) -> Iterator[int]:
    """Open it as somebody would who wants to change it: the process's own descriptor is for reading only."""
    fd = os.open(str(model.path), os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


@linux
def test_the_descriptor_that_is_kept_is_for_reading_only() -> None:
    with PlaintextModel(len(MODEL), fill) as model, pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(int(str(model.path).rsplit("/", 1)[1]), b"x", 0)


@linux
def test_the_model_is_read_by_its_path() -> None:
    with PlaintextModel(len(MODEL), fill) as model:
        assert (Path(str(model.path)).read_bytes(), model.content) == (MODEL, None)


@linux
@pytest.mark.parametrize("what", ["write", "grow", "shrink", "map", "unseal"])
def test_nobody_can_change_a_sealed_model(what: str) -> None:
    import fcntl

    with PlaintextModel(len(MODEL), fill) as model, for_writing(model) as fd:
        attacks = {
            "write": lambda: os.pwrite(fd, b"x", 0),
            "grow": lambda: os.ftruncate(fd, len(MODEL) + 1),
            "shrink": lambda: os.ftruncate(fd, 0),
            "map": lambda: mmap.mmap(fd, len(MODEL)),
            "unseal": lambda: fcntl.fcntl(fd, 1033, 0),
        }
        with pytest.raises(PermissionError):
            attacks[what]()


@linux
def test_closing_gives_the_memory_back() -> None:
    model = PlaintextModel(len(MODEL), fill)
    before = open_memfds()
    model.close()
    model.close()
    assert (len(before), open_memfds(), model.path, model.content) == (1, [], None, None)


@linux
def test_a_failure_passes_on_and_leaves_no_memory_file_open() -> None:
    def fail(into: Room) -> None:
        into.write(0, MODEL)
        raise PayloadError("altered")

    with pytest.raises(PayloadError, match="altered"):
        PlaintextModel(len(MODEL), fail)
    assert open_memfds() == []


@linux
def test_what_is_wiped_is_given_back() -> None:
    seen: list[int] = []

    def fail(into: Room) -> None:
        into.write(0, MODEL)
        (memfd,) = (fd for fd in Path("/proc/self/fd").iterdir() if "edgepack-model" in str(os.path.realpath(fd)))
        seen.append(memfd.stat().st_blocks)
        into.wipe()
        seen.append(memfd.stat().st_blocks)
        raise PayloadError("altered")

    with pytest.raises(PayloadError):
        PlaintextModel(len(MODEL), fail)
    assert (seen[0] > 0, seen[1]) == (True, 0)


@linux
def test_nobody_writes_once_it_is_made() -> None:
    kept: list[Room] = []

    def keep(into: Room) -> None:
        into.write(0, MODEL)
        kept.append(into)

    with PlaintextModel(len(MODEL), keep) as model:
        with pytest.raises(OSError, match="Bad file descriptor"):
            kept[0].write(0, b"x")
        assert Path(str(model.path)).read_bytes() == MODEL


@linux
@pytest.mark.parametrize("most", [1, 4096, 5000])
def test_what_the_kernel_takes_in_parts_is_written_whole(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:most], at))
    with PlaintextModel(len(MODEL), fill) as model:
        assert Path(str(model.path)).read_bytes() == MODEL


@linux
def test_an_empty_model_is_held_too() -> None:
    with PlaintextModel(0, lambda into: None) as model:
        assert Path(str(model.path)).read_bytes() == b""


@linux
def test_a_model_larger_than_memory_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes, offset: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FileError, match=f"not enough memory for a model of {len(MODEL)} bytes"):
        PlaintextModel(len(MODEL), fill)
    assert open_memfds() == []


@linux
def test_a_kernel_without_the_newest_flag_gives_a_sealed_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    create = os.memfd_create

    def old(name: str, flags: int) -> int:
        if flags & 0x8:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    with PlaintextModel(len(MODEL), fill) as model, for_writing(model) as fd, pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)


@linux
def test_a_kernel_that_refuses_memory_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(FileError, match="no memory file"):
        PlaintextModel(len(MODEL), fill)


def test_elsewhere_the_model_is_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with PlaintextModel(len(MODEL), fill) as model:
        assert (model.content, model.path) == (MODEL, None)


def test_elsewhere_a_failure_wipes_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    kept: list[memoryview] = []

    def fail(into: Room) -> None:
        into.write(0, MODEL)
        kept.append(inspect.getclosurevars(into.write).nonlocals["into"])
        raise PayloadError("altered")

    with pytest.raises(PayloadError):
        PlaintextModel(len(MODEL), fail)
    assert not any(kept[0])


def test_the_repr_shows_nothing_of_the_model() -> None:
    with PlaintextModel(4, lambda into: into.write(0, b"TFL3")) as model:
        assert repr(model) == "<PlaintextModel of 4 bytes>"


# In a child: it cannot be undone, and a debugger of this very test run would suffer.
CHILD = """
import ctypes, fcntl, os
from edgepack_runtime.plaintext import PlaintextModel, forbid_core_dumps
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert forbid_core_dumps()
with PlaintextModel(5, lambda into: into.write(0, b"model")) as model:
    data = open(model.path, "rb").read()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), data.decode())
"""


@linux
def test_without_core_dumps_an_ordinary_user_still_opens_the_model() -> None:
    result = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("0 model\n", "")
