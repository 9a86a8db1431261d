"""The only reads of a bundle file: opened once, its front parsed, its payload read by offset."""

from __future__ import annotations

import contextlib
import os
import stat
from types import TracebackType
from typing import TYPE_CHECKING

from edgepack_runtime._files import file_error
from edgepack_runtime.container import PREAMBLE_SIZE, Container, Preamble
from edgepack_runtime.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BundleFile"]


class BundleFile:
    """An open bundle file; `container` is unbelieved until `edgepack_runtime.verify.verify` has taken it."""

    def __init__(self, path: str | Path) -> None:
        """Open `path` and parse its front (steps 1 to 4 of ``docs/bundle-format.md``).

        Raises:
            FileError: it cannot be opened or read, or is no regular file.
            FormatError: it is no bundle.
        """
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise file_error("open", path, error) from None
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path} is no regular file")
            preamble = Preamble.parse(self.read(0, PREAMBLE_SIZE))
            front = self.read(0, preamble.front_length)
            self.container = Container.from_front(front, status.st_size)
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end of the file.

        Raises:
            FileError: the file cannot be read.
        """
        parts: list[bytes] = []
        while size > 0:
            try:
                part = os.pread(self._fd, size, offset)
            except OSError as error:
                raise file_error("read", self.path, error) from None
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # It was only read: an error now says nothing about what was.
            with contextlib.suppress(OSError):
                os.close(fd)

    def __enter__(self) -> BundleFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
