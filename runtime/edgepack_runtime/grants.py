"""Grants: the bundle's content key, sealed for one device key each.

HPKE (RFC 9180) base mode with HKDF-SHA256 and AES-256-GCM for X25519 and P-256 keys, RSAES-OAEP (RFC 8017, 7.1) with
SHA-256 for hardware that holds RSA keys only. The `info` (the OAEP label) binds a grant to one signed region: a grant
moved to another bundle cannot be opened. Grants are not signed, so a recipient can be added without the signing key.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from edgepack_runtime._crypto import sha256
from edgepack_runtime.container import GRANT_SIZES, Grant
from edgepack_runtime.encryption import CONTENT_KEY_SIZE
from edgepack_runtime.errors import GrantError, KeyFileError
from edgepack_runtime.signing import key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

__all__ = ["DeviceKey", "GrantKind", "RecipientKey", "grant_for", "grant_kind", "open_grant", "seal"]

DeviceKey: TypeAlias = "X25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey"
RecipientKey: TypeAlias = "X25519PublicKey | EllipticCurvePublicKey | RSAPublicKey"
_INFO = b"edgepack/v1/grant\0"
_RSA_BITS = 3072


class GrantKind(IntEnum):
    """How a content key is sealed; the number is the one in the file."""

    HPKE_X25519 = 1
    HPKE_P256 = 2
    RSA_OAEP_3072 = 3


_KEMS = {GrantKind.HPKE_X25519: KEM.X25519, GrantKind.HPKE_P256: KEM.P256}


def grant_kind(public_key: RecipientKey) -> GrantKind:
    """Return how content keys are sealed for a public key.

    Raises:
        KeyFileError: it is another kind of key, another curve or another RSA size.
    """
    if isinstance(public_key, X25519PublicKey):
        return GrantKind.HPKE_X25519
    # A device with an X25519 key does not wait for the import of these.
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(public_key, EllipticCurvePublicKey) and isinstance(public_key.curve, SECP256R1):
        return GrantKind.HPKE_P256
    if isinstance(public_key, RSAPublicKey) and public_key.key_size == _RSA_BITS:
        return GrantKind.RSA_OAEP_3072
    raise KeyFileError(
        f"a key of kind {type(public_key).__name__} cannot receive bundles",
        hint=f"use an x25519, a p256 or an RSA key of {_RSA_BITS} bits",
    )


def seal(public_key: RecipientKey, content_key: bytes | bytearray, signed: bytes) -> Grant:
    """Return the grant that lets the holder of `public_key` open the bundle whose signed region is `signed`.

    Raises:
        KeyFileError: the key is of a kind that cannot receive bundles.
        ValueError: the content key has not 32 bytes.
    """
    if len(content_key) != CONTENT_KEY_SIZE:
        raise ValueError(f"the content key has {len(content_key)} bytes, wanted {CONTENT_KEY_SIZE}")
    kind = grant_kind(public_key)
    if kind is GrantKind.RSA_OAEP_3072:
        sealed = cast("RSAPublicKey", public_key).encrypt(bytes(content_key), _oaep(signed))
    else:
        sealed = _hpke(kind).encrypt(content_key, public_key, _info(signed))  # type: ignore[arg-type]  # by its kind
    return Grant(kind=kind, key_id=key_id(public_key), sealed=sealed)


def grant_for(wanted: bytes, grants: Sequence[Grant]) -> Grant | None:
    """Return the first grant for a key id; None if there is none, or only some of kinds that nobody knows yet."""
    return next((grant for grant in grants if grant.key_id == wanted and grant.kind in GRANT_SIZES), None)


def open_grant(private_key: DeviceKey, grants: Sequence[Grant], signed: bytes) -> bytearray:
    """Return the content key that one of `grants` holds for this device's key (step 12).

    The kind is the one the key demands; the file's only has to agree.

    Raises:
        GrantError: there is no grant for this key, or it does not open.
        KeyFileError: the key is of a kind that cannot receive bundles.
    """
    public_key = private_key.public_key()
    kind, wanted = grant_kind(public_key), key_id(public_key)
    grant = grant_for(wanted, grants)
    if grant is None:
        raise GrantError(
            f"the bundle has no grant for this device's key {wanted.hex()[:16]} ({len(grants)} grants for others)",
            hint="have the publisher add this device as a recipient",
        )
    if grant.kind != kind:
        raise GrantError(f"the grant for key {wanted.hex()[:16]} is of kind {grant.kind}, the key needs {kind:d}")
    try:
        if kind is GrantKind.RSA_OAEP_3072:
            content_key = bytearray(cast("RSAPrivateKey", private_key).decrypt(grant.sealed, _oaep(signed)))
        else:
            content_key = bytearray(
                _hpke(kind).decrypt(grant.sealed, private_key, _info(signed))  # type: ignore[arg-type]  # by its kind
            )
    except (InvalidTag, ValueError):
        raise GrantError(
            f"the grant for key {wanted.hex()[:16]} does not open: altered or of another bundle"
        ) from None
    if len(content_key) != CONTENT_KEY_SIZE:
        raise GrantError(f"the grant for key {wanted.hex()[:16]} holds {len(content_key)} bytes, wanted 32")
    return content_key


def _info(signed: bytes) -> bytes:
    return _INFO + sha256(signed)


def _oaep(signed: bytes) -> OAEP:
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
    from cryptography.hazmat.primitives.hashes import SHA256

    return OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=_info(signed))


def _hpke(kind: GrantKind) -> Suite:
    return Suite(_KEMS[kind], KDF.HKDF_SHA256, AEAD.AES_256_GCM)
