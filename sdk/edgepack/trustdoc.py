"""Make the next trust document, and collect the signatures it needs: of the roots before it, and of its own.

Roots are kept apart from each other, so signatures come one after the other: a document with too few is a draft,
which no device takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepack.errors import RecipeError
from edgepack.signers import Signer
from edgepack_runtime.container import Container, Signature, assemble_front
from edgepack_runtime.errors import SchemaError, SignatureError
from edgepack_runtime.signing import TRUST_PAYLOAD_TYPE, verify_threshold
from edgepack_runtime.trust import TrustedKey, TrustedKeys
from edgepack_runtime.trust_update import FloorReset, TrustDocument, TrustState, trust_container

__all__ = [
    "Draft",
    "RoleChange",
    "Standing",
    "TrustChange",
    "next_document",
    "revoke_keys",
    "sign_document",
    "standing",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """What becomes of a role: `keys` replace those there were unless empty, `added` join them."""

    keys: tuple[TrustedKey, ...] = ()
    added: tuple[TrustedKey, ...] = ()
    threshold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustChange:
    """What the next document says anew; what was revoked before stays revoked, floors are set once."""

    root: RoleChange = RoleChange()
    release: RoleChange = RoleChange()
    revoked_keys: frozenset[bytes] = frozenset()
    revoked_bundles: frozenset[bytes] = frozenset()
    floors: tuple[FloorReset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many of the keys of a role have signed: `have` of the `want` it takes."""

    role: str
    have: int
    want: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A document and the signatures it has so far; `file` is what a device takes once they are enough."""

    document: TrustDocument
    signed: bytes
    signatures: tuple[Signature, ...]
    standings: tuple[Standing, ...]

    @property
    def is_complete(self) -> bool:
        """Whether a device takes it, as far as that was asked: see `is_held_against_the_last`."""
        return all(standing.have >= standing.want for standing in self.standings)

    @property
    def is_held_against_the_last(self) -> bool:
        """Whether the roots of the document before it were asked; the first one has none before it."""
        return self.document.version == 1 or len(self.standings) == len(("root before it", "root"))

    def file(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            FormatError: it is longer than a device takes, or has too many signatures.
        """
        data = assemble_front(self.signed, self.signatures, (), 0)
        trust_container(data)
        return data


def next_document(current: TrustDocument | None, change: TrustChange, created: int) -> TrustDocument:
    """Return the document that follows `current`, or the first one.

    Args:
        current: the one in force; None if there is none.
        change: what is new.
        created: unix seconds.

    Raises:
        SchemaError: a threshold cannot be met, a key has two roles, or is trusted and revoked.
    """
    before = () if current is None else current.release.keys
    revoked = change.revoked_keys | (frozenset() if current is None else current.release.revoked_keys)
    bundles = change.revoked_bundles | (frozenset() if current is None else current.release.revoked_bundles)
    left = tuple(key for key in before if key.key_id not in change.revoked_keys)
    release = _role(left, 1 if current is None else current.release.threshold, change.release)
    root = _role(
        () if current is None else current.root.keys, 1 if current is None else current.root.threshold, change.root
    )
    return TrustDocument(
        version=1 if current is None else current.version + 1,
        created=created,
        root=root,
        release=replace(release, revoked_keys=revoked, revoked_bundles=bundles),
        floors=change.floors,
    )


def revoke_keys(current: TrustDocument, key_ids: Sequence[bytes]) -> frozenset[bytes]:
    """Return the ids to revoke, checked.

    Raises:
        RecipeError: one is a root key, or is revoked already.
    """
    for key in key_ids:
        if key in current.root.by_id():
            raise RecipeError(
                f"key {key.hex()[:16]} is a root key",
                hint="replace the set of root keys: edgepack trust rotate --root",
            )
        if key in current.release.revoked_keys:
            raise RecipeError(f"key {key.hex()[:16]} is revoked already")
    return frozenset(key_ids)


def _role(keys: tuple[TrustedKey, ...], threshold: int, change: RoleChange) -> TrustedKeys:
    wanted = threshold if change.threshold is None else change.threshold
    try:
        return TrustedKeys(keys=(change.keys or keys) + change.added, threshold=wanted)
    except SchemaError as error:
        raise SchemaError(
            error.message, hint=error.hint or "set the threshold, or add keys in the same step"
        ) from None


def sign_document(
    document: TrustDocument | Container, signers: Sequence[Signer], current: TrustState | None
) -> Draft:
    """Return a draft with further signatures.

    Args:
        document: a new one, or the container of a draft.
        signers: root keys, of the document or of the one before it.
        current: the one before it; None for the first one, or where only the document's own roots sign.

    Raises:
        RecipeError: a key's signature would not count, or is there already.
        BundleError: the draft is malformed.
        KeyFileError: a token refuses.
    """
    if isinstance(document, TrustDocument):
        signed, signatures = document.pack(), []
    else:
        signed, signatures = document.signed, list(document.signatures)
        document = TrustDocument.parse(signed)
    _check_follows(document, current)
    counts = set(document.root.by_id()) | (set() if current is None else set(current.document.root.by_id()))
    for signer in signers:
        if signer.key_id not in counts:
            raise RecipeError(
                f"key {signer.key_id.hex()[:16]} is no root key of this document: its signature would not count",
                hint="a root key of the document before it signs with --current",
            )
        if any(signature.key_id == signer.key_id for signature in signatures):
            raise RecipeError(f"key {signer.key_id.hex()[:16]} has signed it already")
        signatures.append(signer.sign(signed, TRUST_PAYLOAD_TYPE))
    return Draft(
        document=document,
        signed=signed,
        signatures=tuple(signatures),
        standings=standing(document, signed, signatures, current),
    )


def _check_follows(document: TrustDocument, current: TrustState | None) -> None:
    if current is not None and document.version != current.document.version + 1:
        raise RecipeError(
            f"version {document.version} does not follow version {current.document.version}",
            hint="name the document before it with --current",
        )


def standing(
    document: TrustDocument, signed: bytes, signatures: Sequence[Signature], current: TrustState | None
) -> tuple[Standing, ...]:
    """Return whose signatures a document has, and how many it takes.

    Raises:
        SignatureError: a signature by one of the keys is wrong.
    """
    roles = [("root", document.root)]
    if current is not None:
        roles.insert(0, ("root before it", current.document.root))
    return tuple(
        Standing(role=name, have=_count(signed, signatures, keys), want=keys.threshold) for name, keys in roles
    )


def _count(signed: bytes, signatures: Sequence[Signature], keys: TrustedKeys) -> int:
    known = keys.by_id()
    if not any(signature.key_id in known for signature in signatures):
        return 0
    try:
        return len(verify_threshold(signed, signatures, known, 1, TRUST_PAYLOAD_TYPE))
    except SignatureError as error:
        raise SignatureError(f"trust document: {error.message}") from None
