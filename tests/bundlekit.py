"""Small bundles from fixed keys, for the tests of the trust core; and one way to open whatever comes of them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edgepack_runtime.container import PREAMBLE_SIZE, Container, Grant, Preamble, Signature, assemble_front
from edgepack_runtime.encryption import (
    CHUNK_SIZE,
    ENTRY_HEADER_SIZE,
    TAG_SIZE,
    PayloadSuite,
    encrypt_entry,
    entry_context,
)
from edgepack_runtime.errors import BundleError
from edgepack_runtime.grants import DeviceKey, seal
from edgepack_runtime.signing import SigningKey, sign
from edgepack_runtime.table import EntryRole, Header, StoredEntry, write_signed
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.verify import Policy, VerifiedBundle, verify


def seed(text: str, size: int = 32) -> bytes:
    """Return bytes that look random and are the same in every run."""
    return hashlib.shake_256(text.encode()).digest(size)


def plain_length(stored: int) -> int | None:
    """Return how long the plaintext of a stored entry is, or None: no plaintext is stored in so many bytes."""
    chunks, rest = divmod(stored - ENTRY_HEADER_SIZE, CHUNK_SIZE + TAG_SIZE)
    return chunks * CHUNK_SIZE + rest - TAG_SIZE if chunks >= 0 and rest >= TAG_SIZE else None


def ed25519(name: str = "release") -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed(f"ed25519 {name}"))


def p256(name: str = "release") -> EllipticCurvePrivateKey:
    return derive_private_key(int.from_bytes(seed(f"p256 {name}"), "big") >> 1, SECP256R1())


def x25519(name: str = "device") -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(seed(f"x25519 {name}"))


@functools.cache
def rsa3072(name: str = "device") -> RSAPrivateKey:
    return generate_private_key(65537, 3072)


MODEL = seed("model", 1500)
ENTRIES = (
    ("golden.bin", EntryRole.GOLDEN, seed("golden", 200)),
    ("labels.txt", EntryRole.LABELS, b"zero\none\ntwo\n"),
    ("model.tflite", EntryRole.MODEL, MODEL),
)
HEADER = Header(
    product="digits",
    profile="raspberry-pi-4",
    profile_digest=seed("profile"),
    engine="tflite-runtime",
    engine_version="2.14.0",
    bundle_id=seed("bundle", 16),
    security_version=7,
    created=1_750_000_000,
    expires=1_800_000_000,
)
POLICY = Policy(profile="raspberry-pi-4", accepted={"digits": 7}, now=1_760_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a bundle is made of; change a field with `dataclasses.replace`."""

    header: Header = HEADER
    entries: tuple[tuple[str, EntryRole, bytes], ...] = ENTRIES
    manifest: bytes = b'{"schema":1}'
    signers: tuple[SigningKey, ...] = field(default_factory=lambda: (ed25519(),))
    recipients: tuple[DeviceKey, ...] = field(default_factory=lambda: (x25519(),))
    content_key: bytes = seed("content key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A bundle in pieces, so that a test can swap one."""

    signed: bytes
    signatures: tuple[Signature, ...]
    grants: tuple[Grant, ...]
    payload: bytes

    def file(self) -> bytes:
        return assemble_front(self.signed, self.signatures, self.grants, len(self.payload)) + self.payload


def stored_entries(recipe: Recipe) -> list[StoredEntry]:
    header = recipe.header
    stored = []
    for name, role, plain in sorted(recipe.entries):
        context = entry_context(header.bundle_id, header.profile_digest, name)
        data = plain
        if header.suite is PayloadSuite.COBBLESTONE_256:
            data = encrypt_entry(recipe.content_key, context, plain, salt=seed(f"salt {name}", 24))
        stored.append(StoredEntry(name=name, role=role, plain_length=len(plain), stored=data))
    return stored


def make(recipe: Recipe | None = None, **changes: object) -> Parts:
    """Return the parts of a bundle; the signatures and grants are over whatever the recipe says."""
    recipe = replace(recipe or Recipe(), **changes)
    stored = stored_entries(recipe)
    return sign_again(
        recipe, write_signed(recipe.header, stored, recipe.manifest), b"".join(e.stored for e in stored)
    )


def sign_again(recipe: Recipe, signed: bytes, payload: bytes) -> Parts:
    """Return a bundle whose signed region is `signed`, however malformed."""
    return Parts(
        signed=signed,
        signatures=tuple(sign(key, signed) for key in recipe.signers),
        grants=tuple(seal(key.public_key(), recipe.content_key, signed) for key in recipe.recipients),
        payload=payload,
    )


def trust(*keys: SigningKey, threshold: int = 1) -> TrustedKeys:
    return TrustedKeys.of([key.public_key() for key in keys or (ed25519(),)], threshold=threshold)


def container(data: bytes) -> Container:
    """Return the container at the front of a file, as a careful reader of a file does it."""
    preamble = Preamble.parse(data[:PREAMBLE_SIZE])
    return Container.from_front(data[: preamble.front_length], len(data))


def check(data: bytes, *, trusted: TrustedKeys | None = None, policy: Policy = POLICY) -> VerifiedBundle:
    return verify(container(data), trusted or trust(), policy)


def read(
    bundle: VerifiedBundle, data: bytes, name: str, key: DeviceKey | None, sidecar: Sequence[Grant] = ()
) -> tuple[bytearray, BundleError | None]:
    """Return an entry's buffer and the error, if there was one: what a failed read leaves behind matters."""
    into = bytearray(b"\xaa" * bundle.entry(name).content_length)
    try:
        with bundle.unlock(key, sidecar) as unlocked:
            unlocked.read_entry(name, lambda offset, size: data[offset : offset + size], memoryview(into))
    except BundleError as error:
        return into, error
    return into, None


def open_all(
    data: bytes,
    *,
    key: DeviceKey | None = None,
    trusted: TrustedKeys | None = None,
    policy: Policy = POLICY,
    names: Sequence[str] | None = None,
) -> dict[str, bytes]:
    """Return every entry of a bundle, or raise what the runtime raises."""
    bundle = check(data, trusted=trusted, policy=policy)
    found = {}
    for name in names or [entry.name for entry in bundle.entries]:
        into, error = read(bundle, data, name, key or x25519())
        if error is not None:
            raise error
        found[name] = bytes(into)
    return found
