"""Further signatures and grants on a finished bundle: what is signed and the payload stay byte for byte."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bundlekit import HEADER, MODEL, check, container, ed25519, make, open_all, p256, rsa3072, seed, trust, x25519
from edgepack.amend import Granted, GrantOrder, add_grants, add_signature, list_grants, remove_grants
from edgepack.errors import RecipeError
from edgepack.recipients import Recipient, read_recipient
from edgepack.signers.file import FileSigner
from edgepack_runtime._files import write_whole
from edgepack_runtime.container import pack_grants, parse_grants
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.enrolment import Enrolment
from edgepack_runtime.errors import (
    FileError,
    FormatError,
    GrantError,
    KeyFileError,
    PayloadError,
    RevokedError,
    SignatureError,
)
from edgepack_runtime.grants import seal
from edgepack_runtime.signing import key_id
from edgepack_runtime.trust import TrustedKeys

DEVICES = {"x25519": lambda: x25519("new"), "p256": lambda: p256("new"), "rsa": rsa3072}


def recipient(key, profile: str | None = None) -> Recipient:
    return Recipient(name="new", public_key=key.public_key(), profile=profile)


def order(path: Path, *keys, **changes: object) -> GrantOrder:
    recipients = tuple(recipient(key) for key in keys)
    return replace(GrantOrder(bundle=path, trust=trust(), opener=x25519(), recipients=recipients), **changes)


@pytest.fixture
def bundle(tmp_path) -> Path:
    path = tmp_path / "digits.edgepack"
    path.write_bytes(make().file())
    return path


def payload(data: bytes) -> bytes:
    return data[container(data).preamble.front_length :]


# Signatures.


@pytest.mark.parametrize("second", [ed25519("second"), p256("second")], ids=["ed25519", "p256"])
def test_a_second_signature_satisfies_a_threshold_of_two(bundle: Path, second) -> None:
    both = trust(ed25519(), second, threshold=2)
    with pytest.raises(SignatureError, match="signed by 1 trusted keys, wanted 2"):
        open_all(bundle.read_bytes(), trusted=both)
    add_signature(bundle, FileSigner(private_key=second), trust())
    assert open_all(bundle.read_bytes(), trusted=both)["model.tflite"] == MODEL


def test_a_further_signature_changes_neither_the_signed_region_nor_grants_nor_payload(bundle: Path) -> None:
    before = bundle.read_bytes()
    add_signature(bundle, FileSigner(private_key=ed25519("second")), trust())
    after = bundle.read_bytes()
    assert container(after).signed == container(before).signed
    assert container(after).grants == container(before).grants
    assert payload(after) == payload(before)


def test_one_key_signs_once(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(RecipeError, match="has signed it already"):
        add_signature(bundle, FileSigner(private_key=ed25519()), trust())
    assert bundle.read_bytes() == before


def test_what_no_trusted_key_has_signed_is_not_signed(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(SignatureError, match="signed by 0 trusted keys"):
        add_signature(bundle, FileSigner(private_key=ed25519("second")), trust(ed25519("somebody")))
    assert bundle.read_bytes() == before


def test_a_revoked_key_does_not_sign_again(bundle: Path) -> None:
    before = bundle.read_bytes()
    revoked = replace(trust(), revoked_keys=frozenset({key_id(ed25519("second").public_key())}))
    with pytest.raises(RevokedError, match="no device would count its signature"):
        add_signature(bundle, FileSigner(private_key=ed25519("second")), revoked)
    assert bundle.read_bytes() == before


def test_one_of_several_trusted_keys_is_enough_to_sign_next(bundle: Path) -> None:
    second = ed25519("second")
    done = add_signature(bundle, FileSigner(private_key=second), trust(ed25519(), second, threshold=2))
    assert done.signers == tuple(sorted((key_id(ed25519().public_key()), key_id(second.public_key()))))


def test_the_bundles_mode_stays(bundle: Path) -> None:
    bundle.chmod(0o640)
    add_signature(bundle, FileSigner(private_key=ed25519("second")), trust())
    assert bundle.stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_leaves_the_bundle_as_it_was(bundle: Path) -> None:
    def pieces():
        yield b"half"
        raise FileError("the source became shorter")

    before = bundle.read_bytes()
    with pytest.raises(FileError, match="became shorter"):
        write_whole(bundle, pieces())
    assert (bundle.read_bytes(), list(bundle.parent.iterdir())) == (before, [bundle])


def test_a_bundle_that_becomes_shorter_while_it_is_copied_is_left_as_it_is(bundle: Path) -> None:
    class Interfering(FileSigner):
        def sign(self, *arguments):
            os.truncate(bundle, bundle.stat().st_size - 100)
            return super().sign(*arguments)

    before = bundle.read_bytes()
    with pytest.raises(FileError, match="became shorter while it was copied"):
        add_signature(bundle, Interfering(private_key=ed25519("second")), trust())
    assert bundle.read_bytes() == before[:-100]


# Grants.


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_that_was_added_opens_the_bundle(bundle: Path, kind: str) -> None:
    key = DEVICES[kind]()
    add_grants(order(bundle, key))
    assert open_all(bundle.read_bytes(), key=key)["model.tflite"] == MODEL


def test_adding_a_device_leaves_signatures_and_payload_byte_for_byte(bundle: Path) -> None:
    before = bundle.read_bytes()
    add_grants(order(bundle, x25519("new")))
    after = bundle.read_bytes()
    assert (container(after).signed, container(after).signatures) == (
        container(before).signed,
        container(before).signatures,
    )
    assert payload(after) == payload(before)


def test_those_who_could_open_it_still_can(bundle: Path) -> None:
    add_grants(order(bundle, x25519("new")))
    assert open_all(bundle.read_bytes(), key=x25519())["model.tflite"] == MODEL


def test_a_device_that_was_added_can_add_the_next(bundle: Path) -> None:
    add_grants(order(bundle, x25519("new")))
    add_grants(order(bundle, p256("third"), opener=x25519("new")))
    assert open_all(bundle.read_bytes(), key=p256("third"))["model.tflite"] == MODEL


def test_a_key_that_cannot_open_the_bundle_adds_nobody(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(GrantError, match="no grant for this device's key"):
        add_grants(order(bundle, x25519("new"), opener=x25519("stranger")))
    assert bundle.read_bytes() == before


def test_a_device_that_is_there_already_changes_nothing(bundle: Path) -> None:
    before = bundle.read_bytes()
    done = add_grants(order(bundle, x25519()))
    assert done == Granted(added=(), present=(recipient(x25519()),), path=None)
    assert bundle.read_bytes() == before


def test_one_device_named_twice_is_added_once(bundle: Path) -> None:
    assert len(add_grants(order(bundle, x25519("new"), x25519("new"))).added) == 1


def test_an_unsigned_bundle_gets_no_grants(bundle: Path) -> None:
    with pytest.raises(SignatureError):
        add_grants(order(bundle, x25519("new"), trust=trust(ed25519("somebody"))))


def test_a_bundle_in_clear_gets_no_grants(bundle: Path) -> None:
    bundle.write_bytes(make(header=replace(HEADER, suite=PayloadSuite.PLAIN), recipients=()).file())
    with pytest.raises(RecipeError, match="is not encrypted"):
        add_grants(order(bundle, x25519("new")))


def test_a_wrong_content_key_is_not_passed_on(bundle: Path) -> None:
    parts = make()
    forged = seal(x25519().public_key(), seed("another content key"), parts.signed)
    bundle.write_bytes(replace(parts, grants=(forged,)).file())
    with pytest.raises(PayloadError):
        add_grants(order(bundle, x25519("new")))


def test_a_revoked_device_is_not_added(bundle: Path) -> None:
    revoked = replace(trust(), revoked_keys=frozenset({key_id(x25519("new").public_key())}))
    with pytest.raises(RevokedError, match="new is revoked"):
        add_grants(order(bundle, x25519("new"), trust=revoked))


def test_a_device_of_another_profile_is_not_added(bundle: Path) -> None:
    wrong = (recipient(x25519("new"), "jetson-orin-nano"),)
    with pytest.raises(RecipeError, match="enrolled as jetson-orin-nano, the bundle is for raspberry-pi-4"):
        add_grants(order(bundle, recipients=wrong))


def test_a_removed_device_opens_the_bundle_no_more(bundle: Path) -> None:
    add_grants(order(bundle, x25519("new")))
    before = bundle.read_bytes()
    remove_grants(bundle, [key_id(x25519("new").public_key())])
    after = bundle.read_bytes()
    with pytest.raises(GrantError):
        open_all(after, key=x25519("new"))
    assert (container(after).signed, payload(after)) == (container(before).signed, payload(before))


def test_removing_who_is_not_there_changes_nothing(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(GrantError, match="no grant for key"):
        remove_grants(bundle, [key_id(x25519().public_key()), key_id(x25519("nobody").public_key())])
    assert bundle.read_bytes() == before


# Sidecars.


def test_a_sidecar_leaves_the_bundle_alone(bundle: Path) -> None:
    before = bundle.read_bytes()
    beside = bundle.with_name("digits.edgepack.grant")
    add_grants(order(bundle, x25519("new"), sidecar=beside))
    assert bundle.read_bytes() == before
    assert [grant.key_id for grant in parse_grants(beside.read_bytes())] == [key_id(x25519("new").public_key())]


def test_the_grant_in_a_sidecar_opens_the_bundle(bundle: Path) -> None:
    beside = bundle.with_name("digits.edgepack.grant")
    add_grants(order(bundle, x25519("new"), sidecar=beside))
    with check(bundle.read_bytes()).unlock(x25519("new"), parse_grants(beside.read_bytes())) as unlocked:
        assert unlocked.content_key == seed("content key")


def test_a_second_device_joins_the_first_in_the_sidecar(bundle: Path) -> None:
    beside = bundle.with_name("digits.edgepack.grant")
    add_grants(order(bundle, x25519("a"), sidecar=beside))
    add_grants(order(bundle, x25519("b"), sidecar=beside))
    assert {row.key_id for row in list_grants(bundle) if row.path == beside} == {
        key_id(x25519(name).public_key()) for name in "ab"
    }


def test_who_is_in_the_sidecar_can_add_the_next(bundle: Path) -> None:
    add_grants(order(bundle, x25519("a"), sidecar=bundle.with_name("digits.edgepack.grant")))
    add_grants(order(bundle, x25519("b"), opener=x25519("a")))
    assert open_all(bundle.read_bytes(), key=x25519("b"))["model.tflite"] == MODEL


def test_a_device_is_removed_from_the_sidecar_too(bundle: Path) -> None:
    beside = bundle.with_name("digits.edgepack.grant")
    add_grants(order(bundle, x25519("new"), sidecar=beside))
    remove_grants(bundle, [key_id(x25519("new").public_key())])
    assert parse_grants(beside.read_bytes()) == ()


def test_a_sidecar_that_is_none_is_named(bundle: Path) -> None:
    beside = bundle.with_name("digits.edgepack.grant")
    beside.write_bytes(pack_grants(())[:1])
    with pytest.raises(FormatError, match=r"digits.edgepack.grant: grants"):
        list_grants(bundle)


# Recipients.


def test_a_public_key_is_a_recipient(tmp_path) -> None:
    (tmp_path / "d.pem").write_bytes(
        x25519().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    found = read_recipient(tmp_path / "d.pem")
    assert (found.key_id, found.profile) == (key_id(x25519().public_key()), None)


def test_an_enrolment_record_is_a_recipient_with_a_profile(tmp_path) -> None:
    enrolment = Enrolment(name="d-7", profile="raspberry-pi-4", public_key=x25519().public_key())
    (tmp_path / "d").write_bytes(enrolment.to_json())
    found = read_recipient(tmp_path / "d")
    assert (found.name, found.key_id, found.profile) == ("d-7", enrolment.key_id, "raspberry-pi-4")


def test_a_file_that_is_neither_is_refused(tmp_path) -> None:
    (tmp_path / "d").write_bytes(b'{"schema": 1}')
    with pytest.raises(KeyFileError, match=r"d.name: missing"):
        read_recipient(tmp_path / "d")


def test_a_store_that_trusts_and_revokes_one_key_cannot_be() -> None:
    from edgepack_runtime.errors import SchemaError

    keys = trust().keys
    with pytest.raises(SchemaError, match="trusted and revoked"):
        TrustedKeys(keys=keys, revoked_keys=frozenset({keys[0].key_id}))
