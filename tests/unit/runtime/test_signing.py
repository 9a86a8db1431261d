"""Signatures and thresholds: who counts, who does not, and what is refused outright."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bundlekit import ed25519, p256, seed
from edgepack_runtime.container import Signature
from edgepack_runtime.errors import KeyFileError, SignatureError
from edgepack_runtime.signing import SigningKey, VerifyingKey, algorithm_of, key_id, pae, sign, verify_threshold

SIGNED = b"what is signed"
KEYS = {"ed25519": ed25519(), "p256": p256()}


def trusted(*keys: SigningKey) -> dict[bytes, VerifyingKey]:
    return {key_id(key.public_key()): key.public_key() for key in keys}


def test_the_encoding_is_that_of_dsse() -> None:
    assert pae(b"hello world") == b"DSSEv1 34 application/vnd.edgepack.bundle.v1 11 hello world"


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_by_a_trusted_key_counts(algorithm: str) -> None:
    key = KEYS[algorithm]
    assert verify_threshold(SIGNED, [sign(key, SIGNED)], trusted(key), 1) == (key_id(key.public_key()),)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_over_other_bytes_is_refused(algorithm: str) -> None:
    key = KEYS[algorithm]
    with pytest.raises(SignatureError, match="is wrong"):
        verify_threshold(SIGNED + b"!", [sign(key, SIGNED)], trusted(key), 1)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_over_the_bare_bytes_is_refused(algorithm: str) -> None:
    key = KEYS[algorithm]
    bare = sign(key, SIGNED)
    with pytest.raises(SignatureError, match="is wrong"):
        verify_threshold(pae(SIGNED), [bare], trusted(key), 1)


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("value", [b"", b"\0", bytes(64), b"\x30\x06\x02\x01\x01\x02\x01\x01", b"\xff" * 200])
def test_bytes_that_are_no_signature_are_refused(algorithm: str, value: bytes) -> None:
    key = KEYS[algorithm]
    with pytest.raises(SignatureError, match="is wrong"):
        verify_threshold(SIGNED, [Signature(key_id=key_id(key.public_key()), value=value)], trusted(key), 1)


@pytest.mark.parametrize("claimed", KEYS)
def test_a_signature_is_checked_with_the_key_it_names_and_no_other(claimed: str) -> None:
    other = next(key for name, key in KEYS.items() if name != claimed)
    lie = Signature(key_id=key_id(KEYS[claimed].public_key()), value=sign(other, SIGNED).value)
    with pytest.raises(SignatureError, match="is wrong"):
        verify_threshold(SIGNED, [lie], trusted(*KEYS.values()), 1)


def test_a_signature_by_an_unknown_key_does_not_count() -> None:
    with pytest.raises(SignatureError, match="by 0 trusted keys, wanted 1"):
        verify_threshold(SIGNED, [sign(ed25519("stranger"), SIGNED)], trusted(ed25519()), 1)


def test_an_unknown_key_beside_a_trusted_one_is_ignored() -> None:
    signatures = [sign(ed25519("stranger"), SIGNED), sign(ed25519(), SIGNED)]
    assert len(verify_threshold(SIGNED, signatures, trusted(ed25519()), 1)) == 1


def test_a_wrong_signature_by_a_trusted_key_is_refused_even_above_the_threshold() -> None:
    wrong = sign(ed25519("second"), b"something else")
    with pytest.raises(SignatureError, match="is wrong"):
        verify_threshold(SIGNED, [sign(ed25519(), SIGNED), wrong], trusted(ed25519(), ed25519("second")), 1)


@pytest.mark.parametrize(("threshold", "signers"), [(1, 1), (2, 2), (2, 3), (3, 3)])
def test_as_many_keys_as_the_threshold_are_enough(threshold: int, signers: int) -> None:
    keys = [ed25519("a"), p256("b"), ed25519("c")]
    found = verify_threshold(SIGNED, [sign(key, SIGNED) for key in keys[:signers]], trusted(*keys), threshold)
    assert len(found) == signers


@pytest.mark.parametrize(("threshold", "signers"), [(2, 1), (3, 2)])
def test_one_key_too_few_is_not_enough(threshold: int, signers: int) -> None:
    keys = [ed25519("a"), p256("b"), ed25519("c")]
    with pytest.raises(SignatureError, match=f"by {signers} trusted keys, wanted {threshold}"):
        verify_threshold(SIGNED, [sign(key, SIGNED) for key in keys[:signers]], trusted(*keys), threshold)


def test_one_key_never_counts_twice() -> None:
    # ECDSA is randomised: two different signatures, one key. The file's format forbids it; this is the second line.
    twice = [sign(p256(), SIGNED), sign(p256(), SIGNED)]
    assert twice[0].value != twice[1].value
    with pytest.raises(SignatureError, match="by 1 trusted keys, wanted 2"):
        verify_threshold(SIGNED, twice, trusted(p256(), ed25519()), 2)


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_below_one_is_an_error(threshold: int) -> None:
    with pytest.raises(SignatureError, match=f"threshold is {threshold}"):
        verify_threshold(SIGNED, [sign(ed25519(), SIGNED)], trusted(ed25519()), threshold)


def test_an_ecdsa_signature_in_another_encoding_is_refused() -> None:
    good = sign(p256(), SIGNED)
    r, s = decode_dss_signature(good.value)
    long_form = b"\x30\x81" + good.value[1:]
    for value in (r.to_bytes(32, "big") + s.to_bytes(32, "big"), long_form, good.value + b"\0"):
        with pytest.raises(SignatureError, match="is wrong"):
            verify_threshold(SIGNED, [Signature(key_id=good.key_id, value=value)], trusted(p256()), 1)


def test_another_curve_cannot_sign() -> None:
    key = derive_private_key(int.from_bytes(seed("p384"), "big"), SECP384R1())
    with pytest.raises(KeyFileError, match="secp384r1"):
        sign(key, SIGNED)


def test_the_algorithm_is_the_keys() -> None:
    assert [algorithm_of(key) for key in (ed25519(), p256().public_key())] == ["ed25519", "p256"]
