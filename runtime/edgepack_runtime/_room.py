"""Where plaintext goes: it is written piece by piece, from two threads, and gone when something was wrong."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Room", "room_in", "wipe"]

_PIECE = 16 * 1024


class Room:
    """Room for `length` bytes: `write(at, piece)` fills it, from any thread; `wipe()` takes back what was written."""

    __slots__ = ("length", "wipe", "write")

    def __init__(
        self, length: int, write: Callable[[int, bytes | bytearray | memoryview], None], wipe: Callable[[], None]
    ) -> None:
        self.length = length
        self.write = write
        self.wipe = wipe


def room_in(into: memoryview) -> Room:
    """Return the room that a writable buffer of bytes is."""

    def write(at: int, piece: bytes | bytearray | memoryview) -> None:
        into[at : at + len(piece)] = piece

    return Room(len(into), write, lambda: wipe(into))


def wipe(buffer: memoryview | bytearray) -> None:
    """Overwrite a buffer with zeros."""
    view = memoryview(buffer)
    for at in range(0, len(view), _PIECE):
        piece = view[at : at + _PIECE]
        piece[:] = bytes(len(piece))
