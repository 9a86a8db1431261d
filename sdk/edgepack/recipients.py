"""For whom bundles are encrypted: a public key in PEM, or the record of an enrolled device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgepack_runtime.enrolment import Enrolment
from edgepack_runtime.errors import KeyFileError, SchemaError
from edgepack_runtime.grants import RecipientKey
from edgepack_runtime.keyfiles import read_key_file, recipient_in
from edgepack_runtime.signing import key_id

__all__ = ["Recipient", "read_recipient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A key that bundles may be encrypted for; `profile` is None where only a key is known."""

    name: str
    public_key: RecipientKey
    profile: str | None

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the public key's SubjectPublicKeyInfo."""
        return key_id(self.public_key)


def read_recipient(path: Path) -> Recipient:
    """Return the recipient in a file: a public key in PEM, or an enrolment record.

    Raises:
        KeyFileError: it is neither, or the key cannot receive bundles.
    """
    data = read_key_file(path)
    try:
        if not data.lstrip().startswith(b"{"):
            return Recipient(name=path.name, public_key=recipient_in(data, path), profile=None)
        enrolment = Enrolment.from_json(data, str(path))
    except SchemaError as error:
        raise KeyFileError(error.message, hint=error.hint) from None
    finally:
        # Should it be a private key, no frame of the refusal shall hold it.
        del data
    return Recipient(name=enrolment.name, public_key=enrolment.public_key, profile=enrolment.profile)
