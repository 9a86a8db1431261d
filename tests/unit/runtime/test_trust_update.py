"""Trust documents: each is the next, signed by the roots before it and by its own; anything else is refused."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import replace

import pytest

from bundlekit import ed25519, make, p256, seed, trust
from edgepack_runtime.container import Container, Signature, assemble_front
from edgepack_runtime.device import load_trust
from edgepack_runtime.errors import (
    BundleError,
    FormatError,
    IncompatibleError,
    RollbackError,
    SchemaError,
    SignatureError,
)
from edgepack_runtime.signing import PAYLOAD_TYPE, TRUST_PAYLOAD_TYPE, key_id, sign
from edgepack_runtime.trust_file import read_trust, update_trust
from edgepack_runtime.trust_update import (
    MAX_TRUST_BYTES,
    FloorReset,
    TrustDocument,
    TrustState,
    apply_update,
    provision,
    trust_container,
)

A, B, C = (ed25519(f"root {name}") for name in "abc")
D = p256("root d")
RELEASE = ed25519("release")
FIRST = TrustDocument(version=1, created=1_750_000_000, root=trust(A, B, C, threshold=2), release=trust(RELEASE))


def file_of(document: TrustDocument | bytes, *signers, payload_type: bytes = TRUST_PAYLOAD_TYPE) -> bytes:
    signed = document if isinstance(document, bytes) else document.pack()
    return assemble_front(signed, [sign(key, signed, payload_type) for key in signers], (), 0)


def container(document: TrustDocument | bytes, *signers) -> Container:
    return trust_container(file_of(document, *signers))


def after(document: TrustDocument = FIRST, **changes: object) -> TrustDocument:
    return replace(document, **{"version": document.version + 1, **changes})


@pytest.fixture
def state() -> TrustState:
    return provision(container(FIRST, A, B))


# What an update may be.


def test_the_next_version_by_enough_roots_is_taken(state) -> None:
    second = after(release=trust(ed25519("release 2")))
    assert apply_update(state, container(second, A, C)).document == second


def test_a_document_reads_back_as_it_was_written() -> None:
    full = replace(
        FIRST,
        release=replace(
            trust(RELEASE, p256(), threshold=2),
            revoked_keys=frozenset({seed("k1"), seed("k2")}),
            revoked_bundles=frozenset({seed("b", 16)}),
        ),
        floors=(FloorReset(product="digits", security_version=3),),
    )
    assert TrustDocument.parse(full.pack()) == full


def test_roots_rotate_when_old_and_new_ones_sign(state) -> None:
    second = after(root=trust(C, D, threshold=2))
    assert apply_update(state, container(second, A, C, D)).document.root.by_id().keys() == second.root.by_id().keys()


def test_after_a_rotation_the_old_roots_decide_nothing(state) -> None:
    rotated = apply_update(state, container(after(root=trust(C, D, threshold=2)), A, C, D))
    with pytest.raises(SignatureError, match="signed by 0 trusted keys, wanted 2"):
        apply_update(rotated, container(after(rotated.document), A, B))


def test_the_new_roots_alone_cannot_take_over(state) -> None:
    with pytest.raises(SignatureError, match="signed by 1 trusted keys, wanted 2"):
        apply_update(state, container(after(root=trust(C, D, threshold=2)), C, D))


def test_the_old_roots_alone_cannot_name_roots_that_do_not_agree(state) -> None:
    with pytest.raises(SignatureError, match="signed by 0 trusted keys, wanted 2"):
        apply_update(state, container(after(root=trust(D, ed25519("root e"), threshold=2)), A, B))


def test_a_threshold_that_rises_holds_for_the_update_that_raises_it(state) -> None:
    raised = after(root=trust(A, B, C, threshold=3))
    with pytest.raises(SignatureError, match="signed by 2 trusted keys, wanted 3"):
        apply_update(state, container(raised, A, B))


def test_a_threshold_that_falls_holds_only_from_the_next_update_on(state) -> None:
    with pytest.raises(SignatureError, match="signed by 1 trusted keys, wanted 2"):
        apply_update(state, container(after(root=trust(A, B, C, threshold=1)), A))


def test_one_root_is_not_two(state) -> None:
    signature = sign(A, after().pack(), TRUST_PAYLOAD_TYPE)
    with pytest.raises(FormatError, match="not strictly ascending"):
        assemble_front(after().pack(), [signature, signature], (), 0)


def test_a_signature_under_another_roots_id_is_not_two(state) -> None:
    signed = after().pack()
    mine = sign(A, signed, TRUST_PAYLOAD_TYPE)
    borrowed = Signature(key_id=key_id(B.public_key()), value=mine.value)
    with pytest.raises(SignatureError, match="is wrong"):
        apply_update(state, trust_container(assemble_front(signed, [mine, borrowed], (), 0)))


@pytest.mark.parametrize("version", [3, 4, 2**53 - 1])
def test_a_version_that_skips_one_is_refused(state, version: int) -> None:
    with pytest.raises(IncompatibleError, match=f"version {version}, this device has version 1 and takes 2 next"):
        apply_update(state, container(after(version=version), A, B))


def test_the_version_in_force_is_not_applied_again(state) -> None:
    with pytest.raises(RollbackError, match="version 1, this device has version 1"):
        apply_update(state, container(FIRST, A, B))


def test_an_old_document_is_refused_when_it_is_offered_again(state) -> None:
    second = container(after(), A, B)
    third = apply_update(apply_update(state, second), container(after(after()), A, B))
    with pytest.raises(RollbackError, match="version 2, this device has version 3"):
        apply_update(third, second)


def test_a_release_key_cannot_change_whom_devices_trust(state) -> None:
    with pytest.raises(SignatureError, match="signed by 0 trusted keys"):
        apply_update(state, container(after(), RELEASE))


def test_a_root_signature_over_the_bytes_as_a_bundle_does_not_count(state) -> None:
    with pytest.raises(SignatureError, match="is wrong"):
        apply_update(state, trust_container(file_of(after(), A, B, payload_type=PAYLOAD_TYPE)))


def test_a_model_bundle_is_no_trust_document() -> None:
    with pytest.raises(FormatError, match="it has a payload or grants"):
        trust_container(make().file())


def test_a_document_that_its_own_roots_have_not_signed_is_not_provisioned() -> None:
    with pytest.raises(SignatureError, match="signed by 1 trusted keys, wanted 2"):
        provision(container(FIRST, A))


def test_only_this_module_makes_a_state() -> None:
    with pytest.raises(TypeError, match="only provision"):
        TrustState(document=FIRST)


def test_every_flipped_bit_of_an_update_is_refused(state) -> None:
    data = file_of(after(), A, B)
    accepted = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            apply_update(state, trust_container(bytes(flipped)))
        except BundleError:
            continue
        accepted.append(bit)
    assert accepted == []


def test_every_truncation_of_an_update_is_refused(state) -> None:
    data = file_of(after(), A, B)
    for size in range(len(data)):
        with pytest.raises(FormatError):
            trust_container(data[:size])


def test_a_document_as_full_of_keys_as_may_be_is_read_at_once() -> None:
    keys = [ed25519(f"many {i}") for i in range(2000)]
    full = replace(FIRST, root=trust(*keys[:1000]), release=trust(*keys[1000:]))
    signed = full.pack()
    start = time.process_time()
    assert (TrustDocument.parse(signed), len(signed) < MAX_TRUST_BYTES) == (full, True)
    # Comparing each root key with a list made anew took 10 seconds.
    assert time.process_time() - start < 2


# What a document may say.


@pytest.mark.parametrize(("change", "complaint"), [
    ({"version": 0}, "version 0 is not from 1"),
    ({"version": 2**53}, "is not from 1 to"),
    ({"release": trust(A)}, "is a root key and a release key"),
    ({"floors": (FloorReset(product="../x", security_version=1),)}, "no floor"),
    ({"floors": (FloorReset(product="x", security_version=-1),)}, "no floor"),
    ({"floors": (FloorReset(product="x", security_version=2**53),)}, "no floor"),
    ({"floors": (FloorReset(product="x", security_version=1),) * 2}, "set twice"),
    ({"release": replace(trust(RELEASE), revoked_keys=frozenset({key_id(A.public_key())}))}, "trusted and revoked"),
    ({"release": replace(trust(RELEASE), revoked_bundles=frozenset({b"short"}))}, "revoked id of 5 bytes"),
    ({"root": trust(*(ed25519(str(i)) for i in range(9)), threshold=9)}, "at most 8 can be met"),
])  # fmt: skip
def test_a_document_is_refused_for(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        replace(FIRST, **change)


def test_the_largest_figures_fit() -> None:
    widest = replace(
        FIRST,
        version=2**53 - 1,
        created=2**64 - 1,
        root=trust(*(ed25519(str(i)) for i in range(9)), threshold=8),
        floors=(FloorReset(product="a", security_version=0), FloorReset(product="b", security_version=2**53 - 1)),
    )
    assert TrustDocument.parse(widest.pack()) == widest


@pytest.mark.parametrize("created", [-1, 2**64])
def test_a_time_that_does_not_fit_is_refused(created: int) -> None:
    with pytest.raises(FormatError, match="does not fit"):
        replace(FIRST, created=created).pack()


def test_a_document_with_a_payload_alone_is_refused() -> None:
    signed = FIRST.pack()
    data = assemble_front(signed, [sign(A, signed, TRUST_PAYLOAD_TYPE)], (), 1) + b"x"
    with pytest.raises(FormatError, match="it has a payload or grants"):
        trust_container(data)


def test_a_document_with_a_grant_alone_is_refused() -> None:
    signed = FIRST.pack()
    data = assemble_front(signed, [sign(A, signed, TRUST_PAYLOAD_TYPE)], make().grants, 0)
    with pytest.raises(FormatError, match="it has a payload or grants"):
        trust_container(data)


def edited(**changes: object) -> bytes:
    """Return the signed region of the next document, its JSON changed."""
    signed = after().pack()
    text = json.dumps(json.loads(signed[56:]) | changes).encode()
    return signed[:48] + struct.pack("<II", len(text), 0) + text


ROLE = json.loads(FIRST.pack()[56:])["root"]


@pytest.mark.parametrize(("signed", "complaint"), [
    (edited(root=ROLE | {"threshold": 0}), "threshold 0"),
    (edited(release=ROLE | {"threshold": 0}), "threshold 0"),
    (edited(release=ROLE | {"threshold": -1}), "threshold -1"),
    (edited(release=ROLE | {"threshold": True}), "threshold: expected int"),
    (edited(root=ROLE | {"keys": ROLE["keys"][:1] * 3}), "listed twice"),
    (edited(release=ROLE), "is a root key and a release key"),
    (edited(revoked_keys=[ROLE["keys"][0]["name"]]), "a revoked id of 8 bytes"),
    (edited(revoked_keys=["AA" * 32]), "expected ids in hex"),
    (edited(revoked_keys=["aa" * 32, "aa" * 32]), "each once"),
    (edited(revoked_bundles=[1]), "expected text"),
    (edited(extra=1), "extra: unknown field"),
    (edited(schema=2), "schema: version 2"),
    (edited(floors=[{"product": "x"}]), "security_version: missing"),
    (edited(floors=[{"product": "x", "security_version": 1, "for": "ever"}]), "for: unknown field"),
    (after().pack()[:48] + bytes(8), "not valid JSON"),
    (after().pack() + b" ", "its length makes"),
    (after().pack()[:40], "wanted at least 56"),
    (after().pack()[:32] + b"\1" + after().pack()[33:], "a reserved field is not 0"),
    (after().pack()[:14] + b"\1" + after().pack()[15:], "a reserved field is not 0"),
    (after().pack()[:40] + b"\1" + after().pack()[41:], "a reserved field is not 0"),
    (after().pack()[:52] + b"\1" + after().pack()[53:], "a reserved field is not 0"),
])  # fmt: skip
def test_a_signed_document_is_refused_for(state, signed: bytes, complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        apply_update(state, container(signed, A, B))


@pytest.mark.parametrize(("at", "complaint"), [(0, "format 2.0"), (4, "critical flags 0x1"), (12, "role 33")])
def test_a_document_of_another_kind_is_refused(state, at: int, complaint: str) -> None:
    signed = bytearray(after().pack())
    signed[at] += 1
    with pytest.raises(IncompatibleError, match=complaint):
        apply_update(state, container(bytes(signed), A, B))


def test_a_minor_version_and_flags_are_passed_over(state) -> None:
    signed = bytearray(after().pack())
    signed[2], signed[8] = 7, 1
    assert apply_update(state, container(bytes(signed), A, B)).document == after()


def test_a_file_longer_than_allowed_is_refused() -> None:
    with pytest.raises(FormatError, match="at most 262144"):
        trust_container(bytes(MAX_TRUST_BYTES + 1))


def test_a_file_as_long_as_allowed_is_looked_at() -> None:
    with pytest.raises(FormatError, match="wrong magic"):
        trust_container(bytes(MAX_TRUST_BYTES))


# On a device's disk.


def test_updates_are_applied_in_their_order_whatever_order_they_are_named_in(tmp_path) -> None:
    paths = {name: tmp_path / name for name in ("trust", "2", "3")}
    paths["trust"].write_bytes(file_of(FIRST, A, B))
    paths["2"].write_bytes(file_of(after(), A, B))
    paths["3"].write_bytes(file_of(after(after()), B, C))
    assert update_trust(paths["trust"], [paths["3"], paths["2"]]).document.version == 3
    assert paths["trust"].read_bytes() == paths["3"].read_bytes()


def test_what_was_refused_is_not_what_is_believed_next_time(tmp_path) -> None:
    paths = {name: tmp_path / name for name in ("trust", "2", "3")}
    paths["trust"].write_bytes(file_of(FIRST, A, B))
    paths["2"].write_bytes(file_of(after(), A, B))
    paths["3"].write_bytes(file_of(after(after()), RELEASE))
    with pytest.raises(SignatureError):
        update_trust(paths["trust"], [paths["2"], paths["3"]])
    assert read_trust(paths["trust"]).document == FIRST


def test_a_device_takes_its_release_keys_from_a_trust_document(tmp_path) -> None:
    (tmp_path / "trust").write_bytes(file_of(FIRST, A, B))
    assert load_trust(tmp_path / "trust") == FIRST.release


def test_a_device_takes_no_draft(tmp_path) -> None:
    (tmp_path / "trust").write_bytes(file_of(FIRST, A))
    with pytest.raises(SignatureError):
        load_trust(tmp_path / "trust")


def test_a_plain_trust_file_takes_no_updates(tmp_path) -> None:
    (tmp_path / "trust").write_text(json.dumps(trust().to_json()))
    (tmp_path / "2").write_bytes(file_of(after(), A, B))
    with pytest.raises(IncompatibleError, match="plain trust file"):
        update_trust(tmp_path / "trust", [tmp_path / "2"])
