"""What every start takes of `cryptography`, and nothing that takes long to import.

Its public packages import SSH, Diffie-Hellman and each cipher there ever was on the way to these names: 6 ms. Where a
version of it has them elsewhere, they come from the public ones.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256, Hash

try:
    from cryptography.hazmat.bindings._rust import openssl
    from cryptography.hazmat.primitives._serialization import Encoding, PublicFormat

    AESGCM = openssl.aead.AESGCM
    load_der_public_key = openssl.keys.load_der_public_key
    load_pem_private_key = openssl.keys.load_pem_private_key
    load_pem_public_key = openssl.keys.load_pem_public_key
except (ImportError, AttributeError):
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_der_public_key,
        load_pem_private_key,
        load_pem_public_key,
    )

__all__ = [
    "AESGCM",
    "Encoding",
    "PublicFormat",
    "load_der_public_key",
    "load_pem_private_key",
    "load_pem_public_key",
    "sha256",
]


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """Return the SHA-256 of some bytes; other threads run meanwhile.

    `hashlib` would load a second OpenSSL: 3 MiB of memory, and 2 ms.
    """
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()
