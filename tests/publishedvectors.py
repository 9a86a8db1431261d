"""Test vectors of others: Wycheproof's from `tests/data`, RFC 9180's and C2SP's from `cryptography-vectors`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cryptography_vectors
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgepack_runtime.grants import DeviceKey

WYCHEPROOF = Path(__file__).resolve().parent / "data" / "wycheproof"
_BASE_MODE, _HKDF_SHA256, _AES_256_GCM, _EXPORT_ONLY = 0, 1, 2, 0xFFFF
_P256, _X25519 = 0x10, 0x20


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (group, case) for each case of a Wycheproof file."""
    groups = json.loads((WYCHEPROOF / f"{name}_test.json").read_text())["testGroups"]
    return [(group, case) for group in groups for case in group["tests"]]


def published(path: str) -> Any:
    """Return a JSON file of the PyPI package `cryptography-vectors`."""
    with cryptography_vectors.open_vector_file(path, "rb") as file:
        return json.load(file)


@dataclass(frozen=True, kw_only=True, slots=True)
class HpkeCase:
    """One of RFC 9180's vectors for a KEM of ours; `ours` if the rest of the suite is ours too."""

    name: str
    ours: bool
    device: DeviceKey
    info: bytes
    aad: bytes
    plain: bytes
    enc: bytes
    sealed: bytes
    key: bytes
    nonce: bytes

    def seal_again(self, plain: bytes) -> bytes:
        """Return `plain` sealed with the published key and nonce, and without additional data, as grants are."""
        return self.enc + AESGCM(self.key).encrypt(self.nonce, plain, None)


def hpke() -> Iterator[HpkeCase]:
    """Yield the first message of each of RFC 9180's vectors for X25519 and P-256: a grant is a first message."""
    for found in published("HPKE/test-vectors.json"):
        if found["kem_id"] not in {_P256, _X25519} or found["aead_id"] == _EXPORT_ONLY:
            continue
        suite = tuple(found[name] for name in ("mode", "kem_id", "kdf_id", "aead_id"))
        device: DeviceKey
        if found["kem_id"] == _X25519:
            device = X25519PrivateKey.from_private_bytes(bytes.fromhex(found["skRm"]))
            public = device.public_key().public_bytes_raw()
        else:
            device = derive_private_key(int(found["skRm"], 16), SECP256R1())
            public = device.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert public.hex() == found["pkRm"]
        first = found["encryptions"][0]
        yield HpkeCase(
            name="-".join(str(number) for number in suite),
            ours=suite in {(_BASE_MODE, kem, _HKDF_SHA256, _AES_256_GCM) for kem in (_P256, _X25519)},
            device=device,
            info=bytes.fromhex(found["info"]),
            aad=bytes.fromhex(first["aad"]),
            plain=bytes.fromhex(first["pt"]),
            enc=bytes.fromhex(found["enc"]),
            sealed=bytes.fromhex(found["enc"] + first["ct"]),
            key=bytes.fromhex(found["key"]),
            nonce=bytes.fromhex(found["base_nonce"]),
        )
