"""What this device has accepted so far: version floors, the newest signed time, its trust. No I/O.

The bytes are authenticated with HMAC-SHA256 under a key of the device's own, before any of them is believed. That
tells damage and other devices' files from ours. It cannot tell an old copy from the newest: `docs/threat-model.md`.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import struct
from collections.abc import Mapping
from dataclasses import field, replace

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import FastForwardError, RollbackError, StateError
from edgepack_runtime.table import Header, is_name

__all__ = ["KEY_SIZE", "MAX_JUMP", "MAX_STATE_BYTES", "DeviceState", "Floor", "StoredTrust"]

KEY_SIZE = 32
# How far one bundle may raise a floor. Whoever stole a release key could else end all updates with one version.
MAX_JUMP = 1 << 32
_MAX_FLOORS = 1024
_MAX_TRUST = 256 << 10
_MAX_NUMBER = 2**64 - 1
_MAGIC = b"\x89EPSTAT\n"
_VERSION = 1
_DOMAIN = b"edgepack/v1/state\0"
# magic, version, floors, reserved, generation, time floor, trust version, bytes of the trust document, reserved
_HEADER = struct.Struct("<8sHHIQQQII")
_FLOOR = struct.Struct("<32s32sQ")
_TAG_SIZE = hashlib.sha256().digest_size
MAX_STATE_BYTES = _HEADER.size + _MAX_FLOORS * _FLOOR.size + _MAX_TRUST + _TAG_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The lowest security version of a product that this device, as this profile, still takes."""

    product: str
    profile: str
    security_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrust:
    """The trust document in force, opaque here; version 0 is the one the device was provisioned with."""

    version: int = 0
    document: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What this device must not forget.

    Args:
        generation: counts the changes; of two copies the one with the higher generation is in force.
        floors: in ascending order of product and profile, each pair once.
        time_floor: unix seconds, when the newest bundle that was accepted had been signed; it is later than that now.
        trust: the newest trust document.

    Raises:
        StateError: the floors are out of order or too many, a name or number is out of range, or the document is
            too long.
    """

    generation: int
    floors: tuple[Floor, ...] = ()
    time_floor: int = 0
    trust: StoredTrust = StoredTrust()

    def __post_init__(self) -> None:
        names = [(floor.product, floor.profile) for floor in self.floors]
        if any(a >= b for a, b in itertools.pairwise(names)):
            raise StateError("state: its floors are not in ascending order")
        for name in itertools.chain.from_iterable(names):
            if not is_name(name):
                raise StateError(f"state: a floor of {name!r}, which is no name of a product or profile")
        if len(names) > _MAX_FLOORS:
            raise StateError(f"state: {len(names)} floors, at most {_MAX_FLOORS} are kept")
        numbers = [self.generation, self.time_floor, self.trust.version, *(f.security_version for f in self.floors)]
        if not all(0 <= number <= _MAX_NUMBER for number in numbers):
            raise StateError(f"state: a number is not from 0 to {_MAX_NUMBER}")
        if len(self.trust.document) > _MAX_TRUST:
            raise StateError(f"state: a trust document of {len(self.trust.document)} bytes, at most {_MAX_TRUST}")

    def floors_of(self, profile: str) -> dict[str, int]:
        """Return the floors of a device that is `profile`, by product."""
        return {floor.product: floor.security_version for floor in self.floors if floor.profile == profile}

    def accepting(self, header: Header) -> DeviceState:
        """Return the state after a bundle was accepted: its security version is the floor, and never a lower one.

        Call it only when the model has passed its self-test here. An equal bundle changes nothing.

        Raises:
            RollbackError: the bundle is below the floor.
            FastForwardError: it would raise the floor by more than `MAX_JUMP`.
            StateError: there are too many floors already.
        """
        floor = self.floors_of(header.profile).get(header.product, 0)
        if header.security_version < floor:
            raise RollbackError(
                f"security version {header.security_version} is lower than {floor}, which this device accepted",
                hint=f"publish {header.product} again with a security version of at least {floor}",
            )
        if header.security_version - floor > MAX_JUMP:
            raise FastForwardError(
                f"security version {header.security_version} is more than {MAX_JUMP} above the floor {floor}: "
                f"no later version of {header.product} could be published",
                hint="count security versions up by one; if nobody meant this one, a release key may be stolen",
            )
        return replace(
            self,
            floors=_with_floor(self.floors, header),
            time_floor=max(self.time_floor, header.created),
        )

    def trusting(self, trust: StoredTrust, resets: Mapping[str, int], profile: str) -> DeviceState:
        """Return the state after a trust document was applied: what it resets becomes the floor, even a lower one.

        Args:
            trust: the document, checked by the caller.
            resets: floors by product.
            profile: what this device is; products it has no floor of get one for it.

        Raises:
            StateError: a product is no name, or there are too many floors.
        """
        floors = {(floor.product, floor.profile): floor.security_version for floor in self.floors}
        for product, number in resets.items():
            floors |= {key: number for key in [(product, profile), *floors] if key[0] == product}
        return replace(
            self,
            trust=trust,
            floors=tuple(Floor(product=a, profile=b, security_version=n) for (a, b), n in sorted(floors.items())),
        )

    def refuse_to_forget(self, successor: DeviceState) -> None:
        """Refuse a successor that has lower floors or time: only a newer trust document may bring that.

        Raises:
            StateError: it has, or its trust document is older.
        """
        if successor.trust.version > self.trust.version:
            return
        if successor.trust != self.trust:
            raise StateError(f"state: trust version {successor.trust.version} cannot follow {self.trust.version}")
        kept = {(floor.product, floor.profile): floor.security_version for floor in successor.floors}
        for floor in self.floors:
            if kept.get((floor.product, floor.profile), -1) < floor.security_version:
                raise StateError(f"state: the floor of {floor.product} for {floor.profile} would fall")
        if successor.time_floor < self.time_floor:
            raise StateError(f"state: time would fall back from {self.time_floor} to {successor.time_floor}")

    def to_bytes(self, key: bytes) -> bytes:
        """Return the bytes `from_bytes` reads with the same key."""
        body = b"".join(
            (
                _HEADER.pack(
                    _MAGIC, _VERSION, len(self.floors), 0,
                    self.generation, self.time_floor, self.trust.version, len(self.trust.document), 0,
                ),
                *(
                    _FLOOR.pack(floor.product.encode(), floor.profile.encode(), floor.security_version)
                    for floor in self.floors
                ),
                self.trust.document,
            )
        )  # fmt: skip
        return body + _tag(key, body)

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes) -> DeviceState:
        """Return the state in `data`, whole and written with this key.

        Raises:
            StateError: it is damaged, cut short, another device's, or of another version.
        """
        body, tag = data[:-_TAG_SIZE], data[-_TAG_SIZE:]
        # Before anything is parsed.
        if not hmac.compare_digest(_tag(key, body), tag):
            raise StateError("state: it is damaged, or was not written with this device's state key")
        if len(body) < _HEADER.size:
            raise StateError(f"state: {len(body)} bytes, wanted at least {_HEADER.size}")
        magic, version, count, zero, generation, time_floor, trust_version, length, nought = _HEADER.unpack_from(body)
        if magic != _MAGIC or version != _VERSION or zero or nought:
            raise StateError(f"state: no state file of version {_VERSION}")
        document_at = _HEADER.size + count * _FLOOR.size
        if len(body) != document_at + length:
            raise StateError(f"state: {len(body)} bytes, its counts make {document_at + length}")
        records = _FLOOR.iter_unpack(body[_HEADER.size : document_at])
        return cls(
            generation=generation,
            floors=tuple(
                Floor(product=_name(product), profile=_name(profile), security_version=number)
                for product, profile, number in records
            ),
            time_floor=time_floor,
            trust=StoredTrust(version=trust_version, document=body[document_at:]),
        )


def _tag(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _DOMAIN + body, "sha256")


def _name(raw: bytes) -> str:
    # Whether it is one, `DeviceState` checks.
    return raw.rstrip(b"\0").decode("ascii", "replace")


def _with_floor(floors: tuple[Floor, ...], header: Header) -> tuple[Floor, ...]:
    mine = Floor(product=header.product, profile=header.profile, security_version=header.security_version)
    others = [floor for floor in floors if (floor.product, floor.profile) != (mine.product, mine.profile)]
    return tuple(sorted([*others, mine], key=lambda floor: (floor.product, floor.profile)))
