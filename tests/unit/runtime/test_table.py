"""The signed region: field by field, each lie is refused, although its signature would hold."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bundlekit import ENTRIES, HEADER, Recipe, make, seed, stored_entries
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.errors import BundleError, FormatError, IncompatibleError
from edgepack_runtime.table import Entry, EntryRole, Header, SignedTable, StoredEntry, write_signed

SIGNED = make().signed
HEADER_SIZE, ENTRY_SIZE = 240, 80
# Offsets as in docs/bundle-format.md.
FIELDS = {
    "major": (0, "H"), "minor": (2, "H"), "critical": (4, "I"), "flags": (8, "I"),
    "role": (12, "H"), "suite": (14, "H"),
    "security_version": (16, "Q"), "created": (24, "Q"), "expires": (32, "Q"), "payload_length": (40, "Q"),
    "entry_count": (224, "I"), "segment_count": (228, "I"), "manifest_length": (232, "I"), "reserved": (236, "I"),
}  # fmt: skip
ENTRY_FIELDS = {
    "role": (32, "H"), "compression": (34, "H"), "flags": (36, "I"), "offset": (40, "Q"), "stored": (48, "Q"),
    "plain": (56, "Q"), "content": (64, "Q"), "first": (72, "I"), "count": (76, "I"),
}  # fmt: skip


def with_field(name: str, value: int, signed: bytes = SIGNED) -> bytes:
    at, kind = FIELDS[name]
    data = bytearray(signed)
    struct.pack_into("<" + kind, data, at, value)
    return bytes(data)


def with_entry_field(name: str, value: int, index: int = 1) -> bytes:
    at, kind = ENTRY_FIELDS[name]
    data = bytearray(SIGNED)
    struct.pack_into("<" + kind, data, HEADER_SIZE + index * ENTRY_SIZE + at, value)
    return bytes(data)


def get_entry_field(name: str, index: int = 1) -> int:
    at, kind = ENTRY_FIELDS[name]
    return int(struct.unpack_from("<" + kind, SIGNED, HEADER_SIZE + index * ENTRY_SIZE + at)[0])


def with_name(at: int, name: bytes) -> bytes:
    return SIGNED[:at] + name.ljust(32, b"\0") + SIGNED[at + 32 :]


def test_the_table_reads_back_as_it_was_written() -> None:
    table = SignedTable.parse(SIGNED)
    assert (table.header, table.manifest, table.pack()) == (HEADER, b'{"schema":1}', SIGNED)


def test_the_entries_are_sorted_and_follow_each_other() -> None:
    entries = SignedTable.parse(SIGNED).entries
    assert [(e.name, e.role, e.plain_length) for e in entries] == [(n, r, len(d)) for n, r, d in sorted(ENTRIES)]
    assert [e.offset for e in entries] == [0, 272, 272 + 85]


def test_the_header_is_240_bytes_and_an_entry_80() -> None:
    assert len(SIGNED) == HEADER_SIZE + 3 * ENTRY_SIZE + 3 * 32 + len(b'{"schema":1}')


def test_cut_anywhere_it_is_refused() -> None:
    for size in range(len(SIGNED)):
        with pytest.raises(BundleError):
            SignedTable.parse(SIGNED[:size])


def test_no_byte_may_follow() -> None:
    with pytest.raises(FormatError, match="its counts make"):
        SignedTable.parse(SIGNED + b"\0")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("major", 0, "format 0.0"),
        ("major", 2, "format 2.0"),
        ("critical", 1, "critical flags 0x1"),
        ("critical", 2**31, "critical flags 0x80000000"),
        ("role", 0, "role 0"),
        ("role", 32, "role 32"),
        ("suite", 2, "suite 2"),
        ("suite", 65535, "suite 65535"),
    ],
)
def test_what_a_newer_writer_may_demand_is_incompatible(name: str, value: int, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        SignedTable.parse(with_field(name, value))


@pytest.mark.parametrize("name", ["minor", "flags"])
def test_what_a_newer_writer_may_add_is_accepted(name: str) -> None:
    assert SignedTable.parse(with_field(name, 0xFFFF)).entries == SignedTable.parse(SIGNED).entries


@pytest.mark.parametrize("name", ["payload_length", "entry_count", "segment_count", "manifest_length", "reserved"])
@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 1])
def test_a_count_or_length_that_lies_is_refused(name: str, value: int) -> None:
    altered = with_field(name, value)
    if altered == SIGNED:  # the reserved field is 0
        altered = with_field(name, 2)
    with pytest.raises(FormatError):
        SignedTable.parse(altered)


@pytest.mark.parametrize("value", [2**32, 2**63, 2**64 - 1])
def test_a_huge_payload_length_is_refused(value: int) -> None:
    with pytest.raises(FormatError, match="cover"):
        SignedTable.parse(with_field("payload_length", value))


@pytest.mark.parametrize("expires", [1, HEADER.created])
def test_a_bundle_cannot_expire_before_it_was_made(expires: int) -> None:
    with pytest.raises(FormatError, match="expires"):
        SignedTable.parse(with_field("expires", expires))


@pytest.mark.parametrize("name", ["offset", "stored", "plain", "content", "first", "count"])
@pytest.mark.parametrize("change", [-1, 1, 2**31, 2**32, 2**63])
def test_an_entry_that_lies_about_where_or_how_long_it_is_is_refused(name: str, change: int) -> None:
    size = 2 ** (8 * struct.calcsize(ENTRY_FIELDS[name][1]))
    value = (get_entry_field(name) + change) % size
    if value == get_entry_field(name):  # 2**32 added to 32 bits
        value = size - 1
    with pytest.raises(FormatError, match=r"entry 'labels\.txt'"):
        SignedTable.parse(with_entry_field(name, value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("role", 0, "role 0"),
        ("role", 16, "role 16"),
        ("compression", 1, "compression 1 is not supported"),
        ("compression", 2, "compression 2 is not supported"),
        ("flags", 1, "flags 0x1"),
    ],
)
def test_an_entry_that_needs_a_newer_reader_is_incompatible(name: str, value: int, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        SignedTable.parse(with_entry_field(name, value))


NAMES_AT = {"product": 96, "profile": 128, "engine": 160, "engine version": 192, "entry": HEADER_SIZE + ENTRY_SIZE}
BAD_NAMES = (
    b"", b".", b"..", b"../x", b"a/b", b"a\\b", b"-rf", b".hidden", b"a b", b"a\0b", b"\0a", b"\xc3\xa9", b"a\n",
    b"C:x", b"a" * 32, b"\xff" * 32,
)  # fmt: skip


@pytest.mark.parametrize("where", NAMES_AT)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused(where: str, name: bytes) -> None:
    with pytest.raises(FormatError, match="is no name"):
        SignedTable.parse(with_name(NAMES_AT[where], name))


@pytest.mark.parametrize("where", ["product", "profile", "engine", "engine version"])
@pytest.mark.parametrize("name", [b"a", b"A.b_c-9", b"x" * 31])
def test_a_name_is_accepted(where: str, name: bytes) -> None:
    header = SignedTable.parse(with_name(NAMES_AT[where], name)).header
    assert getattr(header, where.replace(" ", "_")) == name.decode()


@pytest.mark.parametrize("name", [b"golden.bin", b"a.txt", b"zzz"])
def test_entries_must_ascend_by_name_and_each_be_there_once(name: bytes) -> None:
    with pytest.raises(FormatError, match="names must ascend"):
        SignedTable.parse(with_name(NAMES_AT["entry"], name))


def entries_of(count: int) -> list[StoredEntry]:
    return [StoredEntry(name=f"e{i:02}", role=EntryRole.ASSET, plain_length=1, stored=b"x") for i in range(count)]


PLAIN = replace(HEADER, suite=PayloadSuite.PLAIN)


@pytest.mark.parametrize("count", [1, 64])
def test_one_to_sixty_four_entries_are_written(count: int) -> None:
    assert len(SignedTable.parse(write_signed(PLAIN, entries_of(count), b"")).entries) == count


@pytest.mark.parametrize("count", [0, 65])
def test_no_entry_or_too_many_are_refused(count: int) -> None:
    with pytest.raises(FormatError, match=f"{count} entries"):
        write_signed(PLAIN, entries_of(count), b"")


def test_an_empty_entry_is_written_in_either_suite() -> None:
    for suite in PayloadSuite:
        recipe = Recipe(header=replace(HEADER, suite=suite), entries=(("empty", EntryRole.ASSET, b""),))
        table = SignedTable.parse(write_signed(recipe.header, stored_entries(recipe), b""))
        assert (table.entries[0].plain_length, len(table.entries[0].digests)) == (0, 1)


def test_two_entries_of_one_name_are_not_written() -> None:
    with pytest.raises(FormatError, match="names must ascend"):
        write_signed(PLAIN, [entries_of(1)[0], entries_of(1)[0]], b"")


def wrong_headers() -> dict[str, Header]:
    return {
        "a name with a space": replace(HEADER, product="two words"),
        "a name of other letters": replace(HEADER, product="café"),
        "no name": replace(HEADER, engine=""),
        "a name too long": replace(HEADER, product="x" * 32),
        "a surrogate": replace(HEADER, product="\ud800"),
        "a name that ends in NUL": replace(HEADER, product="x\0"),
        "a negative version": replace(HEADER, security_version=-1),
        "a version above 64 bits": replace(HEADER, security_version=2**64),
        "a short bundle id": replace(HEADER, bundle_id=bytes(15)),
        "a short profile digest": replace(HEADER, profile_digest=bytes(31)),
        "an expiry before it is made": replace(HEADER, expires=HEADER.created),
    }


@pytest.mark.parametrize("what", wrong_headers())
def test_a_wrong_header_is_not_written(what: str) -> None:
    with pytest.raises(FormatError):
        write_signed(wrong_headers()[what], stored_entries(Recipe()), b"")


def test_a_stored_entry_of_another_length_is_not_written() -> None:
    entry = StoredEntry(name="x", role=EntryRole.MODEL, plain_length=5, stored=b"only")
    with pytest.raises(FormatError, match="wanted 5"):
        write_signed(PLAIN, [entry], b"")


def test_a_manifest_too_long_is_not_written() -> None:
    with pytest.raises(FormatError, match="at most 524288"):
        write_signed(HEADER, stored_entries(Recipe()), bytes(512 * 1024))


def test_a_table_that_would_read_back_otherwise_is_not_written() -> None:
    table = SignedTable.parse(SIGNED)
    entries = (replace(table.entries[0], digests=(seed("other"), seed("other"))), *table.entries[1:])
    with pytest.raises(FormatError, match="2 segments cannot hold"):
        replace(table, entries=entries).pack()


@pytest.mark.parametrize(("change", "message"), [(-1, "segments cannot hold"), (1, "cover 3 of 4 segments")])
def test_there_is_one_digest_for_each_segment(change: int, message: str) -> None:
    digests = HEADER_SIZE + 3 * ENTRY_SIZE
    one_less = SIGNED[:digests] + SIGNED[digests + 32 :]
    one_more = SIGNED[:digests] + bytes(32) + SIGNED[digests:]
    with pytest.raises(FormatError, match=message):
        SignedTable.parse(with_field("segment_count", 3 + change, one_less if change < 0 else one_more))


@pytest.mark.parametrize("field", ["bundle_id", "profile_digest"])
def test_an_identifier_of_another_length_is_said(field: str) -> None:
    with pytest.raises(FormatError, match=f"{field.replace('_', ' ')} of 5 bytes"):
        write_signed(replace(HEADER, **{field: b"short"}), stored_entries(Recipe()), b"")


def test_an_entrys_repr_is_short() -> None:
    entry: Entry = SignedTable.parse(SIGNED).entries[0]
    assert "digests" not in repr(entry)
