"""Guards that no file can reach: the writer's checks, exact limits, what is wiped. Mutation found them bare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bundlekit import check, make, trust, x25519
from edgepack_runtime import encryption
from edgepack_runtime.container import (
    MAX_SIGNED_LENGTH,
    Grant,
    Signature,
    assemble_front,
    pack_grants,
    pack_signatures,
)
from edgepack_runtime.errors import FormatError, SchemaError

KEY, CONTEXT = bytes(range(32)), b"context"
SIGNATURE = Signature(key_id=bytes(32), value=bytes(64))
GRANT = Grant(kind=1, key_id=bytes(32), sealed=bytes(80))


@pytest.mark.parametrize("signatures", [(), (SIGNATURE, SIGNATURE)], ids=["none", "two by one key"])
def test_signatures_that_no_reader_takes_are_not_written(signatures: tuple[Signature, ...]) -> None:
    with pytest.raises(FormatError):
        pack_signatures(signatures)


@pytest.mark.parametrize(
    "grants", [(GRANT, GRANT), (replace(GRANT, sealed=bytes(79)),)], ids=["two for one key", "a size of no kind"]
)
def test_grants_that_no_reader_takes_are_not_written(grants: tuple[Grant, ...]) -> None:
    with pytest.raises(FormatError):
        pack_grants(grants)


def test_a_signed_region_of_exactly_the_cap_is_written() -> None:
    parts = make()
    front = assemble_front(bytes(MAX_SIGNED_LENGTH), parts.signatures, parts.grants, 0)
    assert len(front) > MAX_SIGNED_LENGTH


def test_a_manifest_that_fills_the_signed_region_is_written() -> None:
    room = MAX_SIGNED_LENGTH - len(make(manifest=b"").signed)
    assert len(make(manifest=b" " * room).signed) == MAX_SIGNED_LENGTH


def test_leaving_the_bundle_forgets_its_key() -> None:
    with check(make().file()).unlock(x25519()) as unlocked:
        held = bytes(unlocked.content_key)
    assert (len(held), bytes(unlocked.content_key)) == (32, b"")


def test_a_key_cannot_be_trusted_and_revoked() -> None:
    store = trust()
    with pytest.raises(SchemaError, match="trusted and revoked"):
        replace(store, revoked_keys=frozenset({store.keys[0].key_id}))


class Wiped:
    """What was handed to `wipe`, as it was before, and the buffers, to see what they hold after."""

    def __init__(self) -> None:
        self.before: list[bytes] = []
        self.buffers: list[memoryview | bytearray] = []

    def __call__(self, buffer: memoryview | bytearray) -> None:
        self.before.append(bytes(buffer))
        self.buffers.append(buffer)
        TRUE_WIPE(buffer)


TRUE_WIPE = encryption.wipe


@pytest.fixture
def wiped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wiped]:
    recorder = Wiped()
    monkeypatch.setattr(encryption, "wipe", recorder)
    yield recorder
    assert not any(any(buffer) for buffer in recorder.buffers)


def test_encrypting_wipes_the_derived_secrets_and_the_entry_key(wiped: Wiped) -> None:
    encryption.encrypt_entry(KEY, CONTEXT, b"plain", salt=bytes(24))
    secrets, key = wiped.before
    assert (len(secrets), key, any(key)) == (76, secrets[:32], True)


def test_decrypting_wipes_the_derived_secrets_the_entry_key_and_what_it_decrypted_in(wiped: Wiped) -> None:
    stored = encryption.encrypt_entry(KEY, CONTEXT, b"plain", salt=bytes(24))
    digests = encryption.segment_digests(encryption.PayloadSuite.COBBLESTONE_256, stored)
    wiped.before.clear()
    into = bytearray(5)
    encryption.decrypt_entry(KEY, CONTEXT, digests, lambda at, size: stored[at : at + size], memoryview(into))
    secrets, key, *pieces = wiped.before
    assert (bytes(into), len(secrets), key, any(key)) == (b"plain", 76, secrets[:32], True)
    assert sorted(pieces) == [bytes(5), b"plain"]
