"""A folder that processes share: made so that a power cut does not lose it, locked, and tidied."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from edgepack_runtime._files import file_error, is_leftover, sync_folder
from edgepack_runtime.errors import FileError

__all__ = ["leftovers_in", "locked", "make_folder", "sync_names"]

_PAUSE = 0.02


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, and those above it that are missing; their names are on the disk then.

    Raises:
        FileError: it cannot be made, or something else has its name.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            # Another process may be making it, too.
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
    except FileExistsError:
        raise FileError(f"{path} is no folder") from None
    except OSError as error:
        raise file_error("make", path, error) from None


def sync_names(path: Path) -> None:
    """Return when the names in a folder are on the disk as they are now.

    Raises:
        FileError: they cannot be brought there.
    """
    try:
        sync_folder(path)
    except OSError as error:
        raise file_error("sync", path, error) from None


def leftovers_in(path: Path) -> list[Path]:
    """Return what interrupted writes have left in a folder.

    Raises:
        OSError: it cannot be listed.
    """
    return [item for item in path.iterdir() if is_leftover(item.name)]


@contextlib.contextmanager
def locked(path: Path, *, patience: float, busy: str) -> Iterator[None]:
    """Hold the lock of a folder; the kernel gives it back when this process dies.

    Args:
        path: the folder.
        patience: seconds to wait for another process.
        busy: what the other process is doing, for the message.

    Raises:
        FileNotFoundError: there is no such folder.
        FileError: it cannot be locked, or another process has the lock for longer than that.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise file_error("open", path, error) from None
    try:
        _wait_for(descriptor, path, time.monotonic() + patience, busy)
        yield
    finally:
        # The lock is gone whatever this says, and nothing was written through it.
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _wait_for(descriptor: int, path: Path, deadline: float, busy: str) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise FileError(f"cannot lock {path}: another process is {busy}") from None
        except OSError as error:
            raise file_error("lock", path, error) from None
        time.sleep(_PAUSE)
