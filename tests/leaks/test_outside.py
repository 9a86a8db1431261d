"""A session of an encrypted bundle, seen from outside its process: files, core dumps, other users' eyes."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import leakkit
import pytest
from leakwatch import Child

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="core dumps and /proc are Linux")]
DEADLY = ["SIGSEGV", "SIGABRT", "SIGQUIT"]
NOBODY = 65534
# Files of the kernel, in which nothing is stored.
PSEUDO = {
    "autofs", "bdev", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
    "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "securityfs", "sysfs", "tracefs",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="edgepack-leaks-"))
    folder.chmod(0o755)
    (folder / "good.edgepack").write_bytes(next(leakkit.bundles())[1])
    leakkit.write_devices(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def marker() -> dict[str, bytes]:
    return {"marker": leakkit.hidden().marker}


# Core dumps


def dumped(folder: Path, asked: str, signal: str) -> tuple[bool, bytes]:
    """Return whether a child that did as asked dumped core, and what stands in the file."""
    here = folder / "core-test"
    here.mkdir()
    try:
        for path in folder.glob("good*"):
            os.link(path, here / path.name)
        os.link(folder / "trust.json", here / "trust.json")
        (here / "plain").write_bytes(leakkit.hidden().marker * 9)
        with Child(here) as child:
            child.ask(asked)
            (here / "plain").unlink()
            status = child.die(signal)
        cores = [path.read_bytes() for path in here.iterdir() if path.name.startswith("core")]
        return os.WCOREDUMP(status), b"".join(cores)
    finally:
        shutil.rmtree(here)


def can_dump() -> bool:
    return resource.getrlimit(resource.RLIMIT_CORE)[1] == resource.RLIM_INFINITY


@pytest.mark.skipif(not can_dump(), reason="no process here may dump core")
@pytest.mark.parametrize("signal", DEADLY)
@pytest.mark.parametrize("asked", ["open", "device"], ids=["with a model", "with a device key"])
def test_nothing_is_dumped(folder: Path, asked: str, signal: str) -> None:
    assert dumped(folder, asked, signal) == (False, b"")


@pytest.mark.skipif(not can_dump(), reason="no process here may dump core")
@pytest.mark.skipif(
    Path("/proc/sys/kernel/core_pattern").read_bytes()[:1] in b"|/", reason="cores are not written to the work folder"
)
def test_the_same_process_without_a_bundle_dumps_what_it_holds(folder: Path, marker: dict[str, bytes]) -> None:
    here = folder / "core-test"
    was_dumped, core = dumped(folder, f"hold {here / 'plain'}", "SIGSEGV")
    assert (was_dumped, leakkit.leaks(core, marker)) == (True, ["marker"])


# Files


def mounts() -> list[Path]:
    """Return where real file systems are mounted."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind not in PSEUDO and Path(where).is_dir():
            found.append(Path(where))
    return found


def files_since(root: Path, since: float) -> Iterator[Path]:
    """Yield the regular files of one file system that were made or changed."""
    device, todo = root.stat().st_dev, [str(root)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                        todo.append(entry.path)
                    elif stat.S_ISREG(status.st_mode) and status.st_ctime >= since:
                        yield Path(entry.path)
        except OSError:
            continue


def holds(path: Path, secrets: dict[str, bytes]) -> bool:
    """Return whether a file holds a secret as it is; read in pieces, for others' files may be large."""
    longest = max(map(len, secrets.values()))
    try:
        with path.open("rb") as file:
            before = b""
            while piece := file.read(8 << 20):
                if any(secret in before + piece for secret in secrets.values()):
                    return True
                before = piece[-longest:]
    except OSError:
        return False
    return False


def test_no_file_anywhere_holds_the_model(folder: Path, marker: dict[str, bytes]) -> None:
    since = time.time() - 1
    with Child(folder) as child:
        child.ask("open")
        # What the search must find, so that an empty answer means something.
        bait = folder / "bait"
        bait.write_bytes(b"x" * 4090 + marker["marker"])
        try:
            found = [path for root in mounts() for path in files_since(root, since) if holds(path, marker)]
        finally:
            bait.unlink()
    assert set(found) == {bait}


def test_its_open_files_are_the_bundle_and_nothing_writable(folder: Path) -> None:
    with Child(folder) as child:
        child.ask("open")
        writable = []
        for link in Path(f"/proc/{child.pid}/fd").iterdir():
            flags = int(Path(f"/proc/{child.pid}/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0], 8)
            target = str(link.readlink())
            if flags & os.O_ACCMODE != os.O_RDONLY and target.startswith("/") and not target.startswith("/dev/"):
                writable.append(Path(target).name)
    assert sorted(writable) == ["child.log", "stderr"]


def test_no_file_is_mapped_for_writing(folder: Path) -> None:
    with Child(folder) as child:
        child.ask("open")
        lines = Path(f"/proc/{child.pid}/maps").read_text().splitlines()
    assert [line for line in lines if line.split()[1] == "rw-s"] == []


# Other processes of the same user

LOOK = """
import os, sys
seen = []
for what in ("fd", "mem", "maps"):
    path = f"/proc/{sys.argv[1]}/{what}"
    try:
        os.listdir(path) if what == "fd" else open(path, "rb").read(1)
        seen.append(what)
    except OSError as error:
        if what == "mem" and not isinstance(error, PermissionError):
            seen.append(what)
print(seen)
"""


@pytest.fixture(scope="module")
def anybody(folder: Path) -> dict[str, object]:
    """Return the options of a process of an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("only root may start a process as another user")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    user: dict[str, object] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import edgepack_runtime"], check=True, cwd=folder, **user)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("an ordinary user may not run this interpreter")
    return user


def looked(pid: int, user: dict[str, object]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(pid)], check=True, capture_output=True, text=True, cwd="/", **user
    )
    return done.stdout.strip()


def test_an_ordinary_user_opens_a_bundle_too(folder: Path, anybody: dict[str, object]) -> None:
    with Child(folder, **anybody) as child:
        assert child.ask("open")[0]["open"].startswith("<Session of digits")  # type: ignore[attr-defined]


def test_a_process_of_the_same_user_cannot_look_in(folder: Path, anybody: dict[str, object]) -> None:
    with Child(folder, **anybody) as child:
        child.ask("open")
        assert looked(child.pid, anybody) == "[]"


def test_before_that_it_can(folder: Path, anybody: dict[str, object]) -> None:
    (folder / "plain").write_bytes(b"nothing")
    with Child(folder, **anybody) as child:
        child.ask(f"hold {folder / 'plain'}")
        assert "fd" in looked(child.pid, anybody)
