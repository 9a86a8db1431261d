"""Grants: each kind opens for its key and its bundle, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from bundlekit import ed25519, p256, rsa3072, seed, x25519
from edgepack_runtime.container import GRANT_SIZES, Grant
from edgepack_runtime.errors import GrantError, KeyFileError
from edgepack_runtime.grants import DeviceKey, GrantKind, grant_kind, open_grant, seal
from edgepack_runtime.signing import key_id

KEY, SIGNED = seed("content key"), b"a signed region"
DEVICES: dict[str, Callable[[str], DeviceKey]] = {"x25519": x25519, "p256": p256, "rsa": rsa3072}


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> DeviceKey:
    return DEVICES[request.param]("device")


def test_a_grant_opens_for_its_key(device: DeviceKey) -> None:
    assert open_grant(device, [seal(device.public_key(), KEY, SIGNED)], SIGNED) == KEY


def test_a_grant_has_the_size_the_format_says(device: DeviceKey) -> None:
    grant = seal(device.public_key(), KEY, SIGNED)
    assert len(grant.sealed) == GRANT_SIZES[grant.kind]


def test_a_grant_is_found_among_others(device: DeviceKey) -> None:
    mine = seal(device.public_key(), KEY, SIGNED)
    others = [seal(make("someone else").public_key(), KEY, SIGNED) for make in DEVICES.values()]
    assert open_grant(device, [*others, mine], SIGNED) == KEY


def test_a_grant_of_another_bundle_does_not_open(device: DeviceKey) -> None:
    with pytest.raises(GrantError, match="does not open"):
        open_grant(device, [seal(device.public_key(), KEY, SIGNED)], SIGNED + b"!")


def test_no_grant_for_this_key_is_said(device: DeviceKey) -> None:
    with pytest.raises(GrantError, match="has no grant for this device's key"):
        open_grant(device, [seal(x25519("someone else").public_key(), KEY, SIGNED)], SIGNED)


def test_a_grant_that_names_this_key_but_was_sealed_for_another_does_not_open(device: DeviceKey) -> None:
    others = {GrantKind.HPKE_X25519: x25519, GrantKind.HPKE_P256: p256, GrantKind.RSA_OAEP_3072: rsa3072}
    other = others[grant_kind(device.public_key())]("someone else")
    stolen = replace(seal(other.public_key(), KEY, SIGNED), key_id=key_id(device.public_key()))
    with pytest.raises(GrantError, match="does not open"):
        open_grant(device, [stolen], SIGNED)


@pytest.mark.parametrize("step", [1, 2])
def test_a_grant_of_another_kind_than_the_keys_is_refused(device: DeviceKey, step: int) -> None:
    grant = seal(device.public_key(), KEY, SIGNED)
    kind = (grant.kind - 1 + step) % 3 + 1
    with pytest.raises(GrantError, match=f"of kind {kind}"):
        open_grant(device, [replace(grant, kind=kind)], SIGNED)


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_a_grant_of_an_unknown_kind_is_as_if_it_were_not_there(device: DeviceKey, kind: int) -> None:
    grant = seal(device.public_key(), KEY, SIGNED)
    with pytest.raises(GrantError, match="has no grant for this device's key"):
        open_grant(device, [replace(grant, kind=kind)], SIGNED)
    assert open_grant(device, [replace(grant, kind=kind), grant], SIGNED) == KEY


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_content_key_of_another_length_is_never_sealed(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        seal(x25519().public_key(), bytes(size), SIGNED)


def test_a_sealed_key_of_another_length_is_refused() -> None:
    # Only RSA-OAEP can carry one in a grant of the right size; the sealer is somebody else's program.
    from edgepack_runtime.grants import _oaep

    device = rsa3072()
    sealed = device.public_key().encrypt(bytes(31), _oaep(SIGNED))
    grant = Grant(kind=GrantKind.RSA_OAEP_3072, key_id=key_id(device.public_key()), sealed=sealed)
    with pytest.raises(GrantError, match="31 bytes"):
        open_grant(device, [grant], SIGNED)


@pytest.mark.parametrize("sealed", [b"", bytes(80), bytes(113), b"\x04" + bytes(112), b"\xff" * 384, bytes(1)])
def test_any_bytes_for_a_grant_give_a_grant_error(device: DeviceKey, sealed: bytes) -> None:
    grant = replace(seal(device.public_key(), KEY, SIGNED), sealed=sealed)
    with pytest.raises(GrantError, match="does not open"):
        open_grant(device, [grant], SIGNED)


def wrong_keys() -> dict[str, object]:
    return {
        "a signing key": ed25519(),
        "another curve": derive_private_key(int.from_bytes(seed("p384"), "big"), SECP384R1()),
        "a short RSA key": generate_private_key(65537, 2048),
    }


@pytest.mark.parametrize("what", wrong_keys())
def test_other_keys_cannot_receive_bundles(what: str) -> None:
    with pytest.raises(KeyFileError, match="cannot receive bundles"):
        seal(wrong_keys()[what].public_key(), KEY, SIGNED)  # type: ignore[attr-defined]


def test_a_grants_repr_does_not_show_what_it_holds() -> None:
    grant = seal(x25519().public_key(), KEY, SIGNED)
    assert repr(grant.sealed) not in repr(grant)
