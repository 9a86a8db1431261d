"""Whose signatures count on this device: the trusted release keys and how many of them must sign.

Provisioned by the owner of the device and never taken from a bundle. The algorithm of a key and the threshold stand
here, so that no file can choose how it is checked.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields, parse_json
from edgepack_runtime.errors import KeyFileError, SchemaError
from edgepack_runtime.signing import VerifyingKey, algorithm_of, key_id, public_key_in, spki

__all__ = ["ALGORITHMS", "MAX_TRUST_BYTES", "SCHEMA_VERSION", "TrustedKey", "TrustedKeys"]

SCHEMA_VERSION = 1
# Of a trust file and of a trust document.
MAX_TRUST_BYTES = 256 * 1024
ALGORITHMS = ("ed25519", "p256")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key that may sign bundles; `name` is for people, `key_id` for machines."""

    name: str
    public_key: VerifyingKey

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the key's SubjectPublicKeyInfo."""
        return key_id(self.public_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKeys:
    """The release keys of a device. `threshold` distinct ones must have signed a bundle.

    What was revoked comes from a trust update (`edgepack_runtime.trust_update`); a plain trust file revokes nothing.

    Raises:
        SchemaError: no threshold from 1 to the number of keys, a key twice, of another algorithm, or revoked.
    """

    keys: tuple[TrustedKey, ...]
    threshold: int = 1
    revoked_keys: frozenset[bytes] = frozenset()
    revoked_bundles: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.keys):
            raise SchemaError(
                f"trusted keys: threshold {self.threshold}, wanted 1 to {len(self.keys)}, the number of keys"
            )
        for key in self.keys:
            try:
                algorithm_of(key.public_key)
            except KeyFileError as error:
                raise SchemaError(f"trusted keys: {key.name!r}: {error}", hint=error.hint) from None
        if len(self.by_id()) != len(self.keys):
            raise SchemaError("trusted keys: one key is listed twice; it could count for two")
        for key in self.keys:
            if key.key_id in self.revoked_keys:
                raise SchemaError(f"trusted keys: {key.name!r} is trusted and revoked ({key.key_id.hex()[:16]})")

    @classmethod
    def of(cls, public_keys: Sequence[VerifyingKey], *, threshold: int = 1) -> TrustedKeys:
        """Return a trust store of these keys, each named by the start of its key id.

        Raises:
            SchemaError: no threshold from 1 to the number of keys, a key twice, or of another algorithm.
        """
        keys = tuple(TrustedKey(name=key_id(key).hex()[:16], public_key=key) for key in public_keys)
        return cls(keys=keys, threshold=threshold)

    def by_id(self) -> dict[bytes, VerifyingKey]:
        """Return the public keys by key id."""
        return {key.key_id: key.public_key for key in self.keys}

    def to_json(self) -> dict[str, object]:
        """Return the trust store as the table `from_fields` reads; revocations are not in it."""
        return {"schema": SCHEMA_VERSION, "release": self.role_to_json()}

    def role_to_json(self) -> dict[str, object]:
        """Return threshold and keys as the table `from_role` reads."""
        keys = [
            {
                "name": key.name,
                "algorithm": algorithm_of(key.public_key),
                "public_key": base64.b64encode(spki(key.public_key)).decode("ascii"),
            }
            for key in self.keys
        ]
        return {"threshold": self.threshold, "keys": keys}

    @classmethod
    def from_json(cls, data: bytes, path: str = "trusted keys") -> TrustedKeys:
        """Return the trust store in a JSON text.

        Args:
            data: the text.
            path: names the text in messages.

        Raises:
            SchemaError: it is no JSON, or a field is missing, unknown or wrong.
        """
        return cls.from_fields(Fields(parse_json(data, path), path))

    @classmethod
    def from_fields(cls, fields: Fields) -> TrustedKeys:
        """Return the trust store read strictly from a table.

        Raises:
            SchemaError: a field is missing, unknown or wrong.
        """
        if (schema := fields.take("schema", int)) != SCHEMA_VERSION:
            fields.refuse("schema", f"version {schema} is not known here, this is version {SCHEMA_VERSION}")
        release = fields.take_table("release")
        fields.finish()
        return cls.from_role(release)

    @classmethod
    def from_role(cls, role: Fields) -> TrustedKeys:
        """Return threshold and keys read strictly from a table.

        Raises:
            SchemaError: a field is missing, unknown or wrong.
        """
        threshold = role.take("threshold", int)
        keys = tuple(_trusted_key(key) for key in role.take_tables("keys"))
        role.finish()
        try:
            return cls(keys=keys, threshold=threshold)
        except SchemaError as error:
            raise SchemaError(f"{role.path}: {error}", hint=error.hint) from None


def _trusted_key(fields: Fields) -> TrustedKey:
    name, text = fields.take("name", str), fields.take("public_key", str)
    algorithm = fields.take_choice("algorithm", ALGORITHMS)
    fields.finish()
    try:
        public_key = public_key_in(text)
        found = algorithm_of(public_key)
    except KeyFileError as error:
        fields.refuse("public_key", error.message)
    if found != algorithm:
        fields.refuse("algorithm", f"{algorithm!r}, but the key is of {found!r}")
    return TrustedKey(name=name, public_key=public_key)  # type: ignore[arg-type]  # algorithm_of narrowed it
