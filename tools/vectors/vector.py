"""A vector: a bundle, a device, and the one right verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.vectors.keys import seed
from tools.vectors.layout import Entry, Spec

__all__ = ["BASE", "INTEGERS", "ONE", "RELEASE", "STEPS", "Vector", "edges", "good", "refused"]

RELEASE = "ed25519 release"
# Three small entries; the middle one has neighbours on both sides.
BASE = Spec(
    entries=(
        Entry(name="golden.bin", role=3, plain=seed("golden", 40)),
        Entry(name="labels.txt", role=2, plain=b"zero\none\ntwo\n"),
        Entry(name="model.tflite", role=1, plain=seed("model", 100)),
    )
)
ONE = Spec(entries=(Entry(name="labels.txt", role=2, plain=b"one\n"),))

# Which outcome a step can have, for a check of the vectors themselves.
STEPS = {
    "preamble": {1, 2, 3},
    "format": {4, 7, 8, 12},
    "signature": {5, 6},
    "policy": {7, 8, 9, 10, 11},
    "no-grant": {12},
    "unwrap": {12},
    "payload": {13, 14, 16},
    "commitment": {15},
    "meta": {0},
    "requires": {0},
    "ok": {0},
}


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One question to a reader, and the answer. `step` is 0 where no step of the document refuses."""

    name: str
    bundle: bytes = field(repr=False)
    outcome: str
    step: int = 0
    entries: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    trust: tuple[str, ...] = (RELEASE,)
    threshold: int = 1
    profile: str = "raspberry-pi-4"
    accepted: Mapping[str, int] = field(default_factory=lambda: {"digits": 7})
    now: int | None = 1_760_000_000
    device: str | None = "x25519 device"
    revoked_keys: tuple[str, ...] = ()
    revoked_bundles: tuple[bytes, ...] = ()
    sidecar: bytes | None = field(default=None, repr=False)
    reads_manifest: bool = False

    def __post_init__(self) -> None:
        assert self.step in STEPS[self.outcome], self.name
        assert bool(self.entries) == (self.outcome == "ok"), self.name


def good(name: str, bundle: bytes, spec: Spec, **device: object) -> Vector:
    """Return a vector that opens to the entries of `spec`."""
    return Vector(name=name, bundle=bundle, outcome="ok", entries=spec.plain(), **device)  # type: ignore[arg-type]


def refused(name: str, bundle: bytes, verdict: tuple[str, int], **device: object) -> Vector:
    """Return a vector that is refused with this outcome at this step."""
    return Vector(name=name, bundle=bundle, outcome=verdict[0], step=verdict[1], **device)  # type: ignore[arg-type]


INTEGERS = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}


def edges(size: int, found: int) -> list[int]:
    """Return the values at which a field of `size` bytes that holds `found` is likely to be misread."""
    top = 256**size
    values = {0, 1, found - 1, found + 1, 2**31, 2**32, 2**63, top // 2 - 1, top - 2, top - 1}
    return sorted(value for value in values if 0 <= value < top and value != found)
