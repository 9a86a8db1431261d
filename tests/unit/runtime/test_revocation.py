"""Revoked keys and bundles are refused by name; what is signed by others as well still counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundlekit import HEADER, check, ed25519, make, trust
from edgepack_runtime.errors import PolicyError, RevokedError, SignatureError
from edgepack_runtime.signing import key_id

OLD, NEW = ed25519("old"), ed25519("new")


def revoking(*keys, trusted=(NEW,), threshold: int = 1, bundles: frozenset[bytes] = frozenset()):
    ids = frozenset(key_id(key.public_key()) for key in keys)
    return replace(trust(*trusted, threshold=threshold), revoked_keys=ids, revoked_bundles=bundles)


def test_a_bundle_by_a_revoked_key_is_refused_by_name() -> None:
    with pytest.raises(RevokedError, match=key_id(OLD.public_key()).hex()[:16]):
        check(make(signers=(OLD,)).file(), trusted=revoking(OLD))


def test_a_bundle_by_a_key_that_nobody_knows_is_not_called_revoked() -> None:
    with pytest.raises(SignatureError):
        check(make(signers=(ed25519("stranger"),)).file(), trusted=revoking(OLD))


def test_a_revoked_key_does_not_count_towards_the_threshold() -> None:
    other = ed25519("other")
    with pytest.raises(RevokedError):
        check(make(signers=(OLD, NEW)).file(), trusted=revoking(OLD, trusted=(NEW, other), threshold=2))


def test_a_bundle_that_was_signed_again_by_a_trusted_key_is_accepted() -> None:
    bundle = check(make(signers=(OLD, NEW)).file(), trusted=revoking(OLD))
    assert bundle.signers == (key_id(NEW.public_key()),)


def test_a_revoked_bundle_is_refused_whoever_signed_it() -> None:
    with pytest.raises(RevokedError, match=HEADER.bundle_id.hex()):
        check(make(signers=(NEW,)).file(), trusted=revoking(bundles=frozenset({HEADER.bundle_id})))


def test_another_bundle_of_the_product_is_accepted() -> None:
    header = replace(HEADER, bundle_id=bytes(16))
    trusted = revoking(bundles=frozenset({HEADER.bundle_id}))
    assert check(make(signers=(NEW,), header=header).file(), trusted=trusted).header == header


def test_a_revocation_is_a_matter_of_policy() -> None:
    assert issubclass(RevokedError, PolicyError)
