"""Read key files: PEM, PKCS#8 for private keys, SubjectPublicKeyInfo for public ones.

`edgepack keys generate` writes a label of two lines before the PEM text, which RFC 7468 lets every reader pass over:
the key's role and its id. The label is a guard against mistakes, no proof: who writes the file writes the label.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.exceptions import InternalError, UnsupportedAlgorithm

from edgepack_runtime._crypto import load_pem_private_key, load_pem_public_key
from edgepack_runtime._data import dataclass
from edgepack_runtime._files import read_secret
from edgepack_runtime.errors import FileError, KeyFileError
from edgepack_runtime.grants import DeviceKey, RecipientKey, grant_kind
from edgepack_runtime.signing import SigningKey, VerifyingKey, algorithm_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MAX_PASSPHRASE",
    "RECIPIENT_ROLES",
    "ROLES",
    "SIGNING_ROLES",
    "KeyLabel",
    "PassphraseSource",
    "load_device_key",
    "load_recipient",
    "load_signing_key",
    "load_verifying_key",
    "passphrase_in",
    "read_key_file",
    "read_label",
    "recipient_in",
    "verifying_key_in",
    "write_label",
]

SIGNING_ROLES = ("release", "root")
RECIPIENT_ROLES = ("device", "issuer")
ROLES = (*SIGNING_ROLES, *RECIPIENT_ROLES)
# Asked for the passphrase of the named file, and only when that file is encrypted.
PassphraseSource = Callable[[str], bytes]

_MAX_BYTES = 64 << 10
# Of the file or pipe that a passphrase is the first line of.
MAX_PASSPHRASE = 1 << 10
_LABEL = re.compile(rb"^edgepack-(role|key-id): ([a-z0-9]{1,64})\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLabel:
    """What a key file says of its key; None where it says nothing."""

    role: str | None
    key_id: str | None


def read_label(pem: bytes) -> KeyLabel:
    """Return the label before a PEM text."""
    found = {name.decode(): value.decode() for name, value in _LABEL.findall(pem.partition(b"-----BEGIN")[0])}
    role = found.get("role")
    return KeyLabel(role=role if role in ROLES else None, key_id=found.get("key-id"))


def write_label(role: str, key_id: bytes) -> bytes:
    """Return the lines `read_label` reads."""
    return f"edgepack-role: {role}\nedgepack-key-id: {key_id.hex()}\n".encode()


def read_key_file(path: str | Path) -> bytes:
    """Return the text of a key file, or what a pipe brings, such as ``<(vault read ...)``.

    Raises:
        KeyFileError: it cannot be read, is neither a file nor a pipe, or is too long for a key.
    """
    try:
        return read_secret(path, _MAX_BYTES)
    except FileError as error:
        raise KeyFileError(error.message, hint="`edgepack keys generate` makes keys") from None


def passphrase_in(path: str | Path) -> PassphraseSource:
    """Return a source that reads the passphrase from the first line of a file, when it is needed.

    The source raises `KeyFileError` when the file cannot be read or holds no passphrase.
    """

    def read(_: str) -> bytes:
        try:
            line = read_secret(path, MAX_PASSPHRASE).partition(b"\n")[0].rstrip(b"\r")
        except FileError as error:
            raise KeyFileError(f"passphrase: {error.message}") from None
        if not line:
            raise KeyFileError(f"passphrase: the first line of {path} is empty")
        return line

    return read


def _private(path: str | Path, passphrase: PassphraseSource | None, roles: tuple[str, ...]) -> object:
    data = read_key_file(path)
    try:
        _check_role(path, read_label(data), roles)
        return _parse_private(path, data, passphrase)
    finally:
        # A traceback may be shown with the locals of its frames; none of them holds a key.
        del data


def _parse_private(path: str | Path, data: bytes, passphrase: PassphraseSource | None) -> object:
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        if passphrase is None:
            raise KeyFileError(
                f"{path}: the private key is protected by a passphrase, and none was given",
                hint="--passphrase-file, or passphrase_file in device.json",
            ) from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "this is a public key; its private half is needed" if b"PUBLIC KEY" in data else None
        # Whatever it is, it may be most of a key.
        del data
        raise KeyFileError(f"{path}: no PEM private key (PKCS#8)", hint=hint) from None
    try:
        return load_pem_private_key(data, password=passphrase(str(path)))
    except (ValueError, UnsupportedAlgorithm, TypeError):
        raise KeyFileError(f"{path}: the passphrase does not open this private key") from None
    except (InternalError, MemoryError):
        # OpenSSL's answer to a scrypt of no cost at all, or of more memory than there is.
        raise KeyFileError(f"{path}: the private key is encrypted in a way that cannot be computed here") from None


def _public(path: str | Path, data: bytes, roles: tuple[str, ...]) -> object:
    try:
        if b"PRIVATE KEY" in data:
            raise KeyFileError(
                f"{path}: this is a private key, a public one is wanted",
                hint="keep it where it is, and name the .pub.pem file beside it",
            )
        _check_role(path, read_label(data), roles)
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: no PEM public key") from None
    finally:
        del data


def _check_role(path: str | Path, label: KeyLabel, roles: tuple[str, ...]) -> None:
    if label.role is not None and label.role not in roles:
        raise KeyFileError(
            f"{path}: this is a {label.role} key, a {' or '.join(roles)} key is wanted",
            hint="one key has one role; `edgepack keys generate --role` makes another",
        )


def load_signing_key(
    path: str | Path, passphrase: PassphraseSource | None = None, *, roles: tuple[str, ...] = ("release",)
) -> SigningKey:
    """Return the Ed25519 or P-256 private key in a PEM file.

    Args:
        path: the file.
        passphrase: asked if the file is encrypted.
        roles: what the file's label may say; a file without a label may be anything.

    Raises:
        KeyFileError: it cannot be read or opened, is labelled otherwise, or holds another kind of key.
    """
    key = _private(path, passphrase, roles)
    _checked(path, key)
    return key  # type: ignore[return-value]


def load_verifying_key(path: str | Path, *, roles: tuple[str, ...] = ("release",)) -> VerifyingKey:
    """Return the Ed25519 or P-256 public key in a PEM file; `roles` as for `load_signing_key`.

    Raises:
        KeyFileError: it cannot be read, is labelled otherwise, or holds another kind of key.
    """
    return verifying_key_in(read_key_file(path), path, roles=roles)


def verifying_key_in(data: bytes, path: str | Path, *, roles: tuple[str, ...] = ("release",)) -> VerifyingKey:
    """Return the Ed25519 or P-256 public key in a PEM text; `path` names it in messages.

    Raises:
        KeyFileError: it is labelled otherwise, or holds another kind of key.
    """
    try:
        key = _public(path, data, roles)
    finally:
        del data
    _checked(path, key)
    return key  # type: ignore[return-value]


def _checked(path: str | Path, key: object) -> None:
    try:
        algorithm_of(key)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error.message}", hint=error.hint) from None


def load_device_key(path: str | Path, passphrase: PassphraseSource | None = None) -> DeviceKey:
    """Return the X25519, P-256 or RSA private key in a PEM file that opens grants.

    Raises:
        KeyFileError: it cannot be read or opened, is labelled a signing key, or holds another kind of key.
    """
    key = _private(path, passphrase, RECIPIENT_ROLES)
    public = getattr(key, "public_key", lambda: None)()
    _check_recipient(path, public)
    return key  # type: ignore[return-value]


def load_recipient(path: str | Path) -> RecipientKey:
    """Return the X25519, P-256 or RSA public key in a PEM file that bundles are encrypted to.

    Raises:
        KeyFileError: it cannot be read, is labelled a signing key, or holds another kind of key.
    """
    return recipient_in(read_key_file(path), path)


def recipient_in(data: bytes, path: str | Path) -> RecipientKey:
    """Return the X25519, P-256 or RSA public key in a PEM text; `path` names it in messages.

    Raises:
        KeyFileError: it is labelled a signing key, or holds another kind of key.
    """
    try:
        key = _public(path, data, RECIPIENT_ROLES)
    finally:
        del data
    _check_recipient(path, key)
    return key  # type: ignore[return-value]


def _check_recipient(path: str | Path, key: object) -> None:
    try:
        grant_kind(key)  # type: ignore[arg-type]
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error.message}", hint=error.hint) from None
