"""From bytes to an opened bundle: each step of docs/bundle-format.md has a test that it refuses what it must."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bundlekit import (
    ENTRIES,
    HEADER,
    MODEL,
    POLICY,
    Recipe,
    check,
    ed25519,
    make,
    open_all,
    p256,
    read,
    rsa3072,
    seed,
    sign_again,
    stored_entries,
    trust,
    x25519,
)
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.errors import (
    ExpiredError,
    FormatError,
    GrantError,
    IncompatibleError,
    KeyFileError,
    PayloadError,
    RollbackError,
    SignatureError,
)
from edgepack_runtime.table import EntryRole, write_signed
from edgepack_runtime.verify import UnlockedBundle, VerifiedBundle

PLAINTEXTS = {name: data for name, _, data in ENTRIES}
PLAIN = replace(HEADER, suite=PayloadSuite.PLAIN)
SIGNERS = {"ed25519": ed25519, "p256": p256}
DEVICES = {"x25519": x25519, "p256": p256, "rsa": rsa3072}


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_bundle_opens_to_what_went_in(signer: str, device: str) -> None:
    key, recipient = SIGNERS[signer](), DEVICES[device]("device")
    data = make(signers=(key,), recipients=(recipient,)).file()
    assert open_all(data, key=recipient, trusted=trust(key)) == PLAINTEXTS


def test_a_bundle_in_clear_opens_without_a_key() -> None:
    data = make(header=PLAIN, recipients=()).file()
    with check(data).unlock(None) as unlocked:
        into = bytearray(len(MODEL))
        unlocked.read_entry("model.tflite", lambda at, size: data[at : at + size], memoryview(into))
    assert into == MODEL


def test_every_recipient_opens_the_same_bundle() -> None:
    devices = [x25519("a"), x25519("b"), p256("c"), rsa3072()]
    data = make(recipients=tuple(devices)).file()
    assert all(open_all(data, key=device) == PLAINTEXTS for device in devices)


def test_a_bundle_of_several_segments_opens() -> None:
    model = seed("large", 2 * 1024 * 1024 + 3)
    data = make(entries=(("model.tflite", EntryRole.MODEL, model),)).file()
    assert open_all(data) == {"model.tflite": model}


def test_a_verified_bundle_says_what_it_is() -> None:
    bundle = check(make().file())
    assert (bundle.header, bundle.manifest, bundle.signers) == (HEADER, b'{"schema":1}', (trust().keys[0].key_id,))


def test_entries_are_found_by_role() -> None:
    assert [e.name for e in check(make().file()).entries_of(EntryRole.MODEL)] == ["model.tflite"]


# --- step 6: signatures ------------------------------------------------------------------------------------------


def test_a_stranger_s_signature_is_refused() -> None:
    with pytest.raises(SignatureError, match="by 0 trusted keys"):
        check(make(signers=(ed25519("stranger"),)).file())


def test_two_of_three_keys_open_a_bundle() -> None:
    keys = (ed25519("a"), p256("b"), ed25519("c"))
    assert len(check(make(signers=keys[:2]).file(), trusted=trust(*keys, threshold=2)).signers) == 2


def test_one_of_three_keys_does_not() -> None:
    keys = (ed25519("a"), p256("b"), ed25519("c"))
    with pytest.raises(SignatureError, match="by 1 trusted keys, wanted 2"):
        check(make(signers=keys[:1]).file(), trusted=trust(*keys, threshold=2))


def test_the_signature_of_another_bundle_is_refused() -> None:
    other = make(manifest=b"{}")
    with pytest.raises(SignatureError, match="is wrong"):
        check(replace(make(), signatures=other.signatures).file())


def test_the_signature_is_checked_before_anything_signed_is_read() -> None:
    garbage = sign_again(Recipe(signers=(ed25519("stranger"),)), b"\xff" * 300, b"")
    with pytest.raises(SignatureError):
        check(garbage.file())


# --- steps 7 and 8: the signed region ----------------------------------------------------------------------------


def test_a_signed_region_that_is_garbage_is_refused() -> None:
    with pytest.raises(FormatError):
        check(sign_again(Recipe(), b"\x01\0\0\0" + bytes(200), b"").file())


def test_a_payload_that_was_extended_is_refused() -> None:
    parts = make()
    with pytest.raises(FormatError, match="were signed"):
        check(replace(parts, payload=parts.payload + b"\0").file())


def test_a_payload_that_was_cut_is_refused() -> None:
    parts = make()
    with pytest.raises(FormatError, match="were signed"):
        check(replace(parts, payload=parts.payload[:-1]).file())


# --- steps 9 to 11: policy ---------------------------------------------------------------------------------------


def test_a_bundle_for_another_profile_is_refused() -> None:
    with pytest.raises(
        IncompatibleError, match="built for profile 'raspberry-pi-4', this device is 'raspberry-pi-5'"
    ):
        check(make().file(), policy=replace(POLICY, profile="raspberry-pi-5"))


def test_a_tool_that_only_inspects_accepts_any_profile() -> None:
    assert check(make().file(), policy=replace(POLICY, profile=None)).header == HEADER


def test_an_older_security_version_is_refused() -> None:
    with pytest.raises(RollbackError, match="security version 7 is lower than 8"):
        check(make().file(), policy=replace(POLICY, accepted={HEADER.product: 8}))


@pytest.mark.parametrize("accepted", [0, 6, 7])
def test_the_same_or_a_newer_security_version_is_accepted(accepted: int) -> None:
    assert (
        check(make().file(), policy=replace(POLICY, accepted={HEADER.product: accepted})).header.security_version == 7
    )


@pytest.mark.parametrize("late", [0, 1, 2**40])
def test_an_expired_bundle_is_not_installed(late: int) -> None:
    with pytest.raises(ExpiredError, match=f"expired at {HEADER.expires}"):
        check(make().file(), policy=replace(POLICY, now=HEADER.expires + late))


@pytest.mark.parametrize("now", [None, HEADER.expires - 1])
def test_a_bundle_runs_before_it_expires_or_when_nobody_installs(now: int | None) -> None:
    assert check(make().file(), policy=replace(POLICY, now=now)).header.expires == HEADER.expires


def test_a_bundle_without_expiry_is_installed_at_any_time() -> None:
    data = make(header=replace(HEADER, expires=0)).file()
    assert check(data, policy=replace(POLICY, now=2**62)).header.expires == 0


# --- step 12: grants ---------------------------------------------------------------------------------------------


def test_another_device_cannot_open_it() -> None:
    with pytest.raises(GrantError, match="has no grant"):
        open_all(make().file(), key=x25519("another"))


def test_an_encrypted_bundle_needs_a_key() -> None:
    with pytest.raises(GrantError, match="this device has no key"):
        check(make().file()).unlock(None)


def test_a_grant_moved_from_another_bundle_does_not_open() -> None:
    other = make(header=replace(HEADER, bundle_id=seed("other", 16)))
    with pytest.raises(GrantError, match="does not open"):
        open_all(replace(make(), grants=other.grants).file())


def test_a_grant_of_another_content_key_is_caught_by_the_commitment() -> None:
    parts = make()
    forged = sign_again(Recipe(content_key=seed("another key")), parts.signed, parts.payload)
    with pytest.raises(PayloadError, match="commitment"):
        open_all(replace(parts, grants=forged.grants).file())


def test_a_signing_key_opens_nothing() -> None:
    with pytest.raises(KeyFileError, match="cannot receive bundles"):
        check(make().file()).unlock(ed25519())  # type: ignore[arg-type]


# --- steps 13 to 16: the payload ---------------------------------------------------------------------------------


def test_the_ciphertexts_of_two_entries_cannot_change_places() -> None:
    # Even the publisher's key cannot: entries of one length, exchanged and signed again.
    recipe = Recipe(entries=(("a", EntryRole.MODEL, seed("a", 99)), ("b", EntryRole.MODEL, seed("b", 99))))
    a, b = stored_entries(recipe)
    swapped = [replace(a, stored=b.stored), replace(b, stored=a.stored)]
    data = sign_again(recipe, write_signed(recipe.header, swapped, b""), b.stored + a.stored).file()
    with pytest.raises(PayloadError, match="commitment"):
        open_all(data)


def test_entries_exchanged_in_the_payload_alone_are_refused() -> None:
    recipe = Recipe(entries=(("a", EntryRole.MODEL, seed("a", 99)), ("b", EntryRole.MODEL, seed("b", 99))))
    parts = make(recipe)
    half = len(parts.payload) // 2
    with pytest.raises(PayloadError, match="not the one that was signed"):
        open_all(replace(parts, payload=parts.payload[half:] + parts.payload[:half]).file())


def test_segments_cannot_change_places() -> None:
    model = seed("large", 3 * 1024 * 1024)
    parts = make(entries=(("model.tflite", EntryRole.MODEL, model),))
    first, second = parts.payload[56 : 56 + 1049600], parts.payload[56 + 1049600 : 56 + 2 * 1049600]
    swapped = parts.payload[:56] + second + first + parts.payload[56 + 2 * 1049600 :]
    with pytest.raises(PayloadError, match="segment 0 of 4"):
        open_all(replace(parts, payload=swapped).file())


def test_a_fleet_member_who_knows_the_content_key_cannot_change_the_model() -> None:
    recipe = Recipe()
    forged = make(
        replace(recipe, entries=(*ENTRIES[:2], ("model.tflite", EntryRole.MODEL, seed("evil", len(MODEL)))))
    )
    genuine = make(recipe)
    with pytest.raises(PayloadError, match="not the one that was signed"):
        open_all(replace(genuine, payload=forged.payload).file(), names=["model.tflite"])


@pytest.mark.parametrize("header", [HEADER, PLAIN], ids=["encrypted", "in clear"])
def test_a_failed_read_leaves_zeros(header: object) -> None:
    data = bytearray(make(header=header).file())
    data[-1] ^= 1
    into, error = read(check(bytes(data)), bytes(data), "model.tflite", x25519())
    assert (type(error), any(into)) == (PayloadError, False)


def test_a_file_that_shrinks_after_it_was_verified_is_refused() -> None:
    data = make().file()
    into, error = read(check(data), data[:-1], "model.tflite", x25519())
    assert (type(error), any(into)) == (PayloadError, False)


def test_an_entry_that_is_not_there_is_named() -> None:
    with pytest.raises(FormatError, match=r"no entry 'other', only golden\.bin, labels\.txt, model\.tflite"):
        check(make().file()).entry("other")


def wrong_buffers() -> dict[str, memoryview]:
    return {
        "too short": memoryview(bytearray(len(MODEL) - 1)),
        "too long": memoryview(bytearray(len(MODEL) + 1)),
        "read only": memoryview(bytes(len(MODEL))),
        "of other items": memoryview(bytearray(len(MODEL))).cast("H"),
        "with gaps": memoryview(bytearray(2 * len(MODEL)))[::2],
    }


@pytest.mark.parametrize("what", wrong_buffers())
def test_a_wrong_buffer_is_an_error(what: str) -> None:
    data = make().file()
    with check(data).unlock(x25519()) as unlocked, pytest.raises(ValueError, match="writable bytes"):
        unlocked.read_entry("model.tflite", lambda at, size: data[at : at + size], wrong_buffers()[what])


# --- what the types promise --------------------------------------------------------------------------------------


def test_nobody_else_makes_a_verified_bundle() -> None:
    bundle = check(make().file())
    with pytest.raises(TypeError, match="only verify"):
        VerifiedBundle(container=bundle.container, table=bundle.table, signers=(), made_by=None)


def test_a_verified_bundle_cannot_be_altered() -> None:
    bundle = check(make().file())
    with pytest.raises((TypeError, ValueError)):
        replace(bundle, table=check(make(manifest=b"{}").file()).table)


def test_nobody_else_makes_an_unlocked_bundle() -> None:
    with pytest.raises(TypeError, match="only VerifiedBundle"):
        UnlockedBundle(bundle=check(make().file()), content_key=bytearray(32), made_by=None)


def test_no_repr_shows_the_key() -> None:
    with check(make().file()).unlock(x25519()) as unlocked:
        shown = repr(unlocked)
    key = seed("content key")
    assert not any(secret in shown for secret in (key.hex(), repr(key)[2:-1], repr(bytearray(key))))


def test_closing_forgets_the_key() -> None:
    unlocked = check(make().file()).unlock(x25519())
    held = bytes(unlocked.content_key)
    unlocked.close()
    assert (held, bytes(unlocked.content_key)) == (seed("content key"), b"")


def test_closing_wipes_the_key_before_it_forgets_it() -> None:
    unlocked = check(make().file()).unlock(x25519())
    # Somebody who looks at the memory; a bytearray that is looked at refuses to shrink.
    with memoryview(unlocked.content_key), pytest.raises(BufferError):
        unlocked.close()
    assert not any(unlocked.content_key)


def test_a_closed_bundle_cannot_be_read() -> None:
    data = make().file()
    unlocked = check(data).unlock(x25519())
    unlocked.close()
    with pytest.raises(ValueError, match="closed"):
        unlocked.read_entry("model.tflite", lambda at, size: data[at : at + size], memoryview(bytearray(len(MODEL))))


def test_the_preamble_is_bound_although_it_is_not_signed() -> None:
    data = make().file()
    signed, signatures = struct.unpack_from("<II", data, 8)
    moved = data[:8] + struct.pack("<II", signed - 1, signatures + 1) + data[16:]
    with pytest.raises((FormatError, SignatureError)):
        check(moved)
