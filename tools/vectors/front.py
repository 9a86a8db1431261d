"""Vectors of steps 1 to 6: preamble, blocks, signatures, thresholds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from tools.vectors.keys import key_id, seed, sign
from tools.vectors.layout import PREAMBLE_FIELDS, Grant, Parts, Signature, pae, parts, resigned, signature
from tools.vectors.vector import BASE, ONE, RELEASE, Vector, edges, good, refused

__all__ = ["blocks", "preamble", "signatures"]

CAPS = {"signed_length": 524_288, "signatures_length": 65_536, "grants_length": 1_048_576}
ORDER = int("FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551", 16)
FORMAT, SIGNATURE = ("format", 4), ("signature", 6)


def preamble() -> Iterator[Vector]:
    """Every field of the preamble, every way to cut and extend the file."""
    base = parts(ONE)
    data, front = base.file(), len(base.front())
    for at in range(8):
        yield refused(f"magic byte {at}", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], ("preamble", 1))
    yield refused("another file format", b"PK\x03\x04" + data[4:], ("preamble", 1))
    for field, (at, size) in PREAMBLE_FIELDS.items():
        found = int.from_bytes(data[at : at + size], "little")
        cap = CAPS.get(field, 0 if field == "reserved" else 2**64)
        for value in sorted({*edges(size, found), *({cap, cap + 1} if field in CAPS else set())}):
            step = 2 if value > cap else 3
            yield refused(f"{field} {value}", replace(base, preamble={field: value}).file(), ("preamble", step))
    for size in (0, 1, 7, 8, 31):
        yield refused(f"cut to {size}", data[:size], ("preamble", 1))
    for size in (32, 33, front - 1, front, front + 1, len(data) - 1):
        yield refused(f"cut to {size}", data[:size], ("preamble", 3))
    for extra in (b"\0", b"\n", bytes(16), data):
        yield refused(f"{len(extra)} bytes appended, first {extra[0]}", data + extra, ("preamble", 3))
    # The sum of the lengths is the file's modulo 2^64.
    for short in (1, 10, front - 32):
        wrapped = replace(base, preamble={"payload_length": 2**64 - short}).file()[: front - short]
        yield refused(f"payload_length {-short} modulo 2^64", wrapped, ("preamble", 3))
    # Lengths that agree with the file, but with a boundary moved.
    lengths = {"signed_length": len(base.signed), "signatures_length": len(base.signatures_block())}
    lengths["grants_length"] = len(base.grants_block())
    for left, right, first in (
        ("signed_length", "signatures_length", -1),
        ("signed_length", "signatures_length", 1),
        ("signatures_length", "grants_length", -1),
        ("signatures_length", "grants_length", 1),
    ):
        moved = {left: lengths[left] + first, right: lengths[right] - first}
        yield refused(f"{left} {first:+} and {right} {-first:+}", replace(base, preamble=moved).file(), FORMAT)
    for first in (-1, 1):
        moved = {"grants_length": lengths["grants_length"] + first, "payload_length": len(base.payload) - first}
        yield refused(f"grants_length {first:+}", replace(base, preamble=moved).file(), FORMAT)
    for payload, how in ((base.payload[:-1], "cut"), (base.payload + b"\0", "extended"), (b"", "gone")):
        yield refused(f"payload {how}, preamble agrees", replace(base, payload=payload).file(), ("format", 8))
    for name, block in (("signatures", "signatures_length"), ("grants", "grants_length")):
        front_parts = base.signed, base.signatures_block(), base.grants_block()
        for size in (0, 1):
            cut = [part[:size] if i == 1 + (name == "grants") else part for i, part in enumerate(front_parts)]
            head = replace(base, preamble={block: size}).file()[:32]
            yield refused(f"{name} block of {size} bytes", head + b"".join(cut) + base.payload, FORMAT)
    # The caps themselves are allowed.
    spec = replace(ONE, manifest=b" " * (524_288 - len(base.signed) + len(ONE.manifest)))
    yield good("signed region at its cap", parts(spec).file(), spec)
    spec = replace(ONE, manifest=spec.manifest + b" ")
    yield refused("signed region above its cap", parts(spec).file(), ("preamble", 2))
    for over, verdict in ((0, None), (1, ("preamble", 2))):
        free = CAPS["signatures_length"] + over - len(base.signatures_block()) - 34
        full = sorted((*base.signatures, Signature(key_id=bytes(32), value=bytes(free))), key=lambda s: s.key_id)
        data = replace(base, signatures=tuple(full)).file()
        yield (
            refused(f"signatures {over} above the cap", data, verdict)
            if verdict
            else good("signatures at their cap", data, ONE)
        )
        many = [Grant(kind=9, key_id=bytes([0, i]) + bytes(30), sealed=bytes(65_499)) for i in range(15)]
        free = CAPS["grants_length"] + over - len(base.grants_block()) - sum(len(g.pack()) for g in many) - 36
        many.append(Grant(kind=9, key_id=bytes(31) + b"\1", sealed=bytes(free)))
        full_grants = tuple(sorted((*base.grants, *many), key=lambda g: g.key_id))
        data = replace(base, grants=full_grants).file()
        yield (
            refused(f"grants {over} above the cap", data, verdict)
            if verdict
            else good("grants at their cap", data, ONE)
        )


def blocks() -> Iterator[Vector]:
    """The two unsigned blocks: counts, lengths, order, left-over bytes."""
    base = parts(ONE)
    one, sealed = base.signatures[0], base.grants[0]
    for value in edges(2, 1):
        yield refused(f"signature count {value}", replace(base, signature_count=value).file(), FORMAT)
        yield refused(f"grant count {value}", replace(base, grant_count=value).file(), FORMAT)
    for value in edges(2, 64):
        yield refused(
            f"signature length {value}", replace(base, signatures=(replace(one, length=value),)).file(), FORMAT
        )
    for value in edges(2, 80):
        yield refused(f"grant length {value}", replace(base, grants=(replace(sealed, length=value),)).file(), FORMAT)
    for value in edges(1, 0):
        altered = replace(sealed, reserved=value)
        yield refused(f"grant reserved {value}", replace(base, grants=(altered,)).file(), FORMAT)
    for size in (1, 34):
        yield refused(f"{size} bytes after signatures", replace(base, after_signatures=bytes(size)).file(), FORMAT)
    for size in (1, 36):
        yield refused(f"{size} bytes after grants", replace(base, after_grants=bytes(size)).file(), FORMAT)
    yield refused("no signature", replace(base, signatures=()).file(), FORMAT)
    strangers = [signature(f"ed25519 stranger {i}", base.signed) for i in range(16)]
    for count in (15, 16):
        found = tuple(sorted((one, *strangers[:count]), key=lambda s: s.key_id))
        data = replace(base, signatures=found).file()
        yield good("16 signatures", data, ONE) if count == 15 else refused("17 signatures", data, FORMAT)
    two = sorted((one, strangers[0]), key=lambda s: s.key_id)
    yield refused("signatures descend", replace(base, signatures=tuple(reversed(two))).file(), FORMAT)
    yield refused("one signature twice", replace(base, signatures=(one, one)).file(), FORMAT)
    other = replace(one, value=bytes(64))
    yield refused("one key signs twice", replace(base, signatures=(one, other)).file(), FORMAT)
    pair = parts(ONE, recipients=("x25519 device", "p256 device"))
    yield good("two grants", pair.file(), ONE)
    yield refused("grants descend", replace(pair, grants=tuple(reversed(pair.grants))).file(), FORMAT)
    yield refused("one grant twice", replace(base, grants=(sealed, sealed)).file(), FORMAT)
    for kind, size in ((1, 80), (2, 113), (3, 384)):
        for wrong in (0, size - 1, size + 1):
            stranger = Grant(kind=kind, key_id=b"\xff" * 32, sealed=bytes(wrong))
            data = replace(base, grants=(sealed, stranger)).file()
            yield refused(f"a stranger's grant of kind {kind} has {wrong} bytes", data, FORMAT)
        stranger = Grant(kind=kind, key_id=b"\xff" * 32, sealed=bytes(size))
        yield good(f"a stranger's grant of kind {kind} is not looked into", _with(base, stranger), ONE)
    for kind, size in ((0, 0), (4, 1), (32, 1120), (255, 80)):
        stranger = Grant(kind=kind, key_id=b"\xff" * 32, sealed=bytes(size))
        yield good(f"a grant of the unknown kind {kind}", _with(base, stranger), ONE)


def _with(base: Parts, *grants: Grant) -> bytes:
    return replace(base, grants=(*base.grants, *grants)).file()


def _der(r: int, s: int) -> bytes:
    body = b""
    for number in (r, s):
        raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
        body += b"\x02" + bytes([len(raw)]) + raw
    return b"\x30" + bytes([len(body)]) + body


def signatures() -> Iterator[Vector]:
    """Who signed, how, and whether that is enough."""
    ed, ec = "ed25519 release", "p256 release"
    base, ec_base = parts(ONE), parts(ONE, signers=(ec,))
    both = parts(ONE, signers=(ed, ec))
    three = parts(ONE, signers=(ed, ec, "ed25519 second"))
    trust = (ed, ec, "ed25519 second")
    yield good("ed25519", base.file(), ONE)
    yield good("p256", ec_base.file(), ONE, trust=(ec,))
    for name, found, threshold in (("one", base, 1), ("two", both, 2), ("three", three, 3)):
        yield good(f"{name} of three, all of them wanted", found.file(), ONE, trust=trust, threshold=threshold)
        if threshold < 3:
            data = found.file()
            yield refused(f"{name} of three, one more wanted", data, SIGNATURE, trust=trust, threshold=threshold + 1)
    yield good("more than wanted", three.file(), ONE, trust=trust, threshold=2)
    yield good("a stranger's signature is passed over", both.file(), ONE)
    yield refused("threshold 0", base.file(), ("signature", 5), threshold=0)
    yield refused("threshold 0, nobody trusted", base.file(), ("signature", 5), trust=(), threshold=0)
    yield refused("nobody trusted", base.file(), SIGNATURE, trust=())
    yield refused("another key trusted", base.file(), SIGNATURE, trust=("ed25519 second",))
    yield refused("more wanted than trusted", both.file(), SIGNATURE, trust=(ed,), threshold=2)
    yield refused("a key trusted twice counts once", base.file(), SIGNATURE, trust=(ed, ed), threshold=2)
    yield refused("a stranger does not count", both.file(), SIGNATURE, trust=(ed, "ed25519 second"), threshold=2)
    broken = tuple(replace(s, value=bytes(64)) if s.key_id == key_id(ed) else s for s in both.signatures)
    mixed = replace(both, signatures=broken)
    yield refused("one good, one wrong, one wanted", mixed.file(), SIGNATURE, trust=(ed, ec))
    yield good("a stranger's wrong signature is passed over", mixed.file(), ONE, trust=(ec,))
    empty = replace(base, signatures=tuple(sorted((*base.signatures, Signature(key_id=b"\xfe" * 32, value=b"")),
                                                  key=lambda s: s.key_id)))  # fmt: skip
    yield good("a stranger's empty signature is passed over", empty.file(), ONE)
    signed, value = base.signed, base.signatures[0].value
    order = 2**252 + 27742317777372353535851937790883648493
    high = value[:32] + (int.from_bytes(value[32:], "little") + order).to_bytes(32, "little")
    identity = (1).to_bytes(32, "little")
    for name, wrong in {
        "ed25519, first bit": bytes([value[0] ^ 1]) + value[1:],
        "ed25519, last bit": value[:-1] + bytes([value[-1] ^ 0x80]),
        "ed25519, S plus the group's order": high,
        "ed25519, S is zero": value[:32] + bytes(32),
        "ed25519, R is the identity, S zero": identity + bytes(32),
        "ed25519, all zeros": bytes(64),
        "ed25519, empty": b"",
        "ed25519, 63 bytes": value[:-1],
        "ed25519, 65 bytes": value + b"\0",
        "ed25519, R and S swapped": value[32:] + value[:32],
        "ed25519, over the bare signed region": sign(ed, signed),
        "ed25519, over its SHA-256": sign(ed, hashlib.sha256(signed).digest()),
        "ed25519, another payload type": sign(ed, pae(signed, kind=b"application/vnd.edgepack.trust.v1")),
        "ed25519, DSSEv2": sign(ed, b"DSSEv2" + pae(signed)[6:]),
        "ed25519, length left out": sign(ed, pae(signed).replace(b" %d " % len(signed), b" ", 1)),
        "ed25519, of another bundle": sign(ed, pae(parts(ONE, security_version=8).signed)),
        "ed25519, by another key": sign("ed25519 second", pae(signed)),
        "ed25519, a p256 signature": sign(ec, pae(signed)),
    }.items():
        yield refused(name, _signed_by(base, ed, wrong), SIGNATURE)
    value = ec_base.signatures[0].value
    r_at, r_size = 4, value[3]
    r = int.from_bytes(value[r_at : r_at + r_size], "big")
    s = int.from_bytes(value[r_at + r_size + 2 :], "big")
    assert _der(r, s) == value
    yield good("p256, the second form (r, n - s)", _signed_by(ec_base, ec, _der(r, ORDER - s)), ONE, trust=(ec,))
    body, raw_r = value[2:], r.to_bytes(32, "big")
    second = value[r_at + r_size :]
    padded_r = b"\0" * (34 - r_size) + value[r_at : r_at + r_size]
    for name, wrong in {
        "p256, r and s without DER": raw_r + s.to_bytes(32, "big"),
        "p256, length in long form": b"\x30\x81" + bytes([len(body)]) + body,
        "p256, indefinite length": b"\x30\x80" + body + b"\0\0",
        "p256, r padded": b"\x30" + bytes([len(second) + 36]) + b"\x02\x22" + padded_r + second,
        "p256, a byte after": value + b"\0",
        "p256, a byte missing": value[:-1],
        "p256, an element more": b"\x30" + bytes([len(body) + 2]) + body + b"\x05\0",
        "p256, an octet string for r": b"\x30" + bytes([len(body)]) + b"\x04" + body[1:],
        "p256, a set, not a sequence": b"\x31" + value[1:],
        "p256, r is 0": _der(0, s),
        "p256, s is 0": _der(r, 0),
        "p256, both are 0": _der(0, 0),
        "p256, r is the order": _der(ORDER, s),
        "p256, s is the order": _der(r, ORDER),
        "p256, r plus the order": _der(r + ORDER, s),
        "p256, s plus the order": _der(r, s + ORDER),
        "p256, r and s swapped": _der(s, r),
        "p256, r and s are 1": _der(1, 1),
        "p256, no numbers": b"\x30\0",
        "p256, empty": b"",
        "p256, 72 zeros": bytes(72),
        "p256, over the bare signed region": sign(ec, signed),
        "p256, by another key": sign("p256 second", pae(ec_base.signed)),
        "p256, an ed25519 signature": sign(ed, pae(ec_base.signed)),
    }.items():
        yield refused(name, _signed_by(ec_base, ec, wrong), SIGNATURE, trust=(ec,))
    for at in (0, 40, 96, 224, 239, 250, 320, len(signed) - 1):
        flipped = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
        for found, key in ((base, ed), (ec_base, ec)):
            name = f"signed byte {at} flipped, {key.partition(' ')[0]}"
            yield refused(name, replace(found, signed=flipped).file(), SIGNATURE, trust=(key,))
    # Unbelieved bytes behind a wrong signature: the signature is what is reported, whatever they hold.
    for size in (0, 1, 239, 240, 300):
        wild = replace(base, signed=seed("wild", size))
        yield refused(f"{size} wild bytes, not signed", wild.file(), SIGNATURE)
    spec = replace(BASE, signers=(RELEASE,))
    other = resigned(replace(spec, signers=("ed25519 second",)), base.signed, base.payload)
    yield refused("signed by an attacker", other.file(), SIGNATURE)


def _signed_by(base: Parts, key: str, value: bytes) -> bytes:
    return replace(base, signatures=(Signature(key_id=key_id(key), value=value),)).file()
