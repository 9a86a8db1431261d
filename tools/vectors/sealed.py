"""Vectors of steps 12 to 16: grants, commitment, chunks, segments and sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from tools.vectors.keys import Hpke, Oaep, key_id, seed
from tools.vectors.layout import (
    CHUNK,
    INFO,
    Entry,
    Grant,
    Parts,
    Spec,
    context,
    encrypt,
    keystream,
    parts,
    payload_of,
    resigned,
    signed_of,
)
from tools.vectors.vector import BASE, ONE, Vector, good, refused

__all__ = ["grants", "payload", "sidecar", "sizes"]

NONE, UNWRAP = ("no-grant", 12), ("unwrap", 12)
COMMITMENT, DIGEST, CHUNKS = ("commitment", 15), ("payload", 14), ("payload", 16)
STORED = CHUNK + 16
P = 2**256 - 2**224 + 2**192 + 2**96 - 1


def grants() -> Iterator[Vector]:
    """The three kinds, and what does not open."""
    devices = {"x25519": "x25519 device", "p256": "p256 device", "rsa": "rsa device"}
    for name, device in devices.items():
        base = parts(ONE, recipients=(device,))
        info = b"edgepack/v1/grant\0" + hashlib.sha256(base.signed).digest()
        one, holding = base.grants[0], _Holding(base)

        yield good(f"{name}", parts(BASE, recipients=(device,)).file(), BASE, device=device)
        yield refused(f"{name}: another device's key", base.file(), NONE, device=f"{name} stranger")
        claimed = (replace(one, key_id=key_id(f"{name} stranger")),)
        yield refused(
            f"{name}: a grant under another key's id",
            replace(base, grants=claimed).file(),
            UNWRAP,
            device=f"{name} stranger",
        )
        size = len(one.sealed)
        for at in sorted({0, 1, 31, 32, 33, 63, 64, 65, size - 17, size - 16, size - 1}):
            yield refused(f"{name}: byte {at} flipped", holding(_flip(one.sealed, at)), UNWRAP, device=device)
        yield refused(f"{name}: zeros", holding(bytes(len(one.sealed))), UNWRAP, device=device)
        yield refused(f"{name}: 0xff", holding(b"\xff" * len(one.sealed)), UNWRAP, device=device)
        for kind, size in ((1, 80), (2, 113), (3, 384), (4, len(one.sealed))):
            if kind != one.kind:
                other = replace(base, grants=(replace(one, kind=kind, sealed=bytes(size)),)).file()
                yield refused(f"{name}: of kind {kind}", other, NONE, device=device)
        theirs = parts(ONE, recipients=(device,), security_version=8).grants
        yield refused(f"{name}: of another bundle", replace(base, grants=theirs).file(), UNWRAP, device=device)
        another = parts(ONE, recipients=(device,), content_key=seed("another content key"))
        assert another.signed != base.signed
        swapped = resigned(replace(ONE, recipients=(device,), content_key=seed("other")), base.signed, base.payload)
        yield refused(f"{name}: another content key", swapped.file(), COMMITMENT, device=device)
        for label, wrong in (
            ("info without its NUL", info.replace(b"\0", b"", 1)),
            ("info without the digest", info[:18]),
            ("info empty", b""),
            ("info of the trust type", info.replace(b"grant", b"trust", 1)),
        ):
            yield refused(f"{name}: {label}", holding(_seal(name, device, wrong)), UNWRAP, device=device)
        yield from _others(name, device, info, holding)
    base = parts(ONE)
    yield refused("no key for an encrypted bundle", base.file(), NONE, device=None)
    yield refused("no grant at all", replace(base, grants=()).file(), NONE)
    many = parts(ONE, recipients=(*devices.values(), *(f"x25519 stranger {i}" for i in range(20))))
    for device in devices.values():
        yield good(f"23 grants, one of them for {device}", many.file(), ONE, device=device)
    damaged = tuple(g if g.kind == 1 else replace(g, sealed=bytes(len(g.sealed))) for g in many.grants)
    yield good("damaged grants for others", replace(many, grants=damaged).file(), ONE)
    plain = parts(ONE, suite=0)
    broken = (replace(plain.grants[0], sealed=bytes(80)),)
    yield good("in clear, with a grant that does not open", replace(plain, grants=broken).file(), ONE)


class _Holding:
    """Puts other sealed bytes into the one grant of a bundle."""

    def __init__(self, base: Parts) -> None:
        self._base = base

    def __call__(self, sealed: bytes) -> bytes:
        return replace(self._base, grants=(replace(self._base.grants[0], sealed=sealed),)).file()


def sidecar() -> Iterator[Vector]:
    """A grants block beside the bundle: needed, not needed, malformed."""
    devices = ("x25519 device", "p256 device", "rsa device")
    bare = parts(ONE, recipients=())
    full = parts(ONE, recipients=devices)
    block, data = full.grants_block(), bare.file()
    mine = parts(ONE).grants[0]

    def beside(*found: Grant) -> bytes:
        return replace(bare, grants=found).grants_block()

    for device in devices:
        yield good(f"{device}: three grants beside", data, ONE, device=device, sidecar=block)
    others = parts(ONE, recipients=("p256 device",))
    yield good("one in the bundle for another, ours beside", others.file(), ONE, sidecar=beside(mine))
    unknown = Grant(kind=9, key_id=b"\xff" * 32, sealed=b"?")
    yield good("an unknown kind beside", data, ONE, sidecar=beside(mine, unknown))
    yield refused("no grant beside", data, NONE, sidecar=beside())
    yield refused("none for us beside", data, NONE, device="x25519 stranger", sidecar=block)
    yield refused("no key, grants beside", data, NONE, device=None, sidecar=block)
    yield refused("beside, but of another kind", data, NONE, sidecar=beside(replace(mine, kind=4)))
    yield refused("beside, altered", data, UNWRAP, sidecar=beside(replace(mine, sealed=_flip(mine.sealed, 79))))
    theirs = parts(ONE, security_version=8).grants[0]
    yield refused("beside, of another bundle", data, UNWRAP, sidecar=beside(theirs))
    other = resigned(replace(ONE, content_key=seed("other")), bare.signed, bare.payload).grants[0]
    yield refused("beside, with another content key", data, COMMITMENT, sidecar=beside(other))
    for name, malformed in {
        "empty": b"",
        "a byte": b"\1",
        "a count of 2": b"\2" + beside(mine)[1:],
        "a byte left over": beside(mine) + b"\0",
        "a byte missing": beside(mine)[:-1],
        "one grant twice": beside(mine, mine),
        "descending": beside(*reversed(full.grants)),
        "reserved in use": beside(replace(mine, reserved=1)),
        "of a size its kind cannot have": beside(replace(mine, sealed=mine.sealed + b"\0")),
        "a bundle": full.file(),
        "above the cap": beside(*(Grant(kind=9, key_id=bytes([i]) * 32, sealed=bytes(65_499)) for i in range(17))),
    }.items():
        yield refused(f"malformed beside: {name}", data, ("format", 12), sidecar=malformed)
        yield good(f"malformed beside and not needed: {name}", parts(ONE).file(), ONE, sidecar=malformed)
    broken = replace(full, grants=(replace(mine, sealed=bytes(80)),)).file()
    yield refused("the bundle's does not open, a good one beside", broken, UNWRAP, sidecar=beside(mine))
    later = replace(full, grants=(Grant(kind=4, key_id=mine.key_id, sealed=b"?"),)).file()
    yield good("an unknown kind for us in the bundle, ours beside", later, ONE, sidecar=beside(mine))
    yield refused("an unknown kind for us in the bundle, malformed beside", later, ("format", 12), sidecar=b"")
    p256 = replace(full, grants=(Grant(kind=2, key_id=mine.key_id, sealed=bytes(113)),)).file()
    yield refused("another kind than our key's in the bundle, ours beside", p256, NONE, sidecar=beside(mine))
    yield refused("another kind than our key's in the bundle, malformed beside", p256, NONE, sidecar=b"")
    yield refused("no key, malformed beside", data, NONE, device=None, sidecar=b"")
    wild = {"sidecar": b"", "now": ONE.expires}
    yield refused("expiry before sidecar", data, ("policy", 11), **wild)
    clear = parts(ONE, suite=0, recipients=()).file()
    yield good("in clear, grants beside", clear, ONE, sidecar=block)
    yield good("in clear, malformed beside and not needed", clear, ONE, sidecar=b"")


def _seal(name: str, device: str, info: bytes, how: Hpke | Oaep | None = None, key: bytes = ONE.content_key) -> bytes:
    if name == "rsa":
        assert not isinstance(how, Hpke)
        return (how or Oaep()).seal(device, info, key, salt="vector")
    assert not isinstance(how, Oaep)
    return (how or Hpke()).seal(device, info, key, ephemeral="vector")


def _others(name: str, device: str, info: bytes, holding: _Holding) -> Iterator[Vector]:
    """Yield what only one kind can get wrong."""
    if name == "rsa":
        for size in (0, 1, 31, 33, 64):
            sealed = _seal(name, device, info, key=seed("content key", 64)[:size])
            yield refused(f"rsa: a content key of {size} bytes", holding(sealed), UNWRAP, device=device)
        for label, how in (
            ("SHA-1", Oaep(hash_name="sha1", mgf_hash="sha1")),
            ("MGF1 with SHA-1", Oaep(mgf_hash="sha1")),
            ("SHA-512", Oaep(hash_name="sha512", mgf_hash="sha512")),
        ):
            yield refused(f"rsa: {label}", holding(_seal(name, device, info, how)), UNWRAP, device=device)
        one = (1).to_bytes(384, "big")
        yield refused("rsa: the ciphertext is 1", holding(one), UNWRAP, device=device)
        return
    for label, wrong in (
        ("the suite id of HKDF-SHA512", Hpke(kdf_id=3)),
        ("the suite id of AES-128-GCM", Hpke(aead_id=1)),
        ("the suite id of ChaCha20-Poly1305", Hpke(aead_id=3)),
        ("PSK mode", Hpke(mode=1)),
        ("with AAD", Hpke(aad=info)),
        ("a draft's label", Hpke(version=b"HPKE-07")),
    ):
        yield refused(f"{name}: {label}", holding(_seal(name, device, info, wrong)), UNWRAP, device=device)
    rest = _seal(name, device, info)[32:] if name == "x25519" else _seal(name, device, info)[65:]
    if name == "x25519":
        low = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
        points = {
            "1": (1).to_bytes(32, "little"),
            "of low order": bytes.fromhex(low),
            "p": (2**255 - 19).to_bytes(32, "little"),
            "p - 1": (2**255 - 20).to_bytes(32, "little"),
        }
    else:
        enc = _seal(name, device, info)[:65]
        points = {
            "not on the curve": enc[:64] + bytes([enc[64] ^ 1]),
            "in hybrid form": bytes([6 + (enc[64] & 1)]) + enc[1:],
            "with a compressed point's first byte": bytes([2 + (enc[64] & 1)]) + enc[1:],
            "x is p": b"\x04" + P.to_bytes(32, "big") + enc[33:],
            "y is negated": enc[:33] + (P - int.from_bytes(enc[33:], "big")).to_bytes(32, "big"),
            "the point (0, 0)": b"\x04" + bytes(64),
        }
    for label, enc in points.items():
        yield refused(f"{name}: enc {label}", holding(enc + rest), UNWRAP, device=device)


def payload() -> Iterator[Vector]:
    """Altered ciphertext: not signed again, it is the digest that speaks; signed again, commitment or tag."""
    base = parts(BASE)
    for at, what in ((0, "salt"), (23, "salt's end"), (24, "commitment"), (55, "commitment's end"), (56, "chunk"),
                     (95, "chunk's end"), (96, "tag"), (111, "tag's end"), (112, "second entry"),
                     (len(base.payload) - 1, "last byte")):  # fmt: skip
        flipped = _flip(base.payload, at)
        yield refused(f"{what} flipped", replace(base, payload=flipped).file(), DIGEST)
        stored = _split(BASE, flipped)
        again = resigned(BASE, signed_of(BASE, stored), flipped).file()
        verdict = COMMITMENT if at < 56 else CHUNKS
        if what != "second entry":
            yield refused(f"{what} flipped, signed again", again, verdict)
    clear = parts(BASE, suite=0)
    for at in (0, 39, 40, len(clear.payload) - 1):
        yield refused(f"in clear, byte {at} flipped", replace(clear, payload=_flip(clear.payload, at)).file(), DIGEST)
    yield refused("zeros", replace(base, payload=bytes(len(base.payload))).file(), DIGEST)
    for label, changes in (
        ("bundle id", {"bundle_id": seed("another", 16)}),
        ("profile", {"profile_digest": seed("another")}),
        ("content key", {"content_key": seed("another")}),
    ):
        stored = payload_of(replace(ONE, **changes))  # type: ignore[arg-type]
        data = resigned(ONE, signed_of(ONE, stored), b"".join(stored)).file()
        yield refused(f"encrypted for another {label}", data, COMMITMENT)
    entry = ONE.entries[0]
    for label, stored_entry, verdict in (
        ("entry name", encrypt(ONE, replace(entry, name="labels.tx2")), COMMITMENT),
        ("draft", encrypt(ONE, entry, info=INFO.replace(b"@v1", b"@v0")), COMMITMENT),
        ("cipher's info", encrypt(ONE, entry, info=INFO.replace(b"AES_256_GCM", b"CHACHA20_POLY1305")), COMMITMENT),
        ("AAD", encrypt(ONE, entry, aad=context(ONE, entry.name)), CHUNKS),
    ):
        data = resigned(ONE, signed_of(ONE, [stored_entry]), stored_entry).file()
        yield refused(f"encrypted with another {label}", data, verdict)
    yield from _chunks()


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _split(spec: Spec, data: bytes) -> list[bytes]:
    out, at = [], 0
    for stored in payload_of(spec):
        out.append(data[at : at + len(stored)])
        at += len(stored)
    return out


def _big(size: int, name: str = "model.tflite") -> Spec:
    """Return a bundle whose one entry has this many bytes and a ciphertext of zeros."""
    return replace(ONE, entries=(Entry(name=name, role=1, plain=keystream(ONE, name, size)),))


def _chunks() -> Iterator[Vector]:
    spec = _big(3 * CHUNK + 100)
    (stored,) = payload_of(spec)
    head, chunks = stored[:56], [stored[56 + i * STORED : 56 + (i + 1) * STORED] for i in range(4)]
    other = _big(3 * CHUNK + 100, "another.bin")
    theirs = payload_of(replace(other, bundle_id=seed("other bundle", 16)))[0][56:]
    twin = payload_of(other)[0]

    def made(name: str, pieces: list[bytes], length: int | None = None) -> Vector:
        data = head + b"".join(pieces)
        told = spec if length is None else _big(length)
        return refused(name, resigned(told, signed_of(told, [data]), data).file(), CHUNKS)

    a, b, c, d = chunks
    yield good("four chunks", parts(spec).file(), spec)
    yield made("chunks 0 and 1 swapped", [b, a, c, d])
    yield made("chunks 1 and 2 swapped", [a, c, b, d])
    yield made("chunk 0 twice", [a, a, c, d])
    yield made("all chunks are the first", [a, a, a, a[:100] + a[-16:]])
    yield made("chunk 0 left out", [b, c, d], 2 * CHUNK + 100)
    yield made("chunk 2 left out", [a, b, d], 2 * CHUNK + 100)
    yield made("the last chunk left out, an empty one in its place", [a, b, c, bytes(16)], 3 * CHUNK)
    yield made("the last chunk cut", [a, b, c, d[:-1]], 3 * CHUNK + 99)
    yield made("the last chunk cut to its tag", [a, b, c, d[-16:]], 3 * CHUNK)
    yield made("the last full chunk cut to a short one", [a, b, c[:-1]], 3 * CHUNK - 1)
    yield made("a byte after the last chunk", [a, b, c, d + b"\0"], 3 * CHUNK + 101)
    yield made("a chunk inserted", [a, b, b, c, d], 4 * CHUNK + 100)
    yield made("an empty chunk after a full last one", [a, b, c, b + bytes(16)], 4 * CHUNK)
    yield made("chunk 1 of another entry", [a, twin[56 + STORED :][:STORED], c, d])
    yield made("chunk 1 of another bundle", [a, theirs[STORED:][:STORED], c, d])
    for i in range(4):
        flipped = [_flip(chunk, 7) if i == j else chunk for j, chunk in enumerate(chunks)]
        yield made(f"chunk {i} of 4 flipped", flipped)
        data = replace(parts(spec), payload=head + b"".join(flipped)).file()
        yield refused(f"chunk {i} of 4 flipped, not signed again", data, DIGEST)
    wrong = encrypt(spec, spec.entries[0], order="little")
    data = resigned(spec, signed_of(spec, [wrong]), wrong).file()
    yield refused("the chunk number counts in little-endian", data, CHUNKS)
    yield refused("a file of two chunks cut by one byte", parts(spec).file()[: -len(d) - 1], ("preamble", 3))
    two = replace(spec, entries=(other.entries[0], spec.entries[0]))
    first, second = payload_of(two)
    data = resigned(two, signed_of(two, [second, first]), second + first).file()
    yield refused("two entries of one size swapped, signed again", data, COMMITMENT)
    mixed = [first[:56] + second[56:], second]
    data = resigned(two, signed_of(two, mixed), b"".join(mixed)).file()
    yield refused("an entry's chunks under another's header", data, CHUNKS)


def sizes() -> Iterator[Vector]:
    """Entries around each boundary of chunk and segment. Ciphertexts, or plaintexts in suite 0, are zeros."""
    near = (0, 1, 15, 16, 17, CHUNK - 17, CHUNK - 16, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 16, 2 * CHUNK - 1,
            2 * CHUNK, 2 * CHUNK + 1)  # fmt: skip
    segment = 64 * CHUNK
    far = (segment - 16, segment - 1, segment, segment + 1, segment + CHUNK, 2 * segment)
    for size in (*near, *far):
        spec = _big(size)
        yield good(f"{size} bytes", parts(spec).file(), spec)
        clear = replace(spec, suite=0, entries=(replace(spec.entries[0], plain=bytes(size)),))
        yield good(f"{size} bytes in clear", parts(clear).file(), clear)
    # Segments of an entry are numbered on: the second entry's first is not number 1.
    spec = replace(ONE, entries=(_big(segment + 1, "a").entries[0], _big(segment + 5, "b").entries[0]))
    base = parts(spec)
    yield good("two entries of two segments", base.file(), spec)
    middle = 56 + 64 * STORED
    for at, name in ((middle - 1, "last byte of segment 0"), (middle, "first byte of segment 1")):
        yield refused(f"{name} flipped", replace(base, payload=_flip(base.payload, at)).file(), DIGEST)
    # A chunk of segment 0 is not authentic, and segment 1 is not the signed one.
    flipped = _flip(base.payload, 56)
    wrong = resigned(spec, signed_of(spec, _split(spec, flipped)), _flip(flipped, middle)).file()
    yield refused("a chunk of segment 0 before the digest of segment 1", wrong, CHUNKS)
    wrong = resigned(spec, signed_of(spec, _split(spec, flipped)), _flip(flipped, len(flipped) - 1)).file()
    yield refused("a chunk of the first entry before a digest of the second", wrong, CHUNKS)
    last = replace(base, payload=_flip(base.payload, len(base.payload) - 1))
    yield refused("the very last byte flipped", last.file(), DIGEST)
    clear = replace(ONE, suite=0, entries=(Entry(name="a", role=4, plain=bytes(segment) + bytes(range(1, 9))),))
    base = parts(clear)
    swapped = base.payload[segment:] + base.payload[:segment]
    yield refused("segments in clear swapped", replace(base, payload=swapped).file(), DIGEST)
    empty = replace(BASE, entries=tuple(replace(entry, plain=b"") for entry in BASE.entries))
    yield good("three empty entries", parts(empty).file(), empty)
    yield good("three empty entries in clear", parts(empty, suite=0).file(), empty)
    flipped = _flip(parts(empty).payload, 56)
    data = resigned(empty, signed_of(empty, _split(empty, flipped)), flipped).file()
    yield refused("an empty entry's tag flipped, signed again", data, CHUNKS)
