"""Test keys made from their names, and the randomised constructions without their randomness.

Whoever reads this file has the private keys: they must never be trusted outside these vectors.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

__all__ = ["Hpke", "Oaep", "PrivateKey", "key_id", "pkcs8", "private_key", "public_bytes", "seed", "sign", "spki"]

PrivateKey = Ed25519PrivateKey | X25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
RSA_BITS = 3072


def seed(text: str, size: int = 32) -> bytes:
    """Return bytes that look random and are the same in every run."""
    return hashlib.shake_256(text.encode()).digest(size)


# Bounded: a campaign of mutants names a new ephemeral key with each.
@functools.lru_cache(maxsize=256)
def private_key(name: str) -> PrivateKey:
    """Return the key of a name such as ``x25519 device``; the first word is the algorithm."""
    algorithm = name.partition(" ")[0]
    if algorithm == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(seed(name))
    if algorithm == "x25519":
        return X25519PrivateKey.from_private_bytes(seed(name))
    if algorithm == "p256":
        return derive_private_key(int.from_bytes(seed(name), "big") >> 1, SECP256R1())
    return _rsa(name)


def spki(name: str) -> bytes:
    """Return the public key as SubjectPublicKeyInfo."""
    return private_key(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pkcs8(name: str) -> bytes:
    """Return the private key as unencrypted PKCS#8."""
    return private_key(name).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_id(name: str) -> bytes:
    """Return what names the key in a bundle."""
    return hashlib.sha256(spki(name)).digest()


def public_bytes(key: X25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    """Return the public key as HPKE serialises it."""
    if isinstance(key, X25519PrivateKey):
        return key.public_key().public_bytes_raw()
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def sign(name: str, message: bytes) -> bytes:
    """Return a deterministic signature of an Ed25519 or P-256 key."""
    key = private_key(name)
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key.sign(message, ECDSA(SHA256(), deterministic_signing=True))


@dataclass(frozen=True, kw_only=True)
class Hpke:
    """RFC 9180 base mode; the fields are what a vector may get wrong on purpose."""

    kdf_id: int = 1
    aead_id: int = 2
    mode: int = 0
    aad: bytes = b""
    version: bytes = b"HPKE-v1"

    def seal(self, recipient: str, info: bytes, plaintext: bytes, *, ephemeral: str) -> bytes:
        """Return enc and ciphertext for `recipient`, under the ephemeral key that `ephemeral` names."""
        algorithm = recipient.partition(" ")[0]
        own, theirs = private_key(f"{algorithm} ephemeral {ephemeral}"), private_key(recipient)
        if isinstance(own, X25519PrivateKey) and isinstance(theirs, X25519PrivateKey):
            kem_id, shared = 0x20, own.exchange(theirs.public_key())
        else:
            assert isinstance(own, EllipticCurvePrivateKey)
            assert isinstance(theirs, EllipticCurvePrivateKey)
            public: EllipticCurvePublicKey = theirs.public_key()
            kem_id, shared = 0x10, own.exchange(ECDH(), public)
        enc = public_bytes(own)
        kem = b"KEM" + kem_id.to_bytes(2, "big")
        prk = self._extract(kem, b"", b"eae_prk", shared)
        secret = self._expand(kem, prk, b"shared_secret", enc + public_bytes(theirs), 32)
        suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (kem_id, self.kdf_id, self.aead_id))
        context = bytes([self.mode]) + self._extract(suite, b"", b"psk_id_hash", b"")
        context += self._extract(suite, b"", b"info_hash", info)
        prk = self._extract(suite, secret, b"secret", b"")
        key = self._expand(suite, prk, b"key", context, 32)
        nonce = self._expand(suite, prk, b"base_nonce", context, 12)
        return enc + AESGCM(key).encrypt(nonce, plaintext, self.aad)

    def _extract(self, suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), self.version + suite + label + ikm, "sha256")

    def _expand(self, suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
        # One block of HKDF-Expand is enough for everything HPKE asks of SHA-256 here.
        text = size.to_bytes(2, "big") + self.version + suite + label + info
        return hmac.digest(prk, text + b"\x01", "sha256")[:size]


@dataclass(frozen=True, kw_only=True)
class Oaep:
    """RFC 8017, 7.1.1; the fields are what a vector may get wrong on purpose."""

    hash_name: str = "sha256"
    mgf_hash: str = "sha256"

    def seal(self, recipient: str, label: bytes, plaintext: bytes, *, salt: str) -> bytes:
        """Return the ciphertext under the seed that `salt` names."""
        key = private_key(recipient)
        assert isinstance(key, RSAPrivateKey)
        numbers, size = key.public_key().public_numbers(), RSA_BITS // 8
        digest = hashlib.new(self.hash_name, label).digest()
        block = digest + bytes(size - len(plaintext) - 2 * len(digest) - 2) + b"\x01" + plaintext
        start = seed(f"oaep {salt}", len(digest))
        masked = _xor(block, self._mgf(start, len(block)))
        encoded = b"\0" + _xor(start, self._mgf(masked, len(start))) + masked
        return pow(int.from_bytes(encoded, "big"), numbers.e, numbers.n).to_bytes(size, "big")

    def _mgf(self, text: bytes, size: int) -> bytes:
        blocks = (hashlib.new(self.mgf_hash, text + i.to_bytes(4, "big")).digest() for i in range(size // 20 + 1))
        return b"".join(blocks)[:size]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _rsa(name: str) -> RSAPrivateKey:
    p, q = sorted((_prime(f"{name} p"), _prime(f"{name} q")), reverse=True)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = RSAPublicNumbers(65537, p * q)
    numbers = RSAPrivateNumbers(p, q, d, rsa_crt_dmp1(d, p), rsa_crt_dmq1(d, q), rsa_crt_iqmp(p, q), public)
    return numbers.private_key()


def _prime(name: str) -> int:
    """Return the first probable prime from a start with its two top bits and its lowest bit set."""
    half = RSA_BITS // 2
    number = int.from_bytes(seed(name, half // 8), "big") | 3 << (half - 2) | 1
    small = [n for n in range(3, 2000) if all(n % k for k in range(2, n))]
    while any(number % n == 0 for n in small) or pow(3, number - 1, number) != 1 or (number - 1) % 65537 == 0:
        number += 2
    return number
