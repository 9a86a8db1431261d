"""zstd for entries: one frame (RFC 8878) that says its size, with a bounded window, and nothing beside it.

The frame is walked block by block before it is unpacked, so that there is one way to end it and no room for a byte
that nobody looks at; then it is unpacked into exactly the memory it was signed for. The library that unpacks is
optional: `pip install 'edgepack-runtime[zstd]'`.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from edgepack_runtime._room import Room, wipe
from edgepack_runtime.errors import PayloadError

__all__ = ["MAX_WINDOW", "NO_COMPRESSION", "ZSTD", "decompress", "supported"]

NO_COMPRESSION = 0
ZSTD = 1
MAX_WINDOW = 8 << 20
_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_BLOCK = 128 << 10
_PIECE = 1 << 20
# Bits of the frame header descriptor (RFC 8878, 3.1.1.1.1).
_SINGLE_SEGMENT, _RESERVED, _CHECKSUM, _DICTIONARY = 0x20, 0x08, 0x04, 0x03
_RLE, _RESERVED_BLOCK = 1, 3


class _Readable(Set[int]):
    """Imports the optional library when a bundle needs it, and not at each start of an application."""

    __slots__ = ()

    def _found(self) -> tuple[int, ...]:
        try:
            import zstandard  # noqa: F401 - whether it is there is the question
        except ImportError:
            return (NO_COMPRESSION,)
        return (NO_COMPRESSION, ZSTD)

    def __contains__(self, compression: object) -> bool:
        return compression == NO_COMPRESSION or compression in self._found()

    def __iter__(self) -> Iterator[int]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


def supported() -> Set[int]:
    """Return which compressions can be read here."""
    return _Readable()


def decompress(data: bytearray, into: Room) -> None:
    """Fill `into` with what `data` unpacks to (step 17).

    Args:
        data: one zstd frame.
        into: exactly as long as the content.

    Raises:
        PayloadError: it is damaged, has another size, a larger window or a dictionary, or something follows it.
    """
    import zstandard

    _check_frame(memoryview(data), into.length)
    at, plain = 0, memoryview(bytearray(min(into.length, _PIECE)))
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(data) as reader:
            while at < into.length:
                if not (count := reader.readinto(plain[: into.length - at])):
                    raise PayloadError(f"payload: {into.length} bytes were signed, zstd gives {at}")
                into.write(at, plain[:count])
                at += count
            if reader.read(1):
                raise PayloadError(f"payload: {into.length} bytes were signed, zstd gives more")
    except zstandard.ZstdError as error:
        raise PayloadError(f"payload: zstd cannot unpack it: {error}") from None
    finally:
        wipe(plain)


def _check_frame(data: memoryview, content_length: int) -> None:
    """Refuse everything but one whole frame of this content length."""
    if len(data) < 5 or data[:4] != _MAGIC:
        raise PayloadError("payload: no zstd frame")
    flags = data[4]
    if flags & (_RESERVED | _DICTIONARY):
        raise PayloadError(f"payload: a zstd frame with flags {flags:#x}, dictionaries are not supported")
    single = bool(flags & _SINGLE_SEGMENT)
    size = {0: int(single), 1: 2, 2: 4, 3: 8}[flags >> 6]
    at = 5 + (not single)
    window = content_length if single else _window(_byte(data, 5))
    told = int.from_bytes(_piece(data, at, size), "little") + (256 if size == 2 else 0)
    if not size or told != content_length:
        says = told if size else "nothing"
        raise PayloadError(f"payload: {content_length} bytes were signed, the zstd frame says {says}")
    if window > MAX_WINDOW:
        raise PayloadError(f"payload: a zstd window of {window} bytes, at most {MAX_WINDOW} are allowed")
    at, last = at + size, False
    while not last:
        head = int.from_bytes(_piece(data, at, 3), "little")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        if kind == _RESERVED_BLOCK or length > _MAX_BLOCK:
            raise PayloadError("payload: a zstd block of no known kind")
        at += 3 + (1 if kind == _RLE else length)
    at += 4 if flags & _CHECKSUM else 0
    if at != len(data):
        raise PayloadError(f"payload: the zstd frame has {at} bytes, {len(data)} were decrypted")


def _window(descriptor: int) -> int:
    base = 1 << (10 + (descriptor >> 3))
    return base + base // 8 * (descriptor & 7)


def _byte(data: memoryview, at: int) -> int:
    return int(_piece(data, at, 1)[0])


def _piece(data: memoryview, at: int, size: int) -> memoryview:
    if at + size > len(data):
        raise PayloadError("payload: the zstd frame is cut short")
    return data[at : at + size]
