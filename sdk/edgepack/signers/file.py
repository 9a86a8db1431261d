"""A key in a PEM file: ``file:PATH``, or the plain path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgepack.signers import SignerRequest
from edgepack_runtime.container import Signature
from edgepack_runtime.keyfiles import load_signing_key
from edgepack_runtime.signing import PAYLOAD_TYPE, SigningKey, VerifyingKey, key_id, sign

__all__ = ["FileSigner", "signer"]

_SCHEME = "file:"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSigner:
    """A private key in this process's memory."""

    private_key: SigningKey = field(repr=False)

    @property
    def public_key(self) -> VerifyingKey:
        """The public half."""
        return self.private_key.public_key()

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the public key's SubjectPublicKeyInfo."""
        return key_id(self.public_key)

    def sign(self, signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> Signature:
        """Return the signature over a signed region."""
        return sign(self.private_key, signed, payload_type)


def signer(request: SignerRequest) -> FileSigner:
    """Return the signer of a PEM file.

    Raises:
        KeyFileError: it cannot be read or opened, or holds another kind of key.
    """
    path = Path(request.uri.removeprefix(_SCHEME))
    return FileSigner(private_key=load_signing_key(path, request.passphrase, roles=request.roles))
