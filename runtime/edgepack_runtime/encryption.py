"""How an entry's bytes are stored: in clear, or as c2sp.org/chunked-encryption ("Cobblestone-256").

Cobblestone-256 is HKDF-Expand-SHA-512 (RFC 5869) over the content key, AES-256-GCM (RFC 5116) over chunks of
16 KiB under a counter nonce, and a 56-byte header of 24 bytes of salt and a 32-byte key commitment. `cryptography`
ships it from version 50; this reader needs 47 (`AESGCM.decrypt_into`) and leaves nothing behind when a byte is wrong.

The unit of hashing is the *segment*: 64 stored chunks, about 1 MiB. Its SHA-256 is in the signed region, because a
GCM tag proves nothing against somebody who also knows the content key (`docs/bundle-format.md`, "Segments").
"""

from __future__ import annotations

import os

# What `hmac` takes it from; `hmac` itself would import `hashlib`.
from _operator import _compare_digest
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from edgepack_runtime._crypto import AESGCM, sha256
from edgepack_runtime._room import Room, room_in, wipe
from edgepack_runtime.errors import PayloadError

__all__ = [
    "CHUNK_SIZE",
    "CONTENT_KEY_SIZE",
    "ENTRY_HEADER_SIZE",
    "SEGMENT_CHUNKS",
    "TAG_SIZE",
    "PayloadSuite",
    "Read",
    "check_segments",
    "copy_entry",
    "decrypt_entry",
    "encrypt_entry",
    "encrypt_segments",
    "entry_context",
    "new_salt",
    "segment_count",
    "segment_digests",
    "segment_spans",
    "stored_length",
    "wipe",
]

Read = Callable[[int, int], bytes]
"""`read(offset, size)`: bytes from somewhere that is not trusted; fewer than `size` means the end was reached."""

CONTENT_KEY_SIZE = 32
CHUNK_SIZE = 16 * 1024
TAG_SIZE = 16
ENTRY_HEADER_SIZE = 56
SEGMENT_CHUNKS = 64
# So many are decrypted before they are written to where they belong.
_PIECE_CHUNKS = 16
# From so many segments on, a second core takes its share of them: its thread takes a MiB and a millisecond, too.
_SHARED_FROM = 8
_SALT_SIZE = 24
_NONCE_SIZE = 12
_STORED_CHUNK = CHUNK_SIZE + TAG_SIZE
_SEGMENT = SEGMENT_CHUNKS * CHUNK_SIZE
_INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
_CONTEXT = b"edgepack/v1/entry\0"


class PayloadSuite(IntEnum):
    """How the payload is stored; the number is the one in the signed header."""

    PLAIN = 0
    COBBLESTONE_256 = 1


def entry_context(bundle_id: bytes, profile_digest: bytes, name: str) -> bytes:
    """Return what binds an entry's ciphertext to its bundle, profile and name."""
    return _CONTEXT + bundle_id + profile_digest + name.encode("ascii")


def stored_length(suite: PayloadSuite, plain_length: int) -> int:
    """Return how many bytes `plain_length` bytes take in the payload: there is exactly one answer."""
    if suite is PayloadSuite.PLAIN:
        return plain_length
    # The last chunk is always shorter than a full one, so there is one more than full chunks.
    return ENTRY_HEADER_SIZE + plain_length + TAG_SIZE * (plain_length // CHUNK_SIZE + 1)


def segment_count(suite: PayloadSuite, stored: int) -> int:
    """Return how many segments an entry of `stored` bytes has; an empty one has one."""
    header, size = _segment_size(suite)
    return max(1, -(-(stored - header) // size))


def segment_spans(suite: PayloadSuite, stored: int) -> tuple[tuple[int, int], ...]:
    """Return (offset, size) of each segment of an entry of `stored` bytes.

    The first segment also holds the entry's header, so that segments start at chunks.
    """
    header, size = _segment_size(suite)
    count = segment_count(suite, stored)
    ends = [*(header + size * i for i in range(1, count)), stored]
    return tuple((start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True))


def _segment_size(suite: PayloadSuite) -> tuple[int, int]:
    if suite is PayloadSuite.PLAIN:
        return 0, _SEGMENT
    return ENTRY_HEADER_SIZE, SEGMENT_CHUNKS * _STORED_CHUNK


def segment_digests(suite: PayloadSuite, stored: bytes) -> tuple[bytes, ...]:
    """Return the SHA-256 of each segment of a stored entry."""
    view = memoryview(stored)
    return tuple(sha256(view[at : at + size]) for at, size in segment_spans(suite, len(stored)))


class _Chunks:
    """One entry's derived key; encrypts and decrypts chunks by their number, until it is wiped."""

    __slots__ = ("_aead", "_key", "_nonce", "commitment")

    def __init__(self, key: bytes | bytearray, salt: bytes, context: bytes) -> None:
        if len(key) != CONTENT_KEY_SIZE:
            raise ValueError(f"the content key has {len(key)} bytes, wanted {CONTENT_KEY_SIZE}")
        derived = bytearray(CONTENT_KEY_SIZE + _NONCE_SIZE + 32)
        HKDFExpand(SHA512(), len(derived), _INFO + salt + context).derive_into(key, derived)
        # A copy that lives as long as the cipher: built against an older OpenSSL, it reads the key at each call.
        self._key = derived[:CONTENT_KEY_SIZE]
        self._aead = AESGCM(self._key)
        self._nonce = int.from_bytes(derived[CONTENT_KEY_SIZE : CONTENT_KEY_SIZE + _NONCE_SIZE], "big")
        self.commitment = bytes(derived[CONTENT_KEY_SIZE + _NONCE_SIZE :])
        wipe(derived)

    def wipe(self) -> None:
        wipe(self._key)

    def _nonce_of(self, number: int) -> bytes:
        return (self._nonce ^ number).to_bytes(_NONCE_SIZE, "big")

    def encrypt(self, number: int, plain: memoryview) -> bytes:
        return self._aead.encrypt(self._nonce_of(number), plain, None)

    def decrypt(self, number: int, stored: memoryview, into: memoryview) -> int:
        """Decrypt chunks, of which the first has this number; return the length of their plaintext."""
        at = 0
        for start in range(0, len(stored), _STORED_CHUNK):
            chunk = stored[start : start + _STORED_CHUNK]
            end = at + len(chunk) - TAG_SIZE
            self._aead.decrypt_into(self._nonce_of(number), chunk, None, into[at:end])
            number, at = number + 1, end
        return at


def encrypt_entry(
    key: bytes | bytearray, context: bytes, plaintext: bytes | memoryview, *, salt: bytes | None = None
) -> bytes:
    """Return the stored form of an entry.

    Args:
        key: the bundle's content key, 32 random bytes.
        context: from `entry_context`.
        plaintext: the entry.
        salt: 24 bytes that never repeat under `key`; from the operating system if not given. Tests give it.

    Raises:
        ValueError: the key or the salt has another length.
    """
    view = memoryview(plaintext)
    salt = new_salt() if salt is None else salt
    return b"".join(encrypt_segments(key, context, salt, len(view), lambda at, size: view[at : at + size]))


def new_salt() -> bytes:
    """Return a salt for one entry."""
    return os.urandom(_SALT_SIZE)


def encrypt_segments(
    key: bytes | bytearray, context: bytes, salt: bytes, length: int, read: Callable[[int, int], bytes | memoryview]
) -> Iterator[bytes]:
    """Yield the stored form of an entry of any length, segment by segment; `read(at, size)` gives its plaintext.

    The same salt gives the same bytes as long as the plaintext is the same. Never store what two different plaintexts
    gave: under one key and salt that would disclose both.

    Raises:
        ValueError: the key or the salt has another length, or `read` gives fewer bytes than it was asked for.
    """
    if len(salt) != _SALT_SIZE:
        raise ValueError(f"the salt has {len(salt)} bytes, wanted {_SALT_SIZE}")
    chunks = _Chunks(key, salt, context)
    try:
        head, size = salt + chunks.commitment, _SEGMENT
        segments = segment_count(PayloadSuite.COBBLESTONE_256, stored_length(PayloadSuite.COBBLESTONE_256, length))
        for first in range(0, segments * SEGMENT_CHUNKS, SEGMENT_CHUNKS):
            start = first * CHUNK_SIZE
            plain = memoryview(read(start, min(size, length - start)))
            if len(plain) != min(size, length - start):
                raise ValueError(f"the plaintext ends after {start + len(plain)} of {length} bytes")
            # The last chunk is always shorter than a full one; an entry of whole chunks ends with an empty one.
            count = SEGMENT_CHUNKS if first + SEGMENT_CHUNKS < segments * SEGMENT_CHUNKS else None
            numbers = range(count if count is not None else len(plain) // CHUNK_SIZE + 1)
            parts = [chunks.encrypt(first + i, plain[i * CHUNK_SIZE : (i + 1) * CHUNK_SIZE]) for i in numbers]
            yield b"".join((head, *parts))
            head = b""
    finally:
        chunks.wipe()


def check_segments(suite: PayloadSuite, stored: int, digests: Sequence[bytes], read: Read) -> None:
    """Refuse an entry of `stored` bytes that is not the one that was signed (steps 13 and 14); decrypts nothing.

    Raises:
        PayloadError: a segment is cut short or is not the one that was signed.
    """
    _each(_Signed(suite, stored, digests, read), 0)


def copy_entry(digests: Sequence[bytes], read: Read, into: memoryview | Room) -> None:
    """Fill `into` with an entry stored in clear; wipe it on any failure (steps 13, 14 and 16).

    Args:
        digests: the signed SHA-256 of each segment.
        read: reads the stored entry; offsets count from its start. Each byte is asked for once, by either thread.
        into: exactly as long as the entry.

    Raises:
        PayloadError: a segment is cut short or is not the one that was signed.
    """
    room = into if isinstance(into, Room) else room_in(into)
    try:
        signed = _Signed(PayloadSuite.PLAIN, room.length, digests, read)
        _each(signed, 0, lambda number, segment: room.write(signed.spans[number][0], segment))
    except BaseException:
        room.wipe()
        raise


def decrypt_entry(
    key: bytes | bytearray, context: bytes, digests: Sequence[bytes], read: Read, into: memoryview | Room
) -> None:
    """Fill `into` with the plaintext of an encrypted entry; wipe it on any failure (steps 13 to 16).

    Args:
        key: the content key.
        context: from `entry_context`.
        digests: the signed SHA-256 of each segment of the stored entry.
        read: reads the stored entry; offsets count from its start. Each byte is asked for once, by either thread.
        into: exactly as long as the plaintext.

    Raises:
        PayloadError: a segment is cut short, is not the one that was signed, or does not decrypt.
        ValueError: the key has another length.
    """
    room = into if isinstance(into, Room) else room_in(into)
    try:
        length = stored_length(PayloadSuite.COBBLESTONE_256, room.length)
        _decrypt(key, context, _Signed(PayloadSuite.COBBLESTONE_256, length, digests, read), room)
    except InvalidTag:
        room.wipe()
        raise PayloadError("payload: a chunk is not authentic under the bundle's key") from None
    except BaseException:
        room.wipe()
        raise


class _Signed:
    """A stored entry whose segments are what was signed, each as soon as it was read."""

    __slots__ = ("_digests", "_read", "spans")

    def __init__(self, suite: PayloadSuite, length: int, digests: Sequence[bytes], read: Read) -> None:
        self.spans = segment_spans(suite, length)
        if len(self.spans) != len(digests):
            raise ValueError(f"{len(digests)} digests for {len(self.spans)} segments")
        self._digests, self._read = digests, read

    def segment(self, number: int) -> bytes:
        """Return a segment, read once (step 13) and equal to what was signed (step 14)."""
        at, size = self.spans[number]
        segment = bytes(self._read(at, size))
        if len(segment) != size:
            raise PayloadError(f"payload: segment {number} has {len(segment)} of {size} bytes")
        # Both are public: how long the comparison takes tells nothing.
        if sha256(segment) != self._digests[number]:
            raise PayloadError(f"payload: segment {number} of {len(self.spans)} is not the one that was signed")
        return segment


def _each(signed: _Signed, first: int, use: Callable[[int, bytes], object] = lambda number, segment: None) -> None:
    """Have `use` take each segment from the `first` on, in two threads where it pays."""

    def work(number: int) -> None:
        use(number, signed.segment(number))

    count = len(signed.spans)
    if count < _SHARED_FROM:
        for number in range(first, count):
            work(number)
    else:
        from edgepack_runtime._ahead import share

        share(work, first, count)


def _decrypt(key: bytes | bytearray, context: bytes, signed: _Signed, room: Room) -> None:
    first = signed.segment(0)
    chunks = _Chunks(key, first[:_SALT_SIZE], context)
    # One for each thread, for all it decrypts: it stays in the processor's cache.
    buffers = [bytearray(min(room.length, _PIECE_CHUNKS * CHUNK_SIZE)) for _ in range(2)]
    spare = [*buffers]

    def use(number: int, segment: bytes | memoryview) -> None:
        plain = spare.pop()
        try:
            stored, view = memoryview(segment), memoryview(plain)
            for at in range(0, len(stored), _PIECE_CHUNKS * _STORED_CHUNK):
                chunk = number * SEGMENT_CHUNKS + at // _STORED_CHUNK
                length = chunks.decrypt(chunk, stored[at : at + _PIECE_CHUNKS * _STORED_CHUNK], view)
                room.write(chunk * CHUNK_SIZE, view[:length])
        finally:
            spare.append(plain)

    try:
        # Step 15: before any chunk, so that no second key can ever open the same bytes to another model.
        if not _compare_digest(chunks.commitment, first[_SALT_SIZE:ENTRY_HEADER_SIZE]):
            raise PayloadError("payload: the key commitment is of another key, bundle or entry")
        use(0, memoryview(first)[ENTRY_HEADER_SIZE:])
        del first  # its memory serves the next ones
        _each(signed, 1, use)
    finally:
        chunks.wipe()
        for plain in buffers:
            wipe(plain)
