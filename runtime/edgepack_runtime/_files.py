"""The edge to the file system: read with a cap, write whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from edgepack_runtime.errors import FileError

__all__ = ["file_error", "read_capped", "write_all_whole", "write_whole"]


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
        raise FileError(f"{path} is longer than the {cap} bytes such a file may have")
    return data


def write_whole(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Write a file so that `path` holds all of `data` or what it held before, even after a power cut.

    Args:
        path: where.
        data: what.
        mode: permission bits, set before the first byte is written.
        replace: whether an existing file may be replaced.

    Raises:
        FileError: the folder is missing or not writable, the disk is full, or the file exists and must not.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
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
            if path.is_dir():
                raise FileError(f"cannot write {path}: it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            parts[part] = path
            write_whole(part, data)
        for part, path in parts.items():
            part.replace(path)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
    except OSError as error:
        raise file_error("write", Path(error.filename or next(iter(files))), error) from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
