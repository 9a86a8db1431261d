"""The edge to the file system: read with a cap, write whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgepack_runtime.errors import FileError

# An application that starts waits for its import, which takes as long as to open a small bundle.
if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "PIPE_PATIENCE",
    "drop_standard_output",
    "file_error",
    "is_leftover",
    "print_any_name",
    "read_capped",
    "read_if_there",
    "read_secret",
    "sync_folder",
    "write_all_whole",
    "write_whole",
]


# Seconds until a pipe must have brought all it has: the program behind it may ask its user something first.
PIPE_PATIENCE = 60.0
_PIECE = 1 << 20
# What file systems without hard links answer to `link`: FAT and exFAT, as on USB sticks, and some on networks.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


def file_error(verb: str, path: str | Path, error: OSError | ValueError) -> FileError:
    """Return the error for a failed system call on `path`."""
    return FileError(f"cannot {verb} {path}: {getattr(error, 'strerror', None) or error}")


def read_capped(path: str | Path, cap: int) -> bytes:
    """Return the bytes of a regular file; anything else could keep its reader waiting, or never end.

    Raises:
        FileError: it cannot be read, is no regular file, or is longer than `cap` bytes.
    """
    return _read_whole(path, cap, None)


def read_secret(path: str | Path, cap: int, *, patience: float = PIPE_PATIENCE) -> bytes:
    """Return the bytes of a regular file, or what a pipe brings: a secret need never lie on a disk.

    Args:
        path: a file, a FIFO, or what a shell makes of ``<(program)``. A pipe can be read once.
        cap: how many bytes there may be.
        patience: seconds until whoever writes into a pipe must have closed it.

    Raises:
        FileError: it cannot be read, is neither a file nor a pipe, is longer than that, or is not closed in time.
    """
    return _read_whole(path, cap, patience)


def _read_whole(path: str | Path, cap: int, patience: float | None) -> bytes:
    try:
        # Else the opening of a pipe without a writer would not return.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise FileError(f"cannot read {path}: it is a folder")
            is_pipe = stat.S_ISFIFO(mode)
            if not stat.S_ISREG(mode) and not (is_pipe and patience is not None):
                raise FileError(
                    f"cannot read {path}: it is no regular file" + ("" if patience is None else " and no pipe")
                )
            data = _read_all(descriptor, cap + 1, patience if is_pipe else None)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        # A ValueError is a name with a NUL, which JSON can spell.
        raise file_error("read", path, error) from None
    if data is None:
        raise FileError(f"cannot read {path}: nobody wrote into this pipe and closed it within {patience:g} seconds")
    if len(data) > cap:
        del data  # it may be a key: nothing of it belongs in the frame of a traceback
        raise FileError(f"{path} is longer than the {cap} bytes such a file may have")
    return data


def _read_all(descriptor: int, most: int, patience: float | None) -> bytes | None:
    """Return at most `most` bytes; None if `patience` ran out, which makes the descriptor one of a pipe."""
    deadline = None if patience is None else time.monotonic() + patience
    parts: list[bytes] = []
    try:
        while most > 0:
            if deadline is not None and not _readable(descriptor, deadline - time.monotonic()):
                return None
            # Room is made for all that is asked for, however short the file is.
            parts.append(os.read(descriptor, min(most, _PIECE)))
            most -= len(parts[-1])
            if not parts[-1]:
                break
        return b"".join(parts)
    finally:
        # Of a key, nothing stays in the frame of an error.
        parts.clear()


def _readable(descriptor: int, seconds: float) -> bool:
    import select  # few keys come from a pipe

    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(0, seconds) * 1000))


def read_if_there(path: Path, cap: int) -> bytes | None:
    """Return a file's first `cap` bytes, or None if there is no such file.

    Raises:
        FileError: it is there and cannot be read.
    """
    parts = []
    try:
        # Not waiting for a writer, should it be a pipe that somebody put there.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            while cap > 0 and (part := os.read(descriptor, cap)):
                parts.append(part)
                cap -= len(part)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise file_error("read", path, error) from None
    return b"".join(parts)


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is what `write_whole` leaves behind when the power is cut."""
    return name.startswith(".") and name.endswith(".part")


def write_whole(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644, replace: bool = True) -> None:
    """Write a file so that `path` holds all of `data` or what it held before, even after a power cut.

    Args:
        path: where.
        data: what, in one piece or several; what goes wrong while the pieces are made leaves `path` as it was.
        mode: permission bits, set before the first byte is written.
        replace: whether an existing file may be replaced.

    Raises:
        FileError: the folder is missing or not writable, the disk is full, the file exists and must not, or is none.
    """
    try:
        _refuse_other_than_file(path)
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            try:
                for piece in [data] if isinstance(data, bytes) else data:
                    _write(descriptor, piece)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if replace:
                temporary.replace(path)
            else:
                _give_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise FileError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise file_error("write", path, error) from None


def _give_name(temporary: Path, path: Path) -> None:
    """Give a complete file a name that nothing has yet."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # The name is taken first, so that two writers cannot have it; cut here, an empty file is left.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            temporary.replace(path)
        except BaseException:
            path.unlink()
            raise


def write_all_whole(files: Mapping[Path, bytes]) -> None:
    """Write several files: all of them are complete on the disk before the first one gets its name.

    Missing folders are made.

    Raises:
        FileError: a folder or file cannot be written; none of `files` was touched unless a rename itself failed.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            _refuse_other_than_file(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
            parts[part] = path
            write_whole(part, data)
        for part, path in parts.items():
            part.replace(path)
        for folder in {path.parent for path in files}:
            sync_folder(folder)
    except OSError as error:
        raise file_error("write", error.filename or next(iter(files)), error) from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _refuse_other_than_file(path: Path) -> None:
    if not path.name or "\0" in str(path):
        raise FileError(f"cannot write {path}: this is no name of a file")
    # A rename onto /dev/null or /dev/stdout would put a file in its place.
    if path.exists() and not path.is_file():
        raise FileError(f"cannot write {path}: it is {'a folder' if path.is_dir() else 'no regular file'}")


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk as they are now.

    Raises:
        OSError: it cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def print_any_name() -> None:
    r"""Let standard output take file names that are no text, written as in ``\udcff``, as standard error does.

    A result that stands must not end in an error because of the name of a file.
    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="backslashreplace")


def drop_standard_output() -> None:
    """Send what is still buffered for standard output nowhere: its reader went away, or its disk is full.

    Python flushes it once more when the process ends, and would then complain of the same error.
    """
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nothing, 1)
    os.close(nothing)
