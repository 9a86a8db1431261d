"""The signed region: header, entry table, segment digests and manifest. Parse it only after its signatures verified.

`docs/bundle-format.md` has the byte tables; "step N" is a step of its section "Reading a bundle". Nothing on a device
may call `SignedTable.parse` but `edgepack_runtime.verify`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence, Set
from dataclasses import field
from enum import IntEnum

from edgepack_runtime._data import dataclass
from edgepack_runtime.compression import NO_COMPRESSION, ZSTD
from edgepack_runtime.container import MAX_SIGNED_LENGTH
from edgepack_runtime.encryption import PayloadSuite, segment_count, segment_digests, stored_length
from edgepack_runtime.errors import FormatError, IncompatibleError

__all__ = [
    "BUNDLE_ROLE",
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "MAX_ENTRIES",
    "Entry",
    "EntryRole",
    "Header",
    "SignedTable",
    "StoredEntry",
    "is_name",
    "write_signed",
]

FORMAT_MAJOR = 1
FORMAT_MINOR = 0
BUNDLE_ROLE = 1
MAX_ENTRIES = 64
_KNOWN_CRITICAL_FLAGS = 0
# What this version can write; what a reader can read also depends on what is installed there.
_WRITABLE = frozenset({NO_COMPRESSION, ZSTD})
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
_NAME_SIZE = 32
_DIGEST_SIZE = 32

_HEADER = struct.Struct("<HHIIHHQQQQ16s32s32s32s32s32sIIII")
_ENTRY = struct.Struct("<32sHHIQQQQII")


class EntryRole(IntEnum):
    """What an entry is for; the number is the one in the file. 16 is reserved for patches."""

    MODEL = 1
    LABELS = 2
    GOLDEN = 3
    ASSET = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a bundle is and for whom: the fields a loader decides by.

    `created` and `expires` are unix seconds; an `expires` of 0 means never. `profile_digest` is what
    `DeviceProfile.digest()` returns.
    """

    product: str
    profile: str
    profile_digest: bytes
    engine: str
    engine_version: str
    bundle_id: bytes
    security_version: int
    created: int
    expires: int = 0
    suite: PayloadSuite = PayloadSuite.COBBLESTONE_256
    flags: int = 0
    format_minor: int = FORMAT_MINOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file in the payload.

    `offset` counts from the start of the payload; `stored_length` is what is read, `plain_length` what decryption
    gives, and `content_length` what decompression of that gives: the entry itself.
    """

    name: str
    role: EntryRole
    offset: int
    stored_length: int
    plain_length: int
    content_length: int
    compression: int = NO_COMPRESSION
    digests: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry to be laid out by the writer: `stored` is what goes into the payload."""

    name: str
    role: EntryRole
    plain_length: int
    stored: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTable:
    """The parsed signed region. `entries` are sorted by name, which is also their order in the payload."""

    header: Header
    entries: tuple[Entry, ...]
    manifest: bytes = field(repr=False)

    @property
    def payload_length(self) -> int:
        """Bytes of the whole payload."""
        return sum(entry.stored_length for entry in self.entries)

    @classmethod
    def parse(cls, signed: bytes, compressions: Set[int] = frozenset({NO_COMPRESSION})) -> SignedTable:
        """Return the table in `signed`, which must be used up to the last byte (steps 7 and 8).

        Args:
            signed: the signed region.
            compressions: those that can be read here.

        Raises:
            FormatError: a field is malformed or contradicts another one.
            IncompatibleError: it is well-formed, but of a format, role, suite or feature unknown to this version.
        """
        if len(signed) < _HEADER.size:
            raise FormatError(f"signed region: {len(signed)} bytes, wanted at least {_HEADER.size}")
        header, payload_length, counts = _parse_header(signed)
        entry_count, digest_count, manifest_length = counts
        segments_at = _HEADER.size + entry_count * _ENTRY.size
        manifest_at = segments_at + digest_count * _DIGEST_SIZE
        if (wanted := manifest_at + manifest_length) != len(signed):
            raise FormatError(f"signed region: {len(signed)} bytes, its counts make {wanted}")
        digests = tuple(signed[at : at + _DIGEST_SIZE] for at in range(segments_at, manifest_at, _DIGEST_SIZE))
        entries: list[Entry] = []
        offset = first_segment = 0
        for i in range(entry_count):
            record = signed[_HEADER.size + i * _ENTRY.size :][: _ENTRY.size]
            entry = _parse_entry(record, (header.suite, compressions), (offset, first_segment), digests)
            if entries and not entries[-1].name < entry.name:
                raise FormatError(f"entry {entry.name!r}: stands after {entries[-1].name!r}, names must ascend")
            entries.append(entry)
            offset += entry.stored_length
            first_segment += len(entry.digests)
        if offset != payload_length:
            raise FormatError(f"entries: they cover {offset} bytes of a payload of {payload_length}")
        if first_segment != digest_count:
            raise FormatError(f"entries: they cover {first_segment} of {digest_count} segments")
        return cls(header=header, entries=tuple(entries), manifest=signed[manifest_at:])

    def pack(self) -> bytes:
        """Return the bytes `parse` reads.

        Raises:
            FormatError: a field does not fit the format, or the whole is longer than allowed.
            IncompatibleError: a field asks for something this version does not know.
        """
        records, first_segment = [], 0
        for entry in self.entries:
            records.append(_pack_entry(entry, first_segment))
            first_segment += len(entry.digests)
        signed = b"".join(
            (
                _pack_header(self, first_segment),
                *records,
                *(digest for entry in self.entries for digest in entry.digests),
                self.manifest,
            )
        )
        if len(signed) > MAX_SIGNED_LENGTH:
            raise FormatError(f"signed region: {len(signed)} bytes, at most {MAX_SIGNED_LENGTH} are allowed")
        # Whatever this version writes it must also read: the reader's rules are checked once, in one place.
        if self.parse(signed, _WRITABLE) != self:
            raise FormatError("signed region: it would not read back as it was given")
        return signed


def is_name(text: str) -> bool:
    """Return whether a text can stand in a name field."""
    return text.isascii() and _NAME.fullmatch(text.encode()) is not None


def write_signed(header: Header, stored: Sequence[StoredEntry], manifest: bytes) -> bytes:
    """Return the signed region for entries that will stand in the payload in the order of their names.

    Raises:
        FormatError: a name or length is not allowed, two entries share a name, or the whole is too long.
    """
    entries, offset = [], 0
    for item in sorted(stored, key=lambda item: item.name):
        entries.append(
            Entry(
                name=item.name,
                role=item.role,
                offset=offset,
                stored_length=len(item.stored),
                plain_length=item.plain_length,
                content_length=item.plain_length,
                digests=segment_digests(header.suite, item.stored),
            )
        )
        offset += len(item.stored)
    return SignedTable(header=header, entries=tuple(entries), manifest=manifest).pack()


def _parse_header(signed: bytes) -> tuple[Header, int, tuple[int, int, int]]:
    """Return the header, the payload's length and the counts of entries, segments and manifest bytes."""
    (
        major, minor, critical, flags, role, suite,
        security_version, created, expires, payload_length,
        bundle_id, profile_digest, product, profile, engine, engine_version,
        entry_count, digest_count, manifest_length, reserved,
    ) = _HEADER.unpack_from(signed)  # fmt: skip
    if major != FORMAT_MAJOR:
        raise IncompatibleError(f"header: format {major}.{minor}, this reader knows {FORMAT_MAJOR}.x")
    if unknown := critical & ~_KNOWN_CRITICAL_FLAGS:
        raise IncompatibleError(f"header: critical flags {unknown:#x} are not known to this reader")
    if role != BUNDLE_ROLE:
        raise IncompatibleError(f"header: role {role}, this reader opens role {BUNDLE_ROLE}, a model bundle")
    if suite not in PayloadSuite.__members__.values():
        raise IncompatibleError(f"header: payload suite {suite} is not known to this reader")
    if reserved != 0:
        raise FormatError(f"header: reserved field is {reserved:#x}, wanted 0")
    if not 1 <= entry_count <= MAX_ENTRIES:
        raise FormatError(f"header: {entry_count} entries, wanted 1 to {MAX_ENTRIES}")
    if expires != 0 and expires <= created:
        raise FormatError(f"header: it expires at {expires}, before it was created at {created}")
    header = Header(
        product=_parse_name("header: product", product),
        profile=_parse_name("header: profile", profile),
        profile_digest=profile_digest,
        engine=_parse_name("header: engine", engine),
        engine_version=_parse_name("header: engine version", engine_version),
        bundle_id=bundle_id,
        security_version=security_version,
        created=created,
        expires=expires,
        suite=PayloadSuite(suite),
        flags=flags,
        format_minor=minor,
    )
    return header, payload_length, (entry_count, digest_count, manifest_length)


def _parse_entry(
    record: bytes, reads: tuple[PayloadSuite, Set[int]], position: tuple[int, int], digests: tuple[bytes, ...]
) -> Entry:
    """Return an entry that must begin at `position`: an offset and a segment number."""
    suite, compressions = reads
    raw_name, role, compression, flags, offset, stored, plain, content, first, count = _ENTRY.unpack(record)
    name = _parse_name("entry name", raw_name)
    if role not in EntryRole.__members__.values():
        raise IncompatibleError(f"entry {name!r}: role {role} is not known to this reader")
    if compression not in compressions:
        raise IncompatibleError(
            f"entry {name!r}: compression {compression} is not supported by this reader",
            hint="it is zstd: pip install 'edgepack-runtime[zstd]'" if compression == ZSTD else None,
        )
    if flags != 0:
        raise IncompatibleError(f"entry {name!r}: flags {flags:#x} are not known to this reader")
    if (offset, first) != position:
        raise FormatError(
            f"entry {name!r}: begins at byte {offset}, segment {first}, wanted byte {position[0]}, "
            f"segment {position[1]}: entries must neither overlap nor leave holes"
        )
    if stored != stored_length(suite, plain):
        raise FormatError(
            f"entry {name!r}: {plain} bytes are stored in {stored}, wanted {stored_length(suite, plain)}"
        )
    if compression == NO_COMPRESSION and content != plain:
        raise FormatError(f"entry {name!r}: content of {content} bytes, but {plain} bytes and no compression")
    if compression != NO_COMPRESSION and content <= plain:
        raise FormatError(f"entry {name!r}: content of {content} bytes, compressed to {plain}")
    if count != segment_count(suite, stored) or first + count > len(digests):
        raise FormatError(f"entry {name!r}: {count} segments cannot hold {stored} bytes")
    return Entry(
        name=name,
        role=EntryRole(role),
        offset=offset,
        stored_length=stored,
        plain_length=plain,
        content_length=content,
        compression=compression,
        digests=digests[first : first + count],
    )


def _pack_header(table: SignedTable, digest_count: int) -> bytes:
    header = table.header
    try:
        return _HEADER.pack(
            FORMAT_MAJOR,
            header.format_minor,
            _KNOWN_CRITICAL_FLAGS,
            header.flags,
            BUNDLE_ROLE,
            header.suite,
            header.security_version,
            header.created,
            header.expires,
            table.payload_length,
            _exactly("bundle id", header.bundle_id, 16),
            _exactly("profile digest", header.profile_digest, 32),
            _pack_name("header: product", header.product),
            _pack_name("header: profile", header.profile),
            _pack_name("header: engine", header.engine),
            _pack_name("header: engine version", header.engine_version),
            len(table.entries),
            digest_count,
            len(table.manifest),
            0,
        )
    except struct.error as error:
        raise FormatError(f"header: a number does not fit its field ({error})") from None


def _pack_entry(entry: Entry, first_segment: int) -> bytes:
    return _ENTRY.pack(
        _pack_name("entry name", entry.name),
        entry.role,
        entry.compression,
        0,
        entry.offset,
        entry.stored_length,
        entry.plain_length,
        entry.content_length,
        first_segment,
        len(entry.digests),
    )


def _exactly(what: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise FormatError(f"header: {what} of {len(value)} bytes, wanted {size}")
    return value


def _pack_name(what: str, name: str) -> bytes:
    raw = name.encode("utf-8", "replace").ljust(_NAME_SIZE, b"\0")
    _parse_name(what, raw)
    return raw


def _parse_name(what: str, raw: bytes) -> str:
    name = raw.rstrip(b"\0")
    # At most 31 characters, so at least one NUL ends every name; no path can be spelt with these.
    if not _NAME.fullmatch(name):
        raise FormatError(f"{what}: {name!r} is no name (A-Z, a-z, 0-9, '.', '_', '-'; at most 31; first no sign)")
    return name.decode("ascii")
