"""What a search has measured, in a file that is added to line by line, so that nothing is measured twice.

A line is written with one call and is on the disk before the next candidate is begun: who is stopped, by Ctrl-C or by
a power cut, loses the candidate at hand. A line that is not whole is the last one. The first line names the build,
by a digest of everything that the figures depend on; a journal of another build is begun anew, and that is said. What
is shipped is measured again, so that nothing in a journal has to be believed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from edgepack import _wire
from edgepack_runtime._fields import canonical_json, parse_json
from edgepack_runtime._files import file_error
from edgepack_runtime.errors import FileError, SchemaError

__all__ = ["Journal", "open_journal", "sealed"]

T = TypeVar("T")
_VERSION = 1
_MAX_BYTES = 64 << 20
_CHECK_DIGITS = 16


class Journal(Generic[T]):
    """The entries of one build by their keys; `open_journal` makes one."""

    def __init__(self, descriptor: int, path: Path, entries: dict[str, T]) -> None:
        self._descriptor, self._path, self._entries = descriptor, path, entries

    def __len__(self) -> int:
        return len(self._entries)

    def written(self) -> int:
        """Return how many entries the file has: also one that Ctrl-C met on its way from the file into this object.

        Raises:
            FileError: the file is damaged.
        """
        return max(len(_whole_lines(self._descriptor, self._path)[0]) - 1, 0)

    def find(self, key: str) -> T | None:
        """Return the entry of that key, or None."""
        return self._entries.get(key)

    def add(self, key: str, entry: T) -> None:
        """Write an entry down; it is on the disk when this returns.

        Raises:
            FileError: it cannot be written.
        """
        _append(self._descriptor, self._path, _line({"key": key, "entry": _wire.encode(entry).value}))
        self._entries[key] = entry


@contextmanager
def open_journal(path: Path, build: str, kind: type[T], say: Callable[[str], None]) -> Iterator[Journal[T]]:
    """Give the journal in `path`, made when missing, to one process at a time.

    Args:
        path: the file; its folder is there.
        build: a digest of everything the entries depend on.
        kind: the dataclass of the entries.
        say: told what of the file is used, and what is not and why.

    Raises:
        FileError: it cannot be opened, another process has it, or a line before the last is damaged.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise file_error("open", path, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileError(f"{path}: another build is writing it", hint="wait for it, or name another -o") from None
        yield Journal(descriptor, path, _entries(descriptor, path, build, (kind, say)))
    finally:
        os.close(descriptor)


def _entries(descriptor: int, path: Path, build: str, how: tuple[type[T], Callable[[str], None]]) -> dict[str, T]:
    """Return what is in the file and of this build; leave nothing else in it."""
    kind, say = how
    lines, whole = _whole_lines(descriptor, path)
    if whole is not None:
        os.ftruncate(descriptor, whole)
        say(f"{path}: the last line is not whole, the build was stopped in it; that candidate is measured anew")
    header = {"journal": _VERSION, "build": build}
    if not lines or lines[0] != header:
        if lines:
            say(f"{path}: of another build (other model, data, options or versions); it is begun anew")
        os.ftruncate(descriptor, 0)
        _append(descriptor, path, _line(header))
        return {}
    found: dict[str, T] = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            found[str(line["key"])] = _wire.decode(kind, _wire.Message(line["entry"], ()), "entry")
        except (SchemaError, KeyError) as error:
            raise _damaged(path, number, str(error)) from None
    if found:
        say(f"{path}: {len(found)} candidates were measured before; they are not measured again")
    return found


def _whole_lines(descriptor: int, path: Path) -> tuple[list[dict[str, object]], int | None]:
    """Return the lines, and where the file has to end if the last one is not whole."""
    size = os.fstat(descriptor).st_size
    if size > _MAX_BYTES:
        raise FileError(f"{path} is longer than the {_MAX_BYTES} bytes a journal may have")
    pieces, start = os.pread(descriptor, size, 0).split(b"\n"), 0
    parsed: list[dict[str, object]] = []
    for number, piece in enumerate(pieces[:-1], 1):
        line = _parse(piece)
        if line is None:
            # Of a line that was cut off by a power cut the file system may have kept the length alone.
            if number == len(pieces) - 1 and not pieces[-1]:
                return parsed, start
            raise _damaged(path, number, "its check digits do not fit")
        parsed.append(line)
        start += len(piece) + 1
    return parsed, start if pieces[-1] else None


def _damaged(path: Path, number: int, why: str) -> FileError:
    return FileError(
        f"{path}: line {number} is damaged: {why}", hint="delete the file: what it holds is measured anew"
    )


def _parse(line: bytes) -> dict[str, object] | None:
    digits, _, text = line.partition(b" ")
    if hashlib.sha256(text).hexdigest()[:_CHECK_DIGITS].encode() != digits:
        return None
    try:
        value = parse_json(text, "journal")
    except SchemaError:
        return None
    return value if isinstance(value, dict) else None


def _line(value: dict[str, object]) -> bytes:
    return sealed(canonical_json(value))


def sealed(text: bytes) -> bytes:
    """Return a line of a journal: `text`, which has no line end in it, with the digits that tell damage."""
    return hashlib.sha256(text).hexdigest()[:_CHECK_DIGITS].encode() + b" " + text + b"\n"


def _append(descriptor: int, path: Path, line: bytes) -> None:
    try:
        if os.write(descriptor, line) != len(line):
            raise FileError(f"cannot write {path}: the disk is full")
        os.fsync(descriptor)
    except OSError as error:
        raise file_error("write", path, error) from None
