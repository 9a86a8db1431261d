"""Writes trust documents as `docs/bundle-format.md` says, and as it forbids; and what a vector of one is."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.vectors.keys import key_id, sign, spki
from tools.vectors.layout import Parts, Signature, pae

__all__ = [
    "CAP", "FIELDS", "MALFORMED", "NEXT", "NOW", "OLD", "RELEASE", "SKIPPED", "T1", "T2", "T6", "THIRD",
    "TRUST_STEPS", "UNKNOWN", "UPDATE", "A", "B", "C", "D", "Role", "Trust", "TrustVector", "container", "file_of",
    "first", "good", "key_table", "refused", "signature", "to_json",
]  # fmt: skip

TYPE = b"application/vnd.edgepack.trust.v1"
CAP = 262_144
T1, T2, T6 = ("format", "T1"), ("signature", "T2"), ("signature", "T6")
MALFORMED, UNKNOWN = ("format", "T3"), ("policy", "T3")
OLD, SKIPPED = ("policy", "T4"), ("policy", "T5")
# Which outcome a step can have, for a check of the vectors themselves.
TRUST_STEPS = {"format": {"T1", "T3"}, "signature": {"T2", "T6"}, "policy": {"T3", "T4", "T5"}, "ok": {""}}
FIELDS = {
    "format_major": (0, 2), "format_minor": (2, 2), "critical_flags": (4, 4), "flags": (8, 4), "role": (12, 2),
    "payload_suite": (14, 2), "version": (16, 8), "created": (24, 8), "reserved at 32": (32, 8),
    "payload_length": (40, 8), "document_length": (48, 4), "reserved at 52": (52, 4),
}  # fmt: skip
A, B, C, D = "ed25519 root a", "ed25519 root b", "p256 root c", "ed25519 root d"
RELEASE, NEXT, THIRD = "ed25519 release", "p256 release", "ed25519 second"


@dataclass(frozen=True, kw_only=True)
class TrustVector:
    """A document, the one in force, and the right answer: what `says` is in force then, or which step refuses."""

    name: str
    update: bytes = field(repr=False)
    current: bytes | None = field(repr=False)
    outcome: str
    step: str = ""
    says: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.step in TRUST_STEPS[self.outcome], self.name
        assert bool(self.says) == (self.outcome == "ok"), self.name


@dataclass(frozen=True, kw_only=True)
class Role:
    """The keys of a role."""

    keys: tuple[str, ...]
    threshold: int = 1

    def table(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "keys": [key_table(key) for key in self.keys]}


def key_table(key: str) -> dict[str, Any]:
    """Return a key as it stands in the JSON."""
    text = base64.b64encode(spki(key)).decode("ascii")
    return {"name": key, "algorithm": key.partition(" ")[0], "public_key": text}


@dataclass(frozen=True, kw_only=True)
class Trust:
    """A well-formed document."""

    version: int = 5
    root: Role = Role(keys=(A, B, C), threshold=2)
    release: Role = Role(keys=(RELEASE,))
    revoked_keys: tuple[bytes, ...] = ()
    revoked_bundles: tuple[bytes, ...] = ()
    floors: tuple[tuple[str, int], ...] = ()
    created: int = 1_750_000_000

    def table(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "root": self.root.table(),
            "release": self.release.table(),
            "revoked_keys": [key.hex() for key in self.revoked_keys],
            "revoked_bundles": [bundle.hex() for bundle in self.revoked_bundles],
            "floors": [{"product": name, "security_version": floor} for name, floor in self.floors],
        }

    def signed(self, document: bytes | None = None) -> bytes:
        text = to_json(self.table()) if document is None else document
        return struct.pack("<HHIIHHQQQQII", 1, 0, 0, 0, 32, 0, self.version, self.created, 0, 0, len(text), 0) + text

    def says(self) -> dict[str, object]:
        return {
            "version": self.version,
            "root_threshold": self.root.threshold,
            "root": sorted(key_id(key).hex() for key in self.root.keys),
            "release_threshold": self.release.threshold,
            "release": sorted(key_id(key).hex() for key in self.release.keys),
            "revoked_keys": sorted(key.hex() for key in self.revoked_keys),
            "revoked_bundles": sorted(bundle.hex() for bundle in self.revoked_bundles),
            "floors": dict(sorted(self.floors)),
        }


NOW = Trust()
UPDATE = Trust(version=6, release=Role(keys=(NEXT,)), revoked_keys=(key_id(RELEASE),), floors=(("digits", 3),))


def to_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def signature(signer: str, signed: bytes, kind: bytes = TYPE) -> Signature:
    return Signature(key_id=key_id(signer), value=sign(signer, pae(signed, kind=kind)))


def container(signed: bytes, signers: Sequence[str] = (A, C)) -> Parts:
    """Return a file around any signed bytes."""
    found = sorted((signature(signer, signed) for signer in signers), key=lambda one: one.key_id)
    return Parts(signed=signed, signatures=tuple(found), grants=(), payload=b"")


def file_of(document: Trust, *signers: str) -> bytes:
    return container(document.signed(), signers or (A, C)).file()


def good(name: str, document: Trust, update: bytes, current: bytes | None) -> TrustVector:
    return TrustVector(name=name, update=update, current=current, outcome="ok", says=document.says())


def refused(name: str, update: bytes, verdict: tuple[str, str], *, current: bytes | None = None) -> TrustVector:
    """Return an update that is refused; the document in force is `NOW` unless another is given."""
    return TrustVector(
        name=name, update=update, current=file_of(NOW) if current is None else current, outcome=verdict[0],
        step=verdict[1],
    )  # fmt: skip


def first(name: str, update: bytes, verdict: tuple[str, str]) -> TrustVector:
    """Return a first document that is refused."""
    return TrustVector(name=name, update=update, current=None, outcome=verdict[0], step=verdict[1])
