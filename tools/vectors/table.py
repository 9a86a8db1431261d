"""Vectors of steps 7 to 11: what was signed, by a publisher who erred or means harm, and what the device accepts."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import replace

from tools.vectors.keys import seed
from tools.vectors.layout import (
    ENTRY_AT,
    ENTRY_FIELDS,
    HEADER_FIELDS,
    Entry,
    Spec,
    name_field,
    parts,
    payload_of,
    put,
    resigned,
    signed_of,
)
from tools.vectors.vector import BASE, ONE, Vector, edges, good, refused

__all__ = ["entries", "header", "names", "order", "policy", "revoked"]

CREATED, EXPIRES, NOW, FLOOR = BASE.created, BASE.expires, 1_760_000_000, 7
UNKNOWN, MALFORMED, TABLE = ("policy", 7), ("format", 7), ("format", 8)
Verdict = tuple[str, int] | None


def _header_verdict(field: str, value: int) -> Verdict:
    """Return what the document says of a header field, every other one being as it was; None is ok."""
    if field in ("format_major", "critical_flags", "role"):
        return UNKNOWN
    if field == "payload_suite":
        # The entries are too long for suite 0.
        return TABLE if value == 0 else UNKNOWN
    if field == "security_version":
        return ("policy", 10) if value < FLOOR else None
    if field == "created":
        return MALFORMED if value >= EXPIRES else None
    if field == "expires" and value != 0:
        return MALFORMED if value <= CREATED else ("policy", 11) if value <= NOW else None
    if field == "entry_count":
        return TABLE if 1 <= value <= 64 else MALFORMED
    if field == "reserved":
        return MALFORMED
    return TABLE if field in ("payload_length", "segment_count", "manifest_length") else None


def _verdict(name: str, spec: Spec, data: bytes, verdict: Verdict, **device: object) -> Vector:
    return refused(name, data, verdict, **device) if verdict else good(name, data, spec, **device)


def header() -> Iterator[Vector]:
    """Every number in the header at its edges, signed again."""
    spec, stored = ONE, payload_of(ONE)
    signed, payload = signed_of(spec, stored), b"".join(stored)
    for field, (at, size) in HEADER_FIELDS.items():
        if size > 8:
            continue
        found = int.from_bytes(signed[at : at + size], "little")
        extra = {"expires": {CREATED, CREATED + 1, NOW, NOW + 1}, "created": {EXPIRES - 1, EXPIRES}}.get(field, set())
        extra |= {"entry_count": {64, 65}, "format_major": {256}, "role": {32}}.get(field, set())
        for value in sorted({*edges(size, found), *extra}):
            data = resigned(spec, put(signed, (at, size), value), payload).file()
            yield _verdict(f"{field} {value}", spec, data, _header_verdict(field, value))
    for field in ("bundle_id", "profile_digest"):
        at, size = HEADER_FIELDS[field]
        for name, raw in (("zeros", bytes(size)), ("another", seed("another", size))):
            data = resigned(spec, put(signed, (at, size), raw), payload).file()
            yield refused(f"{field} {name}: the payload is another bundle's", data, ("commitment", 15))
    for bit in (7, 16):
        data = resigned(spec, put(signed, HEADER_FIELDS["critical_flags"], 1 << bit), payload).file()
        yield refused(f"critical flag {bit}", data, UNKNOWN)
    for size in (0, 1, 239):
        yield refused(f"signed region of {size} bytes", resigned(spec, signed[:size], payload).file(), MALFORMED)
    for size in (240, 241, len(signed) - 1):
        yield refused(f"signed region of {size} bytes", resigned(spec, signed[:size], payload).file(), TABLE)
    yield refused("a byte after the manifest", resigned(spec, signed + b" ", payload).file(), TABLE)
    empty = replace(spec, manifest=b"")
    yield good("no manifest", parts(empty).file(), empty)
    # Counts whose product does not fit 32 bits, and whose sum is the true length modulo 2^32.
    wrap = put(put(signed, HEADER_FIELDS["segment_count"], 2**27 + 1), HEADER_FIELDS["manifest_length"], 12)
    yield refused("segment_count wraps around 2^32", resigned(spec, wrap, payload).file(), TABLE)


NAMES: tuple[tuple[str, bytes, bool], ...] = (
    ("one letter", b"a", True),
    ("one digit", b"7", True),
    ("31 characters", b"N" + b"-" * 30, True),
    ("every sign", b"Az09._-", True),
    ("two dots inside", b"a..b", True),
    ("empty", b"", False),
    ("32 characters", b"a" * 32, False),
    ("first a dot", b".a", False),
    ("first a dash", b"-a", False),
    ("first an underscore", b"_a", False),
    ("a dot", b".", False),
    ("two dots", b"..", False),
    ("a slash", b"a/b", False),
    ("a backslash", b"a\\b", False),
    ("a colon", b"c:d", False),
    ("a space", b"a b", False),
    ("a newline at the end", b"a\n", False),
    ("a NUL inside", b"a\0b", False),
    ("a NUL first", b"\0a", False),
    ("the last byte used", b"a" + bytes(30) + b"b", False),
    ("not ASCII", "é".encode(), False),
    ("a percent", b"a%2f", False),
    ("DEL", b"a\x7f", False),
    ("0xff", b"\xff", False),
)


def names() -> Iterator[Vector]:
    """The five names, well-formed and not."""
    stored = payload_of(ONE)
    signed, payload = signed_of(ONE, stored), b"".join(stored)
    for field in ("product", "profile", "engine", "engine_version"):
        for name, raw, allowed in NAMES:
            data = resigned(ONE, put(signed, HEADER_FIELDS[field], name_field(raw)), payload).file()
            device = {"profile": raw.decode()} if field == "profile" and allowed else {}
            yield _verdict(f"{field}: {name}", ONE, data, None if allowed else MALFORMED, **device)
    for name, raw, allowed in NAMES:
        if allowed:
            spec = replace(ONE, entries=(replace(ONE.entries[0], name=raw.decode()),))
            yield good(f"entry: {name}", parts(spec).file(), spec)
        else:
            changed = put(signed, (ENTRY_AT, 32), name_field(raw))
            yield refused(f"entry: {name}", resigned(ONE, changed, payload).file(), TABLE)
    renamed = put(signed, (ENTRY_AT, 32), name_field("labels.tx2"))
    data = resigned(ONE, renamed, payload).file()
    yield refused("entry: renamed, not encrypted again", data, ("commitment", 15))


def _entry_verdict(field: str, value: int) -> Verdict:
    if field == "role":
        return None if 1 <= value <= 4 else ("policy", 8)
    return ("policy", 8) if field in ("compression", "flags") else TABLE


def entries() -> Iterator[Vector]:
    """Every number of an entry at its edges, and every way to lay entries out wrongly; signed again."""
    stored = payload_of(BASE)
    signed, payload = signed_of(BASE, stored), b"".join(stored)
    for index in (0, 1):
        for field, (at, size) in ENTRY_FIELDS.items():
            if size > 8:
                continue
            where = (ENTRY_AT + 80 * index + at, size)
            found = int.from_bytes(signed[where[0] : where[0] + size], "little")
            extra = {"role": {4, 5, 16}, "segment_count": {2}}.get(field, set()) - {found}
            for value in sorted({*edges(size, found), *extra}):
                data = resigned(BASE, put(signed, where, value), payload).file()
                yield _verdict(f"entry {index}: {field} {value}", BASE, data, _entry_verdict(field, value))
    yield from _layouts(signed, stored)
    yield from _counts()
    for index in (0, 1):
        other = put(signed, (ENTRY_AT + 240 + 32 * index, 32), bytes(32))
        yield refused(f"digest {index} is another", resigned(BASE, other, payload).file(), ("payload", 14))
    yield from _wrapped()


def _wrapped() -> Iterator[Vector]:
    """Yield lengths whose stored form is the true one modulo 2^64."""
    for plain in range(1, 40):
        spec = replace(ONE, entries=(Entry(name="labels.txt", role=2, plain=bytes(plain)),))
        stored = payload_of(spec)
        wanted = 2**64 + len(stored[0])
        near = (wanted - 72) * 1024 // 1025
        found = [n for n in range(near - 40, near + 40) if n + 72 + 16 * (n // 16_384) == wanted]
        if found and found[0] < 2**64:
            signed = signed_of(spec, stored)
            for field in ("plain_length", "content_length"):
                at, size = ENTRY_FIELDS[field]
                signed = put(signed, (ENTRY_AT + at, size), found[0])
            data = resigned(spec, signed, stored[0]).file()
            yield refused(f"plain_length {found[0]}: stored_length wraps around 2^64", data, TABLE)
            return


def _layouts(signed: bytes, stored: list[bytes]) -> Iterator[Vector]:
    payload = b"".join(stored)
    records = [signed[ENTRY_AT + 80 * i : ENTRY_AT + 80 * (i + 1)] for i in range(3)]
    before, after = signed[:ENTRY_AT], signed[ENTRY_AT + 240 :]
    first, second, third = records

    def made(name: str, *changed: bytes) -> Vector:
        return refused(name, resigned(BASE, before + b"".join(changed) + after, payload).file(), TABLE)

    def field(record: bytes, name: str, value: int) -> bytes:
        return put(record, ENTRY_FIELDS[name], value)

    yield made("records swapped", second, first, third)
    yield made("one record twice", first, first, third)
    yield made("two entries share a name", first, second[:0] + first[:32] + second[32:], third)
    yield made("names descend", name_field("z") + first[32:], second, third)
    yield made("two entries, one place", first, field(field(second, "offset", 0), "first_segment", 0), third)
    hole = [first, field(second, "offset", len(stored[0]) + 16), field(third, "offset", len(payload) - 100)]
    yield made("a hole", *hole)
    gap = payload[: len(stored[0])] + bytes(16) + payload[len(stored[0]) :]
    table = before + b"".join(
        [first]
        + [field(r, "offset", int.from_bytes(r[40:48], "little") + 16) for r in (second, third)]
    ) + after  # fmt: skip
    table = put(table, HEADER_FIELDS["payload_length"], len(gap))
    yield refused("a hole that the payload has too", resigned(BASE, table, gap).file(), TABLE)
    front = before + b"".join(
        field(r, "offset", int.from_bytes(r[40:48], "little") + 16) for r in (first, second, third)
    ) + after  # fmt: skip
    front = put(front, HEADER_FIELDS["payload_length"], len(payload) + 16)
    yield refused("the first entry does not begin at 0", resigned(BASE, front, bytes(16) + payload).file(), TABLE)
    longer = put(signed, HEADER_FIELDS["payload_length"], len(payload) + 1)
    yield refused("a byte after the last entry", resigned(BASE, longer, payload + b"\0").file(), TABLE)
    spare = put(signed, HEADER_FIELDS["segment_count"], 4)
    at = ENTRY_AT + 240
    spare = spare[:at] + bytes(32) + spare[at:]
    yield refused("a digest before the first", resigned(BASE, spare, payload).file(), TABLE)
    spare = put(signed, HEADER_FIELDS["segment_count"], 4)
    spare = spare[: at + 96] + bytes(32) + spare[at + 96 :]
    yield refused("a digest after the last", resigned(BASE, spare, payload).file(), TABLE)
    fewer = put(signed, HEADER_FIELDS["segment_count"], 2)
    yield refused("a digest too few", resigned(BASE, fewer[: at + 64] + fewer[at + 96 :], payload).file(), TABLE)
    shift = put(before, HEADER_FIELDS["segment_count"], 4) + first + second + field(third, "segment_count", 2)
    shift += after[:96] + bytes(32) + after[96:]
    yield refused("an entry with two digests for one segment", resigned(BASE, shift, payload).file(), TABLE)
    swapped = signed[:at] + signed[at + 32 : at + 64] + signed[at : at + 32] + signed[at + 64 :]
    yield refused("digests swapped", resigned(BASE, swapped, payload).file(), ("payload", 14))
    moved = resigned(BASE, signed, stored[1] + stored[0] + stored[2]).file()
    yield refused("entries swapped in the payload", moved, ("payload", 14))


def _counts() -> Iterator[Vector]:
    for count in (64, 65):
        found = tuple(Entry(name=f"e{i:02}", role=4, plain=bytes([i])) for i in range(count))
        spec = replace(BASE, suite=0, entries=found, recipients=())
        yield _verdict(f"{count} entries", spec, parts(spec).file(), None if count == 64 else MALFORMED)
    upper = tuple(Entry(name=name, role=4, plain=name.encode()) for name in ("A", "Z", "a", "a-", "a.", "a0", "aa"))
    spec = replace(BASE, entries=upper)
    yield good("names ascend as bytes", parts(spec).file(), spec)
    spec = replace(BASE, entries=tuple(reversed(upper)))
    yield refused("names ascend as people sort them backwards", parts(spec).file(), TABLE)
    spec = replace(BASE, entries=(Entry(name="a", role=4, plain=b"1"), Entry(name="B", role=4, plain=b"2")))
    yield refused("names ascend only without case", parts(spec).file(), TABLE)
    none = replace(ONE, entries=())
    yield refused("no entry", parts(none).file(), MALFORMED)
    same = replace(BASE, entries=tuple(replace(entry, role=1) for entry in BASE.entries))
    yield good("three models", parts(same).file(), same)


def policy() -> Iterator[Vector]:
    """What this device takes, here and now."""
    base = parts(ONE)
    data = base.file()
    yield refused("built for another profile", data, ("policy", 9), profile="raspberry-pi-3")
    yield refused("a profile that begins like the device's", data, ("policy", 9), profile="raspberry-pi-4b")
    yield refused("a profile in other letters", data, ("policy", 9), profile="Raspberry-Pi-4")
    for floor, verdict in ((0, None), (6, None), (8, ("policy", 10)), (2**64 - 1, ("policy", 10))):
        yield _verdict(f"floor {floor}", ONE, data, verdict, accepted={"digits": floor})
    equal = replace(ONE, security_version=8)
    yield good("the version is the floor", parts(equal).file(), equal, accepted={"digits": 8})
    yield good("nothing accepted yet", data, ONE, accepted={})
    yield good("another product's floor", data, ONE, accepted={"letters": 99, "digit": 99, "digits2": 99})
    yield refused("the floor among others", data, ("policy", 10), accepted={"a": 1, "digits": 8, "z": 0})
    highest = replace(ONE, security_version=2**64 - 1)
    yield good("floor and version are the highest", parts(highest).file(), highest, accepted={"digits": 2**64 - 1})
    times = (0, CREATED, EXPIRES - 1, EXPIRES, EXPIRES + 1, 2**31, 2**32, 2**63, 2**64 - 1)
    for now in times:
        yield _verdict(f"installed at {now}", ONE, data, ("policy", 11) if now >= EXPIRES else None, now=now)
    expired = replace(ONE, expires=CREATED + 1)
    yield good("expired, but installed already", parts(expired).file(), expired, now=None)
    forever = replace(ONE, expires=0)
    yield good("never expires", parts(forever).file(), forever, now=2**64 - 1)
    yield good("a key for a bundle in clear", parts(ONE, suite=0).file(), ONE)
    yield good("no key for a bundle in clear", parts(ONE, suite=0, recipients=()).file(), ONE, device=None)


def revoked() -> Iterator[Vector]:
    """Keys and bundles that were good once."""
    ed, ec, old = "ed25519 release", "p256 release", "ed25519 second"
    base, both, data = parts(ONE), parts(ONE, signers=(ed, old)), parts(ONE).file()
    lacking = ("signature", 6)
    by_old = parts(ONE, signers=(old,))
    yield refused("signed by a revoked key alone", by_old.file(), lacking, revoked_keys=(old,))
    yield good("a revoked key's signature is passed over", both.file(), ONE, revoked_keys=(old,))
    wrong = tuple(
        replace(s, value=bytes(64)) if s.key_id == by_old.signatures[0].key_id else s for s in both.signatures
    )
    found = replace(both, signatures=wrong).file()
    yield good("a revoked key's wrong signature is passed over", found, ONE, revoked_keys=(old,))
    pair = {"trust": (ed, ec), "threshold": 2, "revoked_keys": (old,)}
    yield refused("a revoked key does not count", both.file(), lacking, **pair)
    yield good("enough without the revoked one", parts(ONE, signers=(ed, ec, old)).file(), ONE, **pair)
    yield good("another key is revoked", data, ONE, revoked_keys=(old, ec))
    here = ONE.bundle_id
    near = here[:-1] + bytes([here[-1] ^ 1])
    yield refused("this bundle is revoked", data, ("policy", 10), revoked_bundles=(here,))
    yield refused("this bundle among others", data, ("policy", 10), revoked_bundles=(bytes(16), here, near))
    yield good("other bundles are revoked", data, ONE, revoked_bundles=(bytes(16), near, b"\xff" * 16))
    device = {"revoked_bundles": (here,), "profile": "other"}
    yield refused("profile before revocation", data, ("policy", 9), **device)
    forged = replace(base, signatures=(replace(base.signatures[0], value=bytes(64)),)).file()
    yield refused("signature before revocation", forged, lacking, revoked_bundles=(here,))
    late = {"revoked_bundles": (here,), "now": EXPIRES}
    yield refused("revocation before expiry", data, ("policy", 10), **late)


def order() -> Iterator[Vector]:
    """Two things are wrong, and the earlier step must speak."""
    base = parts(ONE)
    other = {"profile": "other", "accepted": {"digits": 8}, "now": EXPIRES, "device": "x25519 stranger"}
    wrong = replace(base, signatures=(replace(base.signatures[0], value=bytes(64)),))
    yield refused("signature before policy", wrong.file(), ("signature", 6), **other)
    yield refused("blocks before signature", replace(wrong, after_grants=b"\0").file(), ("format", 4))
    yield refused("length before blocks", replace(wrong, after_grants=b"\0").file() + b"\0", ("preamble", 3))
    yield refused("caps before length", replace(base, preamble={"reserved": 1}).file() + b"\0", ("preamble", 2))
    yield refused("magic before caps", b"X" + replace(base, preamble={"reserved": 1}).file()[1:], ("preamble", 1))
    yield refused("threshold before signature", wrong.file(), ("signature", 5), threshold=0)
    fields = {"format_major": 2, "reserved": 1, "entry_count": 0}
    signed = base.signed
    for field, value in fields.items():
        signed = put(signed, HEADER_FIELDS[field], value)
    yield refused("unknown before malformed", resigned(ONE, signed, base.payload).file(), UNKNOWN, **other)
    signed = put(put(base.signed, HEADER_FIELDS["reserved"], 1), HEADER_FIELDS["segment_count"], 9)
    yield refused("header before table", resigned(ONE, signed, base.payload).file(), MALFORMED)
    signed = put(put(base.signed, (ENTRY_AT, 32), bytes(32)), (ENTRY_AT + 32, 2), 9)
    yield refused("an entry's name before its role", resigned(ONE, signed, base.payload).file(), TABLE)
    signed = put(put(base.signed, (ENTRY_AT + 32, 2), 9), (ENTRY_AT + 40, 8), 9)
    yield refused("an entry's role before its place", resigned(ONE, signed, base.payload).file(), ("policy", 8))
    three = parts(BASE)
    signed = put(put(three.signed, (ENTRY_AT + 40, 8), 9), (ENTRY_AT + 112, 2), 9)
    yield refused("the first entry before the second", resigned(BASE, signed, three.payload).file(), TABLE)
    signed = put(put(three.signed, (ENTRY_AT + 32, 2), 9), (ENTRY_AT + 120, 8), 9)
    yield refused("the first entry, all of it", resigned(BASE, signed, three.payload).file(), ("policy", 8))
    # A first entry that fits its own fields, but needs four digests where there are three.
    size = 3 * 64 * 16_384
    signed = put(three.signed, (ENTRY_AT + 48, 24), struct.pack("<QQQ", 56 + size + 16 * 193, size, size))
    signed = put(put(signed, (ENTRY_AT + 76, 4), 4), (ENTRY_AT + 112, 2), 9)
    yield refused("missing digests before the second entry", resigned(BASE, signed, three.payload).file(), TABLE)
    yield refused("table before policy", resigned(ONE, base.signed + b" ", base.payload).file(), TABLE, **other)
    data = base.file()
    yield refused("profile before version", data, ("policy", 9), **other)
    yield refused("version before expiry", data, ("policy", 10), **{**other, "profile": "raspberry-pi-4"})
    late = {"now": EXPIRES, "device": "x25519 stranger"}
    yield refused("expiry before grant", data, ("policy", 11), **late)
    cut = replace(base, payload=bytes(len(base.payload)))
    yield refused("grant before payload", cut.file(), ("no-grant", 12), device="x25519 stranger")
    changed = struct.pack("<Q", 0) * 3 + base.payload[24:]
    yield refused("digest before commitment", replace(base, payload=changed).file(), ("payload", 14))
    digest = hashlib.sha256(changed[:-1] + b"\0").digest()
    signed = put(base.signed, (ENTRY_AT + 80, 32), digest)
    data = resigned(ONE, signed, changed[:-1] + b"\0").file()
    yield refused("commitment before chunks", data, ("commitment", 15))
