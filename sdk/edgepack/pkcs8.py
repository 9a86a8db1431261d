"""Private keys under a passphrase: PKCS#8 with PBES2, scrypt and AES-256-CBC, which `cryptography` reads, not writes.

RFC 5958 (EncryptedPrivateKeyInfo), RFC 8018 (PBES2), RFC 7914 (scrypt and its ASN.1), RFC 3565 (AES-CBC). The same
bytes as ``openssl pkcs8 -topk8 -scrypt`` writes, with N = 2^14, r = 8, p = 1: 16 MiB, which every OpenSSL accepts.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import textwrap
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgepack_runtime.errors import KeyFileError
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.signing import SigningKey

__all__ = ["MIN_PBKDF2_ROUNDS", "KeyProtection", "encrypt_private_key", "private_pem", "protection_in"]

_N, _R, _P = 2**14, 8, 1
_MEMORY = 128 * _N * _R
_SALT_SIZE, _BLOCK = 16, 16
# What OWASP asks of PBKDF2 with SHA-256. OpenSSL and `cryptography` write 2,048 without being asked.
MIN_PBKDF2_ROUNDS = 600_000

# RFC 7468, section 11.
_LABEL = "ENCRYPTED PRIVATE KEY"
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\s(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProtection:
    """How a private key file is protected: `kdf` is ``none``, ``scrypt``, ``pbkdf2`` or ``other``.

    `cost` is the rounds of PBKDF2 or the N of scrypt, and `memory` what scrypt fills: 128 bytes by N by r.
    """

    kdf: str
    cost: int = 0
    memory: int = 0

    @property
    def is_weak(self) -> bool:
        """Whether the passphrase can be guessed too fast."""
        if self.kdf == "scrypt":
            return self.cost < _N or self.memory < _MEMORY
        return self.kdf == "other" or (self.kdf == "pbkdf2" and self.cost < MIN_PBKDF2_ROUNDS)

    def __str__(self) -> str:
        text = {
            "none": "not encrypted",
            "scrypt": f"scrypt, N = {self.cost}, {self.memory >> 20} MiB",
            "pbkdf2": f"PBKDF2, {self.cost} rounds",
        }
        return text.get(self.kdf, "an encryption of unknown strength")


def private_pem(key: SigningKey | DeviceKey, passphrase: bytes | None) -> bytes:
    """Return a private key as PKCS#8 PEM, encrypted if there is a passphrase.

    Raises:
        KeyFileError: the passphrase is empty.
    """
    if passphrase is not None:
        return encrypt_private_key(key, passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypt_private_key(key: SigningKey | DeviceKey, passphrase: bytes) -> bytes:
    """Return a private key as encrypted PKCS#8 PEM.

    Raises:
        KeyFileError: the passphrase is empty.
    """
    if not passphrase:
        raise KeyFileError("an empty passphrase protects nothing")
    salt, iv = os.urandom(_SALT_SIZE), os.urandom(_BLOCK)
    padder = PKCS7(8 * _BLOCK).padder()
    plain = padder.update(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())) + padder.finalize()
    wrapping = Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase)
    encryptor = Cipher(AES(wrapping), CBC(iv)).encryptor()
    kdf = _sequence(_SCRYPT, _sequence(_octets(salt), _integer(_N), _integer(_R), _integer(_P)))
    cipher = _sequence(_AES_256_CBC, _octets(iv))
    algorithm = _sequence(_PBES2, _sequence(kdf, cipher))
    der = _sequence(algorithm, _octets(encryptor.update(plain) + encryptor.finalize()))
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join([f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", ""]).encode()


def protection_in(pem: bytes) -> KeyProtection | None:
    """Return how the private key in a PEM text is protected, or None if there is no private key in it."""
    found = _PEM.search(pem)
    if found is None:
        return None
    if found[1] == _LABEL.encode():
        try:
            return _kdf_of(base64.b64decode(found[2]))
        except (ValueError, IndexError, binascii.Error):
            return KeyProtection(kdf="other")
    # OpenSSL's own old formats: one round of MD5, or OpenSSH's, which nothing here reads.
    if b"ENCRYPTED" in found[2] or b"OPENSSH" in found[1]:
        return KeyProtection(kdf="other")
    return KeyProtection(kdf="none")


def _kdf_of(der: bytes) -> KeyProtection:
    """Walk EncryptedPrivateKeyInfo -> AlgorithmIdentifier -> PBES2-params -> keyDerivationFunc."""
    algorithm = _items(_items(_items(der)[0][1])[0][1])
    if _element(algorithm[0]) != _PBES2:
        return KeyProtection(kdf="other")
    name, parameters = _items(_items(algorithm[1][1])[0][1])
    numbers = [int.from_bytes(value, "big") for tag, value in _items(parameters[1]) if tag == _INTEGER]
    kind = {_SCRYPT: "scrypt", _PBKDF2: "pbkdf2"}.get(_element(name), "other")
    return KeyProtection(kdf=kind, cost=numbers[0], memory=128 * numbers[0] * numbers[1] if kind == "scrypt" else 0)


def _items(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of the DER elements that stand one after the other in `der`."""
    found, at = [], 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(der[at : at + count], "big"), at + count
        if at + size > len(der):
            raise ValueError("an element is cut short")
        found.append((tag, der[at : at + size]))
        at += size
    return found


def _element(item: tuple[int, bytes]) -> bytes:
    return _der(*item)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*items: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(items))


def _octets(content: bytes) -> bytes:
    return _der(_OCTETS, content)


def _integer(value: int) -> bytes:
    # One bit more than the value has, so that the first one says "not negative".
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))
