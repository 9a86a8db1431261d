"""Signatures over the signed region: DSSE v1.0.2 pre-authentication encoding, Ed25519 and ECDSA P-256.

What is signed is the bytes as shipped, never a re-serialisation. The algorithm belongs to the trusted key and is
never read from the file (step 6 of `docs/bundle-format.md`). Host signers reuse `pae`, `key_id` and `sign`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgepack_runtime._crypto import Encoding, PublicFormat, load_der_public_key, sha256
from edgepack_runtime.container import Signature
from edgepack_runtime.errors import KeyFileError, SignatureError

# Only keys of other kinds take these modules, and an application that starts waits for each: they are imported where
# such a key is met.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

__all__ = [
    "PAYLOAD_TYPE",
    "TRUST_PAYLOAD_TYPE",
    "AnyPublicKey",
    "SigningKey",
    "VerifyingKey",
    "algorithm_of",
    "key_id",
    "pae",
    "public_key_in",
    "sign",
    "spki",
    "verify_threshold",
]

PAYLOAD_TYPE = b"application/vnd.edgepack.bundle.v1"
TRUST_PAYLOAD_TYPE = b"application/vnd.edgepack.trust.v1"
SigningKey: TypeAlias = "Ed25519PrivateKey | EllipticCurvePrivateKey"
VerifyingKey: TypeAlias = "Ed25519PublicKey | EllipticCurvePublicKey"
AnyPublicKey: TypeAlias = "Ed25519PublicKey | EllipticCurvePublicKey | X25519PublicKey | RSAPublicKey"


def pae(signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> bytes:
    """Return the DSSE v1.0.2 pre-authentication encoding of the signed region: what the signature is over.

    The type is signed too: a signature over a bundle never holds for a trust update, whatever bytes these are.
    """
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(signed), signed)


def spki(public_key: AnyPublicKey) -> bytes:
    """Return a public key as SubjectPublicKeyInfo DER (RFC 5280, 4.1.2.7), EC points uncompressed."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(public_key: AnyPublicKey) -> bytes:
    """Return the 32 bytes that name a key everywhere: the SHA-256 of its `spki`."""
    return sha256(spki(public_key))


def public_key_in(text: str) -> AnyPublicKey:
    """Return the public key in the base64 text of its `spki`, which may be written in no other way.

    Else one key would have two ids, by what the library makes of it and by the bytes another reader hashes.

    Raises:
        KeyFileError: it is no such text. Which kind of key it is, and what it is good for, the caller finds out.
    """
    try:
        der = base64.b64decode(text, validate=True)
        key: AnyPublicKey = load_der_public_key(der)  # type: ignore[assignment]  # whoever uses it looks
        if (spki(key), base64.b64encode(der).decode("ascii")) == (der, text):
            return key
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        # It is said below, in the same words.
        pass
    raise KeyFileError("expected a SubjectPublicKeyInfo in DER as base64, points uncompressed")


def algorithm_of(key: object) -> str:
    """Return ``ed25519`` or ``p256``, the signature algorithm of a public or private key.

    Raises:
        KeyFileError: it is another kind of key; only these two sign bundles.
    """
    if isinstance(key, Ed25519PublicKey | Ed25519PrivateKey):
        return "ed25519"
    from cryptography.hazmat.primitives.asymmetric.ec import (
        SECP256R1,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

    if isinstance(key, EllipticCurvePublicKey | EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return "p256"
    kind = key.curve.name if isinstance(key, EllipticCurvePublicKey | EllipticCurvePrivateKey) else type(key).__name__
    raise KeyFileError(f"a key of kind {kind} cannot sign bundles", hint="use an ed25519 or a p256 key")


def sign(private_key: SigningKey, signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> Signature:
    """Return the signature of a software key over the signed region.

    Raises:
        KeyFileError: the key is neither Ed25519 nor P-256.
    """
    algorithm_of(private_key)
    message = pae(signed, payload_type)
    if isinstance(private_key, Ed25519PrivateKey):
        return Signature(key_id=key_id(private_key.public_key()), value=private_key.sign(message))
    return Signature(key_id=key_id(private_key.public_key()), value=private_key.sign(message, _ecdsa()))


def verify_threshold(
    signed: bytes,
    signatures: Sequence[Signature],
    keys: Mapping[bytes, VerifyingKey],
    threshold: int,
    payload_type: bytes = PAYLOAD_TYPE,
) -> tuple[bytes, ...]:
    """Return the ids of the distinct trusted keys that signed `signed`, at least `threshold` of them (step 6).

    Args:
        signed: the signed region.
        signatures: as found in the file.
        keys: the trusted keys by key id.
        threshold: how many distinct keys must have signed.
        payload_type: what the region must have been signed as.

    Raises:
        SignatureError: too few signed, a trusted key's signature is wrong, or the threshold is below 1.
    """
    if threshold < 1:
        raise SignatureError(f"the threshold is {threshold}: at least one signature must be asked for")
    message = pae(signed, payload_type)
    signers: set[bytes] = set()
    for signature in signatures:
        key = keys.get(signature.key_id)
        if key is None:
            continue
        # Not skipped: a wrong signature by a known key is an attack or damage, never a normal file.
        if not _is_valid(key, signature.value, message):
            raise SignatureError(f"the signature by trusted key {signature.key_id.hex()[:16]} is wrong")
        signers.add(signature.key_id)
    if len(signers) < threshold:
        raise SignatureError(
            f"signed by {len(signers)} trusted keys, wanted {threshold}",
            hint="signed by "
            + ", ".join(s.key_id.hex()[:16] for s in signatures)
            + "; trusted here: "
            + ", ".join(k.hex()[:16] for k in keys),
        )
    return tuple(sorted(signers))


def _is_valid(key: VerifyingKey, value: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(value, message)
        else:
            key.verify(value, message, _ecdsa())
    except InvalidSignature:
        return False
    return True


def _ecdsa() -> ECDSA:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(SHA256())
