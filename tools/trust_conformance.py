"""Vectors of trust documents, and the part of the protocol that asks about them: see `tests/vectors/README.md`."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.conformance import VECTORS, Case

__all__ = ["TRUST_FORMAT", "InForce", "TrustQuestion", "load_trust", "refused_trust"]

TRUST_FORMAT = "edgepack-trust-vectors-1"


@dataclass(frozen=True, kw_only=True)
class TrustQuestion:
    """An update and the document in force; None where the update is the device's first document."""

    update: bytes = field(repr=False)
    current: bytes | None = field(default=None, repr=False)

    @property
    def may_be_skipped(self) -> bool:
        """Whether a reader may answer that it does not do this: trust updates are optional."""
        return True

    def pack(self) -> bytes:
        """Return the request as it is written to a reader."""
        current = "" if self.current is None else f"current {self.current.hex()}\n"
        return f"{current}update {len(self.update)}\n".encode("ascii") + self.update


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What a document says, as a reader answers it; keys by their ids in hex."""

    version: int
    root_threshold: int
    root: Sequence[str]
    release_threshold: int
    release: Sequence[str]
    revoked_keys: Sequence[str] = ()
    revoked_bundles: Sequence[str] = ()
    floors: Mapping[str, int] = field(default_factory=dict)

    def answer(self) -> str:
        """Return the line."""
        fields = {
            "version": [str(self.version)],
            "root-threshold": [str(self.root_threshold)],
            "root": sorted(self.root),
            "release-threshold": [str(self.release_threshold)],
            "release": sorted(self.release),
            "revoked-keys": sorted(self.revoked_keys),
            "revoked-bundles": sorted(self.revoked_bundles),
            "floors": [f"{product}:{floor}" for product, floor in sorted(self.floors.items())],
        }
        return " ".join(("ok", *(f"{name}={','.join(values)}" for name, values in fields.items())))


def refused_trust(outcome: str, step: str) -> str:
    """Return the answer for a document that is refused."""
    return f"refused {outcome} {step}"


def load_trust(path: Path = VECTORS / "trust.json") -> Iterator[Case[TrustQuestion]]:
    """Yield the vectors of trust documents."""
    document = json.loads(path.read_text("utf-8"))
    assert document["format"] == TRUST_FORMAT
    for vector in document["vectors"]:
        found = dict(vector)
        current, expect = found.pop("current_gzip"), found.pop("expect")
        question = TrustQuestion(
            update=_unpacked(found.pop("update_gzip")), current=None if current is None else _unpacked(current)
        )
        outcome = expect.pop("outcome")
        answer = InForce(**expect).answer() if outcome == "ok" else refused_trust(outcome, expect["step"])
        yield Case(group=document["group"], name=found.pop("name"), question=question, answer=answer)
        # A field nobody reads here would be a condition nobody tests.
        assert not found, found


def _unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))
