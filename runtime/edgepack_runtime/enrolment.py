"""Enrol a device: its key is made on it and stays there, a small record of the public half goes to the publisher.

The record is not signed: a device key decrypts, and one key has one role. Compare the key id over another channel,
such as the device's own console, before granting anything to it.
"""

from __future__ import annotations

import base64
import contextlib
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime._files import file_error, write_whole
from edgepack_runtime.errors import FileError, KeyFileError, SchemaError
from edgepack_runtime.grants import RecipientKey, grant_kind
from edgepack_runtime.keyfiles import PassphraseSource, load_device_key, write_label
from edgepack_runtime.plaintext import forbid_core_dumps
from edgepack_runtime.signing import key_id, public_key_in, spki

__all__ = ["KEY_NAME", "RECORD_SUFFIX", "SCHEMA_VERSION", "Enrolled", "Enrolment", "enroll_device", "write_record"]

SCHEMA_VERSION = 1
KEY_NAME = "device.key.pem"
RECORD_SUFFIX = ".enrol.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What the publisher must know of a device: its name, its profile, its public key.

    Raises:
        SchemaError: a name is none, or the key cannot receive bundles.
    """

    name: str
    profile: str
    public_key: RecipientKey

    def __post_init__(self) -> None:
        for what, name in (("name", self.name), ("profile", self.profile)):
            if not _NAME.fullmatch(name):
                raise SchemaError(f"enrolment: {what} {name!r} is no name (1 to 31 of A-Z, a-z, 0-9, '.', '_', '-')")
        try:
            grant_kind(self.public_key)
        except KeyFileError as error:
            raise SchemaError(f"enrolment: {error.message}", hint=error.hint) from None

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the public key's SubjectPublicKeyInfo."""
        return key_id(self.public_key)

    def to_json(self) -> bytes:
        """Return the record as the text `from_json` reads."""
        table = {
            "schema": SCHEMA_VERSION,
            "name": self.name,
            "profile": self.profile,
            "key_id": self.key_id.hex(),
            "public_key": base64.b64encode(spki(self.public_key)).decode("ascii"),
        }
        return canonical_json(table) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, path: str) -> Enrolment:
        """Return the enrolment in a JSON text; `path` names it in messages.

        Raises:
            SchemaError: it is no JSON, a field is missing, unknown or wrong, or the key id is another key's.
        """
        fields = Fields(parse_json(data, path), path)
        if (schema := fields.take("schema", int)) != SCHEMA_VERSION:
            fields.refuse("schema", f"version {schema} is not known here, this is version {SCHEMA_VERSION}")
        name, profile, told = fields.take("name", str), fields.take("profile", str), fields.take("key_id", str)
        text = fields.take("public_key", str)
        fields.finish()
        try:
            public_key = public_key_in(text)
        except KeyFileError as error:
            fields.refuse("public_key", error.message)
        try:
            found = cls(name=name, profile=profile, public_key=public_key)  # type: ignore[arg-type]  # it checks
        except SchemaError as error:
            raise SchemaError(f"{path}: {error.message}", hint=error.hint) from None
        if found.key_id.hex() != told:
            fields.refuse("key_id", f"is not the id of the public key, which is {found.key_id.hex()}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What was written; `key` is None where the device's private key is elsewhere."""

    enrolment: Enrolment
    record: Path
    key: Path | None

    def to_json(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "name": self.enrolment.name,
            "profile": self.enrolment.profile,
            "key_id": self.enrolment.key_id.hex(),
            "record": str(self.record),
            "key": None if self.key is None else str(self.key),
        }

    def lines(self) -> tuple[str, ...]:
        """Return what a person has to know, and what to do next."""
        name = self.record.name
        return (
            f"device {self.enrolment.name} ({self.enrolment.profile}), key id {self.enrolment.key_id.hex()}",
            *([f"  private key: {self.key}; it stays on this device"] if self.key else []),
            f"  record:      {self.record}",
            "next, at the publisher: compare the key id, then",
            f"  edgepack build ... --recipient {name}                       for bundles to come",
            f"  edgepack grant add BUNDLE --recipient {name} --key ISSUER   for a bundle there is",
        )


def enroll_device(
    name: str, profile: str, folder: Path, *, key: Path | None = None, passphrase: PassphraseSource | None = None
) -> Enrolled:
    """Return what enrolling this device wrote into `folder`: its record, and a new X25519 key unless one is named.

    From here on this process dumps no core (`edgepack_runtime.plaintext.forbid_core_dumps`).

    Args:
        name: what the publisher shall call the device.
        profile: what it is.
        folder: made when missing; nothing in it is overwritten.
        key: a device key that exists.
        passphrase: asked if that key is encrypted.

    Raises:
        SchemaError: the name or the profile is no name.
        KeyFileError: the key cannot be read or opened, or is no device key.
        FileError: a file exists or cannot be written.
    """
    forbid_core_dumps()
    private = X25519PrivateKey.generate() if key is None else load_device_key(key, passphrase)
    enrolment = Enrolment(name=name, profile=profile, public_key=private.public_key())
    if key is not None:
        return Enrolled(enrolment=enrolment, record=write_record(enrolment, folder), key=key)
    for path in (folder / KEY_NAME, folder / f"{name}{RECORD_SUFFIX}"):
        if path.exists():
            raise FileError(
                f"{path} exists and is not overwritten", hint="a device that was enrolled names its --key"
            )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _make(folder)
    write_whole(folder / KEY_NAME, write_label("device", enrolment.key_id) + pem, mode=0o600, replace=False)
    try:
        return Enrolled(enrolment=enrolment, record=write_record(enrolment, folder), key=folder / KEY_NAME)
    except FileError:
        # A key that nobody knows of opens nothing, and would stand in the way of the next attempt.
        with contextlib.suppress(OSError):
            (folder / KEY_NAME).unlink()
        raise


def write_record(enrolment: Enrolment, folder: Path) -> Path:
    """Return where the record of an enrolment was written.

    Raises:
        FileError: it exists or cannot be written.
    """
    _make(folder)
    path = folder / f"{enrolment.name}{RECORD_SUFFIX}"
    write_whole(path, enrolment.to_json(), replace=False)
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error("make folder", folder, error) from None
