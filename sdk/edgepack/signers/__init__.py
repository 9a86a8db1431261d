"""Where release and root keys live: one module a kind of place, named as the scheme of its URIs.

A plug-in has one function, ``signer(request: SignerRequest) -> Signer``. A key is named by a URI whose scheme is the
module's name (``pkcs11:token=…``), or by the plain path of a PEM file. Only the modules of this package are ever
looked up: no program is searched, and no name from a file becomes one.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from typing import Protocol

from edgepack_runtime.container import Signature
from edgepack_runtime.errors import KeyFileError
from edgepack_runtime.keyfiles import PassphraseSource
from edgepack_runtime.signing import PAYLOAD_TYPE, VerifyingKey

__all__ = ["Signer", "SignerRequest", "is_key_uri", "known_schemes", "open_signer"]

_URI = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
_PLAIN = "file"


class Signer(Protocol):
    """A key that signs, wherever it is; it may never be in this process's memory."""

    @property
    def public_key(self) -> VerifyingKey:
        """The public half."""

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the public key's SubjectPublicKeyInfo."""

    def sign(self, signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> Signature:
        """Return the signature over a signed region.

        Raises:
            KeyFileError: the place where the key is refuses.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRequest:
    """A key to sign with. `roles` is what its label may say; `passphrase` is asked for a passphrase or a PIN."""

    uri: str
    roles: tuple[str, ...] = ("release",)
    passphrase: PassphraseSource | None = field(default=None, repr=False)


def is_key_uri(text: str) -> bool:
    """Return whether a key is named by a URI, and not by a path."""
    return _URI.fullmatch(text) is not None


def known_schemes() -> tuple[str, ...]:
    """Return the schemes there are modules for."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def open_signer(request: SignerRequest) -> Signer:
    """Return the signer a URI or path names, found and ready to sign.

    Raises:
        KeyFileError: the scheme is unknown, or the key cannot be found or opened.
    """
    found = _URI.fullmatch(request.uri)
    scheme = _PLAIN if found is None else found[1]
    if scheme not in known_schemes():
        raise KeyFileError(
            f"{request.uri}: a key URI of scheme {scheme!r} is not known",
            hint=f"known are {', '.join(known_schemes())}; a file whose name looks like one is named with file:",
        )
    signer: Signer = importlib.import_module(f"{__name__}.{scheme}").signer(request)
    return signer
