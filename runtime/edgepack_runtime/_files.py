"""The edge to the file system: read with a cap, write whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgepack_runtime.errors import FileError

__all__ = [
    "drop_standard_output",
    "file_error",
    "is_leftover",
    "read_capped",
    "read_if_there",
    "sync_folder",
    "write_all_whole",
    "write_whole",
]


def file_error(verb: str, path: Path, error: OSError) -> FileError:
    """Return the error for a failed system call on `path`."""
    return FileError(f"cannot {verb} {path}: {error.strerror or error}")


def read_capped(path: Path, cap: int) -> bytes:
    """Return a file's bytes.

    Raises:
        FileError: it cannot be read, or is longer than `cap` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        raise file_error("read", path, error) from None
    if len(data) > cap:
        del data  # it may be a key: nothing of it belongs in the frame of a traceback
        raise FileError(f"{path} is longer than the {cap} bytes such a file may have")
    return data


def read_if_there(path: Path, cap: int) -> bytes | None:
    """Return a file's first `cap` bytes, or None if there is no such file.

    Raises:
        FileError: it is there and cannot be read.
    """
    parts = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while cap > 0 and (part := os.read(descriptor, cap)):
                parts.append(part)
                cap -= len(part)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _refuse_other_than_file(path)
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
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise FileError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise file_error("write", path, error) from None


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
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            parts[part] = path
            write_whole(part, data)
        for part, path in parts.items():
            part.replace(path)
        for folder in {path.parent for path in files}:
            sync_folder(folder)
    except OSError as error:
        raise file_error("write", Path(error.filename or next(iter(files))), error) from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _refuse_other_than_file(path: Path) -> None:
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


def drop_standard_output() -> None:
    """Send what is still buffered for standard output nowhere: its reader went away, or its disk is full.

    Python flushes it once more when the process ends, and would then complain of the same error.
    """
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nothing, 1)
    os.close(nothing)
