"""Trust documents: root keys say which release keys count, and what is revoked; each replaces the one before.

The rule is TUF's for its root: version N+1 exactly, signed by the threshold of the roots of N, which this device
believes already, and by the threshold of its own. No I/O, no clock: the caller stores an update after it was applied.
``T1`` to ``T6`` are the steps of the section "Trust documents" in `docs/bundle-format.md`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import InitVar, dataclass, field

from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime.container import MAX_SIGNATURES, PREAMBLE_SIZE, Container, Preamble
from edgepack_runtime.errors import FormatError, IncompatibleError, RollbackError, SchemaError, SignatureError
from edgepack_runtime.signing import TRUST_PAYLOAD_TYPE, verify_threshold
from edgepack_runtime.table import FORMAT_MAJOR, FORMAT_MINOR, is_name
from edgepack_runtime.trust import MAX_TRUST_BYTES, TrustedKeys

__all__ = [
    "MAX_ROOT_THRESHOLD",
    "TRUST_ROLE",
    "FloorReset",
    "TrustDocument",
    "TrustState",
    "apply_update",
    "provision",
    "trust_container",
]

TRUST_ROLE = 32
# An update may need the thresholds of two sets of roots, and a file holds 16 signatures.
MAX_ROOT_THRESHOLD = MAX_SIGNATURES // 2
_SCHEMA_VERSION = 1
_MAX_VERSION = 2**53 - 1
_KEY_ID_SIZE, _BUNDLE_ID_SIZE = 32, 16
# As in a model bundle up to payload_length; then document_length and a reserved field.
_HEADER = struct.Struct("<HHIIHHQQQQII")
_HEX = re.compile(r"([0-9a-f]{2})+")
_MADE_HERE = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorReset:
    """The floor of a product becomes this when the document is applied, even if it was higher: once, not for good."""

    product: str
    security_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDocument:
    """What a trust document says. `release` holds the revoked keys and bundles too: it is what `verify` takes.

    Raises:
        SchemaError: a key has two roles, is trusted and revoked, or a name or figure is out of range.
    """

    version: int
    created: int
    root: TrustedKeys
    release: TrustedKeys
    floors: tuple[FloorReset, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.version <= _MAX_VERSION:
            raise SchemaError(f"trust document: version {self.version} is not from 1 to 2^53 - 1")
        if self.root.threshold > MAX_ROOT_THRESHOLD:
            raise SchemaError(
                f"trust document: a root threshold of {self.root.threshold}, at most {MAX_ROOT_THRESHOLD} can be met"
            )
        release = self.release.by_id()
        for key in self.root.keys:
            if key.key_id in release:
                raise SchemaError(
                    f"trust document: {key.name!r} is a root key and a release key ({key.key_id.hex()[:16]})",
                    hint="one key has one role: a stolen release key must not be able to change whom devices trust",
                )
            if key.key_id in self.release.revoked_keys:
                raise SchemaError(f"trust document: root key {key.name!r} is trusted and revoked")
        for size, ids in ((_KEY_ID_SIZE, self.release.revoked_keys), (_BUNDLE_ID_SIZE, self.release.revoked_bundles)):
            for revoked in ids:
                if len(revoked) != size:
                    raise SchemaError(f"trust document: a revoked id of {len(revoked)} bytes, wanted {size}")
        for floor in self.floors:
            if not is_name(floor.product) or not 0 <= floor.security_version <= _MAX_VERSION:
                raise SchemaError(f"trust document: no floor: {floor.product!r} at {floor.security_version}")
        if len({floor.product for floor in self.floors}) != len(self.floors):
            raise SchemaError("trust document: the floor of one product is set twice")

    def pack(self) -> bytes:
        """Return the signed region `parse` reads.

        Raises:
            FormatError: `created` does not fit.
        """
        table = {
            "schema": _SCHEMA_VERSION,
            "root": self.root.role_to_json(),
            "release": self.release.role_to_json(),
            "revoked_keys": sorted(key.hex() for key in self.release.revoked_keys),
            "revoked_bundles": sorted(bundle.hex() for bundle in self.release.revoked_bundles),
            "floors": [{"product": f.product, "security_version": f.security_version} for f in self.floors],
        }
        text = canonical_json(table)
        try:
            header = _HEADER.pack(
                FORMAT_MAJOR, FORMAT_MINOR, 0, 0, TRUST_ROLE, 0, self.version, self.created, 0, 0, len(text), 0
            )
        except struct.error as error:
            raise FormatError(f"trust document: a number does not fit its field ({error})") from None
        return header + text

    @classmethod
    def parse(cls, signed: bytes) -> TrustDocument:
        """Return the document in a signed region, which must be used up to the last byte (step T3).

        Raises:
            FormatError: a field is malformed, contradicts another one, or gives a key two roles.
            IncompatibleError: it is of a format or role unknown to this version.
        """
        if len(signed) < _HEADER.size:
            raise FormatError(f"trust document: {len(signed)} bytes, wanted at least {_HEADER.size}")
        (
            major, minor, critical, _, role, suite, version, created, expires, payload, length, reserved,
        ) = _HEADER.unpack_from(signed)  # fmt: skip
        if major != FORMAT_MAJOR or critical != 0:
            raise IncompatibleError(
                f"trust document: format {major}.{minor}, critical flags {critical:#x}: not known"
            )
        if role != TRUST_ROLE:
            raise IncompatibleError(f"trust document: role {role}, wanted {TRUST_ROLE}")
        if (suite, expires, payload, reserved) != (0, 0, 0, 0):
            raise FormatError("trust document: a reserved field is not 0")
        if len(signed) != _HEADER.size + length:
            raise FormatError(f"trust document: {len(signed)} bytes, its length makes {_HEADER.size + length}")
        try:
            return _read(
                Fields(parse_json(signed[_HEADER.size :], "trust document"), "trust document"), version, created
            )
        except SchemaError as error:
            raise FormatError(error.message, hint=error.hint) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustState:
    """A trust document that is believed here. Only `provision` and `apply_update` make one."""

    document: TrustDocument
    made_by: InitVar[object] = field(default=None)

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_HERE:
            raise TypeError("only provision() and apply_update() make a TrustState")


def trust_container(data: bytes) -> Container:
    """Return the unbelieved container of a trust document file (step T1).

    Raises:
        FormatError: it is too long, is no container, or has grants or a payload.
    """
    if len(data) > MAX_TRUST_BYTES:
        raise FormatError(f"trust document: {len(data)} bytes, at most {MAX_TRUST_BYTES} are allowed")
    preamble = Preamble.parse(data[:PREAMBLE_SIZE])
    container = Container.from_front(data[: preamble.front_length], len(data))
    if preamble.payload_length or container.grants:
        raise FormatError("trust document: it has a payload or grants", hint="a model bundle is no trust document")
    return container


def provision(container: Container) -> TrustState:
    """Return the state of a device whose owner put this document on it (steps T1, T3 and T6).

    Its own roots vouch for it, so this tells damage from a whole document, and an attacker's from the owner's not at
    all. Never use it for a document that came over a network.

    Raises:
        FormatError: it is malformed.
        IncompatibleError: it is of a format or role unknown to this version.
        SignatureError: too few of its root keys signed it.
    """
    document = TrustDocument.parse(container.signed)
    _check_signed(container, document.root, "its own root keys")
    return TrustState(document=document, made_by=_MADE_HERE)


def apply_update(current: TrustState, container: Container) -> TrustState:
    """Return the state after an update (steps T1 to T6). Store the update only when this has returned.

    Raises:
        SignatureError: too few of the current root keys signed it, or too few of its own.
        FormatError: it is malformed, or gives a key two roles.
        IncompatibleError: it is of a format or role unknown to this version, or a version was left out.
        RollbackError: it is not newer than the current one.
    """
    # Step T2. From here on the signed bytes are by those whom this device trusts to change whom it trusts.
    _check_signed(container, current.document.root, "the root keys in force")
    document = TrustDocument.parse(container.signed)
    # Steps T4 and T5.
    have, found = current.document.version, document.version
    if found <= have:
        raise RollbackError(f"trust document: version {found}, this device has version {have}")
    if found != have + 1:
        raise IncompatibleError(
            f"trust document: version {found}, this device has version {have} and takes {have + 1} next",
            hint="apply every version in its turn: one that was left out may have changed the root keys",
        )
    # Step T6.
    _check_signed(container, document.root, "its own root keys")
    return TrustState(document=document, made_by=_MADE_HERE)


def _check_signed(container: Container, root: TrustedKeys, whose: str) -> None:
    try:
        verify_threshold(container.signed, container.signatures, root.by_id(), root.threshold, TRUST_PAYLOAD_TYPE)
    except SignatureError as error:
        raise SignatureError(f"trust document, held against {whose}: {error.message}", hint=error.hint) from None


def _read(fields: Fields, version: int, created: int) -> TrustDocument:
    if (schema := fields.take("schema", int)) != _SCHEMA_VERSION:
        fields.refuse("schema", f"version {schema} is not known here, this is version {_SCHEMA_VERSION}")
    root = TrustedKeys.from_role(fields.take_table("root"))
    plain = TrustedKeys.from_role(fields.take_table("release"))
    release = TrustedKeys(
        keys=plain.keys,
        threshold=plain.threshold,
        revoked_keys=_ids(fields, "revoked_keys"),
        revoked_bundles=_ids(fields, "revoked_bundles"),
    )
    floors = []
    for item in fields.take_tables("floors"):
        floors.append(
            FloorReset(product=item.take("product", str), security_version=item.take("security_version", int))
        )
        item.finish()
    fields.finish()
    return TrustDocument(version=version, created=created, root=root, release=release, floors=tuple(floors))


def _ids(fields: Fields, name: str) -> frozenset[bytes]:
    texts = fields.take_strings(name)
    if not all(_HEX.fullmatch(text) for text in texts) or len(set(texts)) != len(texts):
        fields.refuse(name, "expected ids in hex, each once")
    return frozenset(bytes.fromhex(text) for text in texts)
