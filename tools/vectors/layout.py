"""Writes bundles as `docs/bundle-format.md` says, and as it forbids: every field can be set to anything."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tools.vectors.keys import Hpke, Oaep, key_id, seed, sign

__all__ = [
    "CHUNK", "ENTRY_AT", "ENTRY_FIELDS", "HEADER_FIELDS", "MAGIC", "PREAMBLE_FIELDS", "Entry", "Grant", "Parts",
    "Signature", "Spec", "context", "encrypt", "grant", "keystream", "name_field", "pae", "parts", "payload_of",
    "put", "resigned", "segments", "signature", "signed_of",
]  # fmt: skip

MAGIC = b"\x89EPK\r\n\x1a\n"
CHUNK = 16 * 1024
SEGMENT = 64
ENTRY_AT = 240
ENTRY_SIZE = 80
TYPE = b"application/vnd.edgepack.bundle.v1"

# Field -> (offset, size), as in the document's tables.
PREAMBLE_FIELDS = {
    "signed_length": (8, 4), "signatures_length": (12, 4), "grants_length": (16, 4), "reserved": (20, 4),
    "payload_length": (24, 8),
}  # fmt: skip
HEADER_FIELDS = {
    "format_major": (0, 2), "format_minor": (2, 2), "critical_flags": (4, 4), "flags": (8, 4), "role": (12, 2),
    "payload_suite": (14, 2), "security_version": (16, 8), "created": (24, 8), "expires": (32, 8),
    "payload_length": (40, 8), "bundle_id": (48, 16), "profile_digest": (64, 32), "product": (96, 32),
    "profile": (128, 32), "engine": (160, 32), "engine_version": (192, 32), "entry_count": (224, 4),
    "segment_count": (228, 4), "manifest_length": (232, 4), "reserved": (236, 4),
}  # fmt: skip
ENTRY_FIELDS = {
    "name": (0, 32), "role": (32, 2), "compression": (34, 2), "flags": (36, 4), "offset": (40, 8),
    "stored_length": (48, 8), "plain_length": (56, 8), "content_length": (64, 8), "first_segment": (72, 4),
    "segment_count": (76, 4),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry to store."""

    name: str
    role: int
    plain: bytes


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a well-formed bundle is made of."""

    entries: tuple[Entry, ...]
    suite: int = 1
    security_version: int = 7
    created: int = 1_750_000_000
    expires: int = 1_800_000_000
    bundle_id: bytes = seed("bundle", 16)
    profile_digest: bytes = seed("profile")
    product: str = "digits"
    profile: str = "raspberry-pi-4"
    engine: str = "tflite-runtime"
    engine_version: str = "2.14.0"
    manifest: bytes = b'{"schema":1}'
    signers: tuple[str, ...] = ("ed25519 release",)
    recipients: tuple[str, ...] = ("x25519 device",)
    content_key: bytes = seed("content key")

    def plain(self) -> dict[str, bytes]:
        """Return what a reader must give for each entry."""
        return {entry.name: entry.plain for entry in self.entries}


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature as it stands in the file; `length` may lie."""

    key_id: bytes
    value: bytes
    length: int | None = None

    def pack(self) -> bytes:
        return self.key_id + struct.pack("<H", len(self.value) if self.length is None else self.length) + self.value


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A grant as it stands in the file; `length` may lie."""

    kind: int
    key_id: bytes
    sealed: bytes
    reserved: int = 0
    length: int | None = None

    def pack(self) -> bytes:
        length = len(self.sealed) if self.length is None else self.length
        return struct.pack("<BBH", self.kind, self.reserved, length) + self.key_id + self.sealed


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A file in pieces. Counts and lengths are the true ones unless given."""

    signed: bytes
    signatures: tuple[Signature, ...]
    grants: tuple[Grant, ...]
    payload: bytes
    signature_count: int | None = None
    grant_count: int | None = None
    after_signatures: bytes = b""
    after_grants: bytes = b""
    preamble: Mapping[str, int] = field(default_factory=dict)

    def signatures_block(self) -> bytes:
        return _block(self.signatures, self.signature_count) + self.after_signatures

    def grants_block(self) -> bytes:
        return _block(self.grants, self.grant_count) + self.after_grants

    def front(self) -> bytes:
        blocks = self.signed, self.signatures_block(), self.grants_block()
        head = MAGIC + struct.pack("<IIIIQ", *map(len, blocks), 0, len(self.payload))
        for name, value in self.preamble.items():
            head = put(head, PREAMBLE_FIELDS[name], value)
        return head + b"".join(blocks)

    def file(self) -> bytes:
        return self.front() + self.payload


def _block(items: Sequence[Signature] | Sequence[Grant], count: int | None) -> bytes:
    return struct.pack("<H", len(items) if count is None else count) + b"".join(item.pack() for item in items)


def put(data: bytes, where: tuple[int, int], value: int | bytes) -> bytes:
    """Return `data` with the field at (offset, size) overwritten."""
    at, size = where
    raw = value.to_bytes(size, "little") if isinstance(value, int) else value
    assert len(raw) == size
    return data[:at] + raw + data[at + size :]


def name_field(name: str | bytes) -> bytes:
    """Return 32 bytes of a name, well-formed or not."""
    raw = name.encode("ascii") if isinstance(name, str) else name
    return raw.ljust(32, b"\0")


def context(spec: Spec, name: str) -> bytes:
    """Return what binds an entry's ciphertext to its bundle, profile and name."""
    return b"edgepack/v1/entry\0" + spec.bundle_id + spec.profile_digest + name.encode("ascii")


def _derive(spec: Spec, name: str, info: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return salt, key, base nonce and commitment of an entry."""
    salt = seed(f"salt {name}", 24)
    text, out, block = info + salt + context(spec, name), b"", b""
    for i in (1, 2):
        block = hmac.digest(spec.content_key, block + text + bytes([i]), "sha512")
        out += block
    return salt, out[:32], out[32:44], out[44:76]


INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


def encrypt(spec: Spec, entry: Entry, *, info: bytes = INFO, aad: bytes | None = None, order: str = "big") -> bytes:
    """Return an entry in Cobblestone-256; the keywords are what a vector may get wrong on purpose."""
    salt, key, nonce, commitment = _derive(spec, entry.name, info)
    out, count = [salt, commitment], len(entry.plain) // CHUNK + 1
    for i in range(count):
        mask = i.to_bytes(12, "little" if order == "little" else "big")
        number = bytes(a ^ b for a, b in zip(nonce, mask, strict=True))
        out.append(AESGCM(key).encrypt(number, entry.plain[i * CHUNK : (i + 1) * CHUNK], aad))
    return b"".join(out)


def keystream(spec: Spec, name: str, size: int) -> bytes:
    """Return the plaintext whose ciphertext is all zeros, so that a big vector compresses to almost nothing."""
    _, key, nonce, _ = _derive(spec, name, INFO)
    out = []
    for i in range(size // CHUNK + 1):
        number = bytes(a ^ b for a, b in zip(nonce, i.to_bytes(12, "big"), strict=True))
        counter = modes.CTR(number + (2).to_bytes(4, "big"))
        out.append(Cipher(algorithms.AES(key), counter).encryptor().update(bytes(min(CHUNK, size - i * CHUNK))))
    return b"".join(out)


def segments(suite: int, stored: bytes) -> list[bytes]:
    """Return the stored entry cut into segments."""
    head, size = (56, SEGMENT * (CHUNK + 16)) if suite else (0, SEGMENT * CHUNK)
    cuts = [0, *range(head + size, len(stored), size), len(stored)]
    return [stored[a:b] for a, b in itertools.pairwise(cuts)] or [b""]


def payload_of(spec: Spec) -> list[bytes]:
    """Return each entry as it is stored."""
    return [encrypt(spec, entry) if spec.suite else entry.plain for entry in spec.entries]


def signed_of(spec: Spec, stored: Sequence[bytes]) -> bytes:
    """Return the signed region for these stored entries."""
    records: list[bytes] = []
    digests: list[bytes] = []
    offset = 0
    for entry, data in zip(spec.entries, stored, strict=True):
        parts_of = segments(spec.suite, data)
        plain = len(entry.plain)
        numbers = (entry.role, 0, 0, offset, len(data), plain, plain, len(digests), len(parts_of))
        records.append(name_field(entry.name) + struct.pack("<HHIQQQQII", *numbers))
        digests += [hashlib.sha256(part).digest() for part in parts_of]
        offset += len(data)
    names = [name_field(name) for name in (spec.product, spec.profile, spec.engine, spec.engine_version)]
    times = (spec.security_version, spec.created, spec.expires, offset)
    header = struct.pack("<HHIIHHQQQQ", 1, 0, 0, 0, 1, spec.suite, *times)
    header += b"".join((spec.bundle_id, spec.profile_digest, *names))
    header += struct.pack("<IIII", len(records), len(digests), len(spec.manifest), 0)
    return b"".join((header, *records, *digests, spec.manifest))


def pae(signed: bytes, *, kind: bytes = TYPE) -> bytes:
    """Return what is signed."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(signed), signed)


def signature(signer: str, signed: bytes) -> Signature:
    """Return a key's good signature."""
    return Signature(key_id=key_id(signer), value=sign(signer, pae(signed)))


def grant(recipient: str, signed: bytes, content_key: bytes) -> Grant:
    """Return a good grant."""
    digest = hashlib.sha256(signed).digest()
    info, tag = b"edgepack/v1/grant\0" + digest, f"{recipient} {digest.hex()}"
    kind = {"x25519": 1, "p256": 2, "rsa": 3}[recipient.partition(" ")[0]]
    if kind == 3:
        sealed = Oaep().seal(recipient, info, content_key, salt=tag)
    else:
        sealed = Hpke().seal(recipient, info, content_key, ephemeral=tag)
    return Grant(kind=kind, key_id=key_id(recipient), sealed=sealed)


def resigned(spec: Spec, signed: bytes, payload: bytes) -> Parts:
    """Return a bundle around any signed bytes: the publisher erred, or wants harm."""
    return Parts(
        signed=signed,
        signatures=tuple(sorted((signature(key, signed) for key in spec.signers), key=lambda s: s.key_id)),
        grants=tuple(
            sorted((grant(key, signed, spec.content_key) for key in spec.recipients), key=lambda g: g.key_id)
        ),
        payload=payload,
    )


def parts(spec: Spec, **changes: object) -> Parts:
    """Return a good bundle; `changes` are fields of the spec."""
    spec = replace(spec, **changes)  # type: ignore[arg-type]
    stored = payload_of(spec)
    return resigned(spec, signed_of(spec, stored), b"".join(stored))
