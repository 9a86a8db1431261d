"""Turn an accepted model and its manifest into the bytes of a signed, encrypted bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgepack.signers import Signer
from edgepack_runtime.container import assemble_front
from edgepack_runtime.encryption import CONTENT_KEY_SIZE, PayloadSuite, encrypt_entry, entry_context, wipe
from edgepack_runtime.grants import RecipientKey, seal
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.signing import key_id
from edgepack_runtime.table import EntryRole, Header, StoredEntry, write_signed

__all__ = ["GOLDEN_ENTRY", "MODEL_ENTRY", "Contents", "Release", "pack"]

MODEL_ENTRY = "model.tflite"
GOLDEN_ENTRY = "golden.bin"
_BUNDLE_ID_SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into the payload: the TFLite model and the packed golden tensors."""

    model: bytes = field(repr=False)
    golden: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Who signs, who may open it, and the facts only the release knows; `created` is unix seconds.

    An empty `recipients` makes a bundle that is signed and not encrypted.
    """

    signing_key: Signer = field(repr=False)
    recipients: tuple[RecipientKey, ...]
    security_version: int
    created: int
    expires: int = 0


def pack(contents: Contents, manifest: Manifest, release: Release) -> bytes:
    """Return the bundle file: front (preamble, signed region, signature, grants) and payload.

    Raises:
        KeyFileError: a key is of the wrong kind, or the token that holds it refuses.
    """
    suite = PayloadSuite.COBBLESTONE_256 if release.recipients else PayloadSuite.PLAIN
    header = Header(
        product=manifest.name,
        profile=manifest.profile.name,
        profile_digest=manifest.profile.digest(),
        engine=manifest.profile.engine.name,
        engine_version=manifest.profile.engine.version,
        bundle_id=os.urandom(_BUNDLE_ID_SIZE),
        security_version=release.security_version,
        created=release.created,
        expires=release.expires,
        suite=suite,
    )
    content_key = bytearray(os.urandom(CONTENT_KEY_SIZE))
    try:
        stored = [
            _store(header, content_key, MODEL_ENTRY, EntryRole.MODEL, contents.model),
            _store(header, content_key, GOLDEN_ENTRY, EntryRole.GOLDEN, contents.golden),
        ]
        stored.sort(key=lambda entry: entry.name)
        signed = write_signed(header, stored, manifest.to_bytes())
        grants = [seal(key, content_key, signed) for key in _distinct(release.recipients)]
    finally:
        wipe(content_key)
    payload_length = sum(len(entry.stored) for entry in stored)
    front = assemble_front(signed, [release.signing_key.sign(signed)], grants, payload_length)
    return b"".join([front, *(entry.stored for entry in stored)])


def _distinct(recipients: Sequence[RecipientKey]) -> list[RecipientKey]:
    by_id = {key_id(key): key for key in recipients}
    return [by_id[name] for name in sorted(by_id)]


def _store(header: Header, key: bytearray, name: str, role: EntryRole, data: bytes) -> StoredEntry:
    stored = data
    if header.suite is PayloadSuite.COBBLESTONE_256:
        stored = encrypt_entry(key, entry_context(header.bundle_id, header.profile_digest, name), data)
    return StoredEntry(name=name, role=role, plain_length=len(data), stored=stored)
