"""Turn an accepted model and its manifest into a signed, encrypted bundle; piece by piece, so of any size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from edgepack.errors import RecipeError
from edgepack.signers import Signer
from edgepack_runtime.compression import MAX_WINDOW, NO_COMPRESSION, ZSTD, supported
from edgepack_runtime.container import assemble_front
from edgepack_runtime.encryption import (
    CHUNK_SIZE,
    CONTENT_KEY_SIZE,
    SEGMENT_CHUNKS,
    PayloadSuite,
    encrypt_segments,
    entry_context,
    new_salt,
    stored_length,
    wipe,
)
from edgepack_runtime.grants import RecipientKey, seal
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.signing import key_id
from edgepack_runtime.table import Entry, EntryRole, Header, SignedTable

__all__ = [
    "GOLDEN_ENTRY",
    "MODEL_ENTRY",
    "Contents",
    "EntrySource",
    "Release",
    "pack",
    "pack_pieces",
    "require_zstd",
    "stored_bytes",
]

MODEL_ENTRY = "model.tflite"
GOLDEN_ENTRY = "golden.bin"
_BUNDLE_ID_SIZE = 16
_SEGMENT = SEGMENT_CHUNKS * CHUNK_SIZE
_MAX_COMPRESSED = 0.95
_ZSTD_LEVEL = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into the payload: the TFLite model and the packed golden tensors."""

    model: bytes = field(repr=False)
    golden: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySource:
    """An entry to pack: `read(at, size)` gives `size` of its `length` bytes, the same ones whenever it is asked.

    `content_length` is what a compressed entry unpacks to.
    """

    name: str
    role: EntryRole
    length: int
    read: Callable[[int, int], bytes | memoryview] = field(repr=False)
    compression: int = NO_COMPRESSION
    content_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Who signs, who may open it, and the facts only the release knows; `created` is unix seconds.

    An empty `recipients` makes a bundle that is signed and not encrypted. `compress` makes zstd frames of the entries
    that get at least 5 % shorter; only devices with `edgepack-runtime[zstd]` open such a bundle.
    """

    signing_key: Signer = field(repr=False)
    recipients: tuple[RecipientKey, ...]
    security_version: int
    created: int
    expires: int = 0
    compress: bool = False


def require_zstd() -> None:
    """Refuse to promise compressed bundles where none can be made.

    Raises:
        RecipeError: zstandard is not installed.
    """
    if ZSTD not in supported():
        raise RecipeError("a compressed bundle needs zstandard", hint="pip install 'edgepack[zstd]'")


def stored_bytes(data: bytes, *, compress: bool) -> int:
    """Return how many bytes a model takes in a bundle, before encryption.

    Raises:
        RecipeError: it shall be compressed, and zstandard is not installed.
    """
    return (_compressed if compress else _as_it_is)(MODEL_ENTRY, EntryRole.MODEL, data).length


def pack(contents: Contents, manifest: Manifest, release: Release) -> bytes:
    """Return the bundle file: front (preamble, signed region, signature, grants) and payload.

    Raises:
        KeyFileError: a key is of the wrong kind, or the token that holds it refuses.
        RecipeError: it shall be compressed, and zstandard is not installed.
    """
    make = _compressed if release.compress else _as_it_is
    sources = (
        make(MODEL_ENTRY, EntryRole.MODEL, contents.model),
        make(GOLDEN_ENTRY, EntryRole.GOLDEN, contents.golden),
    )
    return b"".join(pack_pieces(sources, manifest, release))


def pack_pieces(sources: Iterable[EntrySource], manifest: Manifest, release: Release) -> Iterator[bytes]:
    """Yield a bundle file piece by piece: the front, then the payload, about 1 MiB at a time.

    The front holds the digests of all that follows. So every source is read and encrypted twice, under the same key
    and salt: once to be hashed, once to be yielded, if it still is what was hashed.

    Raises:
        KeyFileError: a key is of the wrong kind, or the token that holds it refuses.
        FormatError: a name or length is not allowed, two entries share a name, or there are too many segments.
        RecipeError: a source gave other bytes when it was read again.
        ValueError: a source gave fewer bytes than it has.
    """
    header, entries = _header(manifest, release), sorted(sources, key=lambda source: source.name)
    content_key = bytearray(os.urandom(CONTENT_KEY_SIZE))
    try:
        stored = [_Stored(source, header, content_key) for source in entries]
        table, offset = [], 0
        for one in stored:
            table.append(one.entry(offset))
            offset += table[-1].stored_length
        signed = SignedTable(header=header, entries=tuple(table), manifest=manifest.to_bytes()).pack()
        grants = [seal(key, content_key, signed) for key in _distinct(release.recipients)]
        yield assemble_front(signed, [release.signing_key.sign(signed)], grants, offset)
        for one, entry in zip(stored, table, strict=True):
            for segment, digest in zip(one.segments(), entry.digests, strict=True):
                if hashlib.sha256(segment).digest() != digest:
                    raise RecipeError(f"entry {entry.name!r} was changed while it was packed")
                yield segment
    finally:
        wipe(content_key)


class _Stored:
    """One source as it stands in the payload, however often it is asked for."""

    def __init__(self, source: EntrySource, header: Header, content_key: bytearray) -> None:
        self._source, self._suite, self._key, self._salt = source, header.suite, content_key, new_salt()
        self._context = entry_context(header.bundle_id, header.profile_digest, source.name)

    def segments(self) -> Iterator[bytes]:
        source = self._source
        if self._suite is PayloadSuite.COBBLESTONE_256:
            yield from encrypt_segments(self._key, self._context, self._salt, source.length, source.read)
            return
        for at in range(0, max(1, source.length), _SEGMENT):
            segment = bytes(source.read(at, min(_SEGMENT, source.length - at)))
            if len(segment) != min(_SEGMENT, source.length - at):
                raise ValueError(f"entry {source.name!r} ends after {at + len(segment)} of {source.length} bytes")
            yield segment

    def entry(self, offset: int) -> Entry:
        source = self._source
        return Entry(
            name=source.name,
            role=source.role,
            offset=offset,
            stored_length=stored_length(self._suite, source.length),
            plain_length=source.length,
            content_length=source.length if source.content_length is None else source.content_length,
            compression=source.compression,
            digests=tuple(hashlib.sha256(segment).digest() for segment in self.segments()),
        )


def _header(manifest: Manifest, release: Release) -> Header:
    return Header(
        product=manifest.name,
        profile=manifest.profile.name,
        profile_digest=manifest.profile.digest(),
        engine=manifest.profile.engine.name,
        engine_version=manifest.profile.engine.version,
        bundle_id=os.urandom(_BUNDLE_ID_SIZE),
        security_version=release.security_version,
        created=release.created,
        expires=release.expires,
        suite=PayloadSuite.COBBLESTONE_256 if release.recipients else PayloadSuite.PLAIN,
    )


def _distinct(recipients: Sequence[RecipientKey]) -> list[RecipientKey]:
    by_id = {key_id(key): key for key in recipients}
    return [by_id[name] for name in sorted(by_id)]


def _as_it_is(name: str, role: EntryRole, data: bytes) -> EntrySource:
    view = memoryview(data)
    return EntrySource(name=name, role=role, length=len(data), read=lambda at, size: view[at : at + size])


def _compressed(name: str, role: EntryRole, data: bytes) -> EntrySource:
    require_zstd()
    import zstandard

    fitted = zstandard.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, source_size=len(data))
    window = min(fitted.window_log, MAX_WINDOW.bit_length() - 1)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, source_size=len(data), window_log=window, write_content_size=1, write_checksum=0
    )
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(data)
    if len(frame) > _MAX_COMPRESSED * len(data):
        return _as_it_is(name, role, data)
    view = memoryview(frame)
    return EntrySource(
        name=name,
        role=role,
        length=len(frame),
        read=lambda at, size: view[at : at + size],
        compression=ZSTD,
        content_length=len(data),
    )
