"""Copy a bundle into a slot, on from where an earlier copy was interrupted: what lies there is checked again."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from edgepack_runtime._data import dataclass
from edgepack_runtime._files import file_error, sync_folder
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.container import assemble_front
from edgepack_runtime.encryption import segment_spans
from edgepack_runtime.errors import PayloadError
from edgepack_runtime.verify import VerifiedBundle

__all__ = ["Copied", "copy_into_slot", "front_of"]

# So much may lie in memory before it is brought to the disk: else a copy fills the memory of a small board.
_UNSYNCED = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a copy did: bytes that were written, and bytes that lay there already."""

    written: int
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A part of the file, and the SHA-256 it must have."""

    offset: int
    size: int
    digest: bytes
    what: str


def front_of(bundle: VerifiedBundle) -> bytes:
    """Return everything before the payload, made of what was verified: a file could have changed since."""
    container = bundle.container
    payload_length = container.preamble.payload_length
    return assemble_front(container.signed, container.signatures, container.grants, payload_length)


def copy_into_slot(source: BundleFile, bundle: VerifiedBundle, target: Path) -> Copied:
    """Make `target` the same bundle as `source`, on the disk; parts of it that are there and right are kept.

    Every part that is written was held against the signed digests first. A copy that is interrupted, by a power cut
    or by a source that is damaged, can be taken up again. When the disk fails, nothing is left: after a failed sync
    nobody can tell what of the file is on the disk.

    Args:
        source: the bundle.
        bundle: what it was verified as.
        target: a file that nobody else writes; it need not exist.

    Raises:
        PayloadError: the source is not what was signed.
        FileError: a file cannot be read or written.
    """
    try:
        return _copy(source, bundle, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise file_error("write", target, error) from None


def _copy(source: BundleFile, bundle: VerifiedBundle, target: Path) -> Copied:
    front = front_of(bundle)
    slot = _SlotFile(os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    found = 0
    try:
        for piece in _pieces(bundle, front):
            if slot.holds(piece):
                found += piece.size
            else:
                slot.write(piece.offset, front if piece.offset == 0 else _from_source(source, piece))
        slot.finish(bundle.container.preamble.file_length)
    finally:
        # What counts was synced, and a close that fails says nothing about it.
        with contextlib.suppress(OSError):
            os.close(slot.descriptor)
    sync_folder(target.parent)
    return Copied(written=slot.written, found=found)


def _pieces(bundle: VerifiedBundle, front: bytes) -> Iterator[_Piece]:
    yield _Piece(offset=0, size=len(front), digest=hashlib.sha256(front).digest(), what="front")
    for entry in bundle.entries:
        start = len(front) + entry.offset
        spans = segment_spans(bundle.header.suite, entry.stored_length)
        for i, ((at, size), digest) in enumerate(zip(spans, entry.digests, strict=True)):
            what = f"segment {i} of {len(spans)} of {entry.name}"
            yield _Piece(offset=start + at, size=size, digest=digest, what=what)


def _from_source(source: BundleFile, piece: _Piece) -> bytes:
    data = source.read(piece.offset, piece.size)
    if len(data) != piece.size or not _is(data, piece.digest):
        raise PayloadError(
            f"{source.path}: {piece.what} is not what was signed",
            hint="copy the file again and repeat the installation: it goes on from here",
        )
    return data


def _is(data: bytes, digest: bytes) -> bool:
    return hmac.compare_digest(hashlib.sha256(data).digest(), digest)


@dataclass(slots=True)
class _SlotFile:
    """The file of a slot, as it is written."""

    descriptor: int
    length: int = field(init=False)
    written: int = 0
    unsynced: int = 0

    def __post_init__(self) -> None:
        self.length = os.fstat(self.descriptor).st_size

    def holds(self, piece: _Piece) -> bool:
        if piece.offset + piece.size > self.length:
            return False
        os.lseek(self.descriptor, piece.offset, os.SEEK_SET)
        parts, left = [], piece.size
        while left and (part := os.read(self.descriptor, left)):
            parts.append(part)
            left -= len(part)
        return _is(b"".join(parts), piece.digest)

    def write(self, offset: int, data: bytes) -> None:
        os.lseek(self.descriptor, offset, os.SEEK_SET)
        left = memoryview(data)
        while left:
            left = left[os.write(self.descriptor, left) :]
        self.written += len(data)
        self.unsynced += len(data)
        if self.unsynced >= _UNSYNCED:
            os.fsync(self.descriptor)
            self.unsynced = 0

    def finish(self, length: int) -> None:
        if self.length > length:
            os.ftruncate(self.descriptor, length)
        # Also when nothing was written: what lay there may never have reached the disk.
        os.fsync(self.descriptor)
