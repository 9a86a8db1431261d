"""The primitives a verdict rests on, as our code calls them, against vectors that others published.

Wycheproof's chunked-encryption cases are in `test_encryption`. No case of the files used here is "acceptable": each
is valid or invalid. The counts are those of the files, so that one cut short or filtered fails.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode
from collections import Counter
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from bundlekit import plain_length, seed
from edgepack_runtime import encryption, grants
from edgepack_runtime.container import Grant
from edgepack_runtime.encryption import PayloadSuite, decrypt_entry, segment_digests
from edgepack_runtime.errors import GrantError, PayloadError
from edgepack_runtime.grants import DeviceKey, grant_kind, open_grant
from edgepack_runtime.signing import _is_valid, algorithm_of, key_id
from publishedvectors import HpkeCase, hpke, published, wycheproof

SIGNATURES = {
    "ed25519": ("ed25519", {"valid": 88, "invalid": 63}),
    "p256": ("ecdsa_secp256r1_sha256", {"valid": 174, "invalid": 310}),
}
OAEP = wycheproof("rsa_oaep_3072_sha256_mgf1sha256")
HPKE = list(hpke())
OURS = [case for case in HPKE if case.ours]
CHUNKED = [
    case for case in published("chunked-encryption/vectors.json")["vectors"] if case["aead"] == "AEAD_AES_256_GCM"
]
named = pytest.mark.parametrize("case", OURS, ids=lambda case: case.name)


def opened(device: DeviceKey, sealed: bytes, info: bytes) -> bytes | str:
    """Return the content key in a grant, or why there is none; needs `published_info`."""
    public_key = device.public_key()
    grant = Grant(kind=grant_kind(public_key), key_id=key_id(public_key), sealed=sealed)
    try:
        return bytes(open_grant(device, [grant], info))
    except GrantError as error:
        return "another length" if "wanted 32" in error.message else "does not open"


@pytest.fixture
def published_info(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ours is a hash of the signed region: no published vector can have it.
    monkeypatch.setattr(grants, "_info", bytes)


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_every_signature_of_wycheproof_gets_its_verdict(algorithm: str) -> None:
    name, counts = SIGNATURES[algorithm]
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for group, case in wycheproof(name):
        key: Any = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        assert algorithm_of(key) == algorithm
        valid = _is_valid(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
        seen[case["result"]] += 1
        if valid != (case["result"] == "valid"):
            wrong.append(f"tc{case['tcId']} {case['comment']}")
    assert (wrong, dict(seen)) == ([], counts)


@pytest.mark.usefixtures("published_info")
def test_every_oaep_case_of_wycheproof_gets_its_verdict() -> None:
    seen: Counter[str] = Counter()
    (pkcs8,) = {group["privateKeyPkcs8"] for group, _ in OAEP}
    device = load_der_private_key(bytes.fromhex(pkcs8), None)
    assert isinstance(device, RSAPrivateKey)
    for _, case in OAEP:
        message = bytes.fromhex(case["msg"])
        wanted = message if len(message) == 32 else "another length"
        verdict = opened(device, bytes.fromhex(case["ct"]), bytes.fromhex(case["label"]))
        assert verdict == (wanted if case["result"] == "valid" else "does not open"), f"tc{case['tcId']}"
        seen[verdict if isinstance(verdict, str) else "a content key"] += 1
    assert seen == {"a content key": 1, "another length": 17, "does not open": 19}


def test_the_hpke_vectors_are_there() -> None:
    assert (len(HPKE), [case.name for case in OURS]) == (48, ["0-32-1-2", "0-16-1-2"])


@named
def test_our_suite_opens_the_message_of_rfc_9180(case: HpkeCase) -> None:
    # Its messages have additional data, which `Suite.decrypt` cannot be given: the function beneath it can.
    suite = grants._hpke(grant_kind(case.device.public_key()))
    assert openssl.hpke._decrypt_with_aad(suite, case.sealed, case.device, case.info, case.aad) == case.plain


@named
@pytest.mark.usefixtures("published_info")
def test_a_grant_sealed_with_the_keys_of_rfc_9180_opens(case: HpkeCase) -> None:
    content_key = seed("content key")
    assert opened(case.device, case.seal_again(content_key), case.info) == content_key


@named
@pytest.mark.usefixtures("published_info")
@pytest.mark.parametrize("what", ["sealed", "info", "additional data"])
def test_a_grant_of_rfc_9180_that_was_altered_does_not_open(case: HpkeCase, what: str) -> None:
    again = case.seal_again(seed("content key"))
    sealed = {"sealed": again[:-1] + bytes([again[-1] ^ 1]), "info": again, "additional data": case.sealed}[what]
    assert opened(case.device, sealed, case.info + b"\0" if what == "info" else case.info) == "does not open"


def test_the_messages_of_every_other_suite_and_mode_are_refused() -> None:
    others = [case for case in HPKE if not case.ours]
    refused: list[str] = []
    for case in others:
        suite = grants._hpke(grant_kind(case.device.public_key()))
        with pytest.raises(InvalidTag):
            openssl.hpke._decrypt_with_aad(suite, case.sealed, case.device, case.info, case.aad)
        refused.append(case.name)
    assert len(refused) == 46


def test_the_chunked_encryption_vectors_of_c2sp_are_there() -> None:
    assert Counter(case["expect"] for case in CHUNKED) == {"success": 9, "failure": 25}


@pytest.mark.parametrize("case", CHUNKED, ids=lambda case: case["name"])
def test_every_chunked_encryption_vector_of_c2sp_gets_its_verdict(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # These derive keys with SHA-256; Cobblestone-256, Wycheproof and we with SHA-512. All else is our code.
    monkeypatch.setattr(encryption, "SHA512", SHA256)
    assert decrypted(case) == (case["payload_sha256"] if case["expect"] == "success" else "failure")


def test_what_was_encrypted_under_another_hash_is_refused() -> None:
    assert Counter(decrypted(case) for case in CHUNKED) == {"failure": 34}


def decrypted(case: dict[str, Any]) -> str:
    """Return the SHA-256 of a vector's plaintext, or `failure`."""
    # Read outside of `try`, lest a vector read wrongly pass for one refused. JSON has null for no bytes at all.
    key, context, stored = bytes.fromhex(case["key"]), case["context"].encode(), b64decode(case["ciphertext"] or "")
    stored = zlib.decompress(stored) if case.get("compressed") else stored
    length, digests = plain_length(len(stored)), segment_digests(PayloadSuite.COBBLESTONE_256, stored)
    if length is None:
        return "failure"  # no plaintext has this stored length: the signed table refuses it
    into = bytearray(length)
    try:
        decrypt_entry(key, context, digests, lambda at, size: stored[at : at + size], memoryview(into))
    except (PayloadError, ValueError):
        return "failure"
    return hashlib.sha256(into).hexdigest()
