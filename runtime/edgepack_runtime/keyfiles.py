"""Read key files: PEM, PKCS#8 for private keys, SubjectPublicKeyInfo for public ones."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from edgepack_runtime._files import read_capped
from edgepack_runtime.errors import FileError, KeyFileError
from edgepack_runtime.grants import DeviceKey, RecipientKey, grant_kind
from edgepack_runtime.signing import SigningKey, VerifyingKey, algorithm_of

__all__ = ["load_device_key", "load_recipient", "load_signing_key", "load_verifying_key"]

_MAX_BYTES = 64 << 10


def _read(path: Path) -> bytes:
    try:
        return read_capped(path, _MAX_BYTES)
    except FileError as error:
        raise KeyFileError(error.message, hint="`edgepack keys generate` makes keys") from None


def _private(path: Path) -> object:
    data = _read(path)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        raise KeyFileError(f"{path}: the private key is protected by a passphrase, and none was given") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "this is a public key; its private half is needed" if b"PUBLIC KEY" in data else None
        raise KeyFileError(f"{path}: no PEM private key (PKCS#8)", hint=hint) from None


def _public(path: Path) -> object:
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise KeyFileError(
            f"{path}: this is a private key, a public one is wanted",
            hint="keep it where it is, and name the .pub.pem file beside it",
        )
    try:
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: no PEM public key") from None


def load_signing_key(path: Path) -> SigningKey:
    """Return the Ed25519 or P-256 private key in a PEM file.

    Raises:
        KeyFileError: it cannot be read, or holds another kind of key.
    """
    key = _private(path)
    _checked(path, key)
    return key  # type: ignore[return-value]


def load_verifying_key(path: Path) -> VerifyingKey:
    """Return the Ed25519 or P-256 public key in a PEM file.

    Raises:
        KeyFileError: it cannot be read, or holds another kind of key.
    """
    key = _public(path)
    _checked(path, key)
    return key  # type: ignore[return-value]


def _checked(path: Path, key: object) -> None:
    try:
        algorithm_of(key)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error.message}", hint=error.hint) from None


def load_device_key(path: Path) -> DeviceKey:
    """Return the X25519, P-256 or RSA private key in a PEM file that opens grants.

    Raises:
        KeyFileError: it cannot be read, or holds another kind of key.
    """
    key = _private(path)
    public = getattr(key, "public_key", lambda: None)()
    _check_recipient(path, public)
    return key  # type: ignore[return-value]


def load_recipient(path: Path) -> RecipientKey:
    """Return the X25519, P-256 or RSA public key in a PEM file that bundles are encrypted to.

    Raises:
        KeyFileError: it cannot be read, or holds another kind of key.
    """
    key = _public(path)
    _check_recipient(path, key)
    return key  # type: ignore[return-value]


def _check_recipient(path: Path, key: object) -> None:
    try:
        grant_kind(key)  # type: ignore[arg-type]
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error.message}", hint=error.hint) from None
