"""The front of a bundle file: preamble, signed bytes, signatures and grants. Layout only, nothing believed.

`docs/bundle-format.md` is the specification; "step N" is a step of its section "Reading a bundle". The signed bytes
stay opaque here: they are parsed by `edgepack_runtime.table`, and only after `edgepack_runtime.verify` has checked
the signatures over them.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TypeVar

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import FormatError

__all__ = [
    "GRANT_SIZES",
    "KEY_ID_SIZE",
    "MAGIC",
    "MAX_GRANTS_LENGTH",
    "MAX_SIGNATURES",
    "MAX_SIGNATURES_LENGTH",
    "MAX_SIGNED_LENGTH",
    "PREAMBLE_SIZE",
    "Container",
    "Grant",
    "Preamble",
    "Signature",
    "assemble_front",
    "pack_grants",
    "pack_signatures",
    "parse_grants",
    "parse_signatures",
]

MAGIC = b"\x89EPK\r\n\x1a\n"
PREAMBLE_SIZE = 32
MAX_SIGNED_LENGTH = 512 * 1024
MAX_SIGNATURES_LENGTH = 64 * 1024
MAX_GRANTS_LENGTH = 1024 * 1024
MAX_SIGNATURES = 16
KEY_ID_SIZE = 32
# Grant kind -> exact size of the sealed content key: HPKE enc (32 or 65) + 32 + tag 16; RSA-3072 modulus.
GRANT_SIZES = {1: 80, 2: 113, 3: 384}

_PREAMBLE = struct.Struct("<8sIIIIQ")
_COUNT = struct.Struct("<H")
_SIGNATURE = struct.Struct(f"<{KEY_ID_SIZE}sH")
_GRANT = struct.Struct(f"<BBH{KEY_ID_SIZE}s")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature over the signed region; which algorithm it is, only the trusted key says."""

    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The content key, sealed for the holder of one key; `kind` is one of `edgepack_runtime.grants.GrantKind`."""

    kind: int
    key_id: bytes
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preamble:
    """The lengths of the file's four parts; the only thing read before the signatures are checked."""

    signed_length: int
    signatures_length: int
    grants_length: int
    payload_length: int

    @property
    def front_length(self) -> int:
        """Bytes before the payload, the preamble included."""
        return PREAMBLE_SIZE + self.signed_length + self.signatures_length + self.grants_length

    @property
    def file_length(self) -> int:
        """Bytes of the whole file."""
        return self.front_length + self.payload_length

    @classmethod
    def parse(cls, data: bytes) -> Preamble:
        """Return the preamble at the start of `data` (steps 1 and 2).

        Raises:
            FormatError: too short, another magic, a length above its cap, or a reserved byte in use.
        """
        if len(data) < PREAMBLE_SIZE:
            raise FormatError(f"preamble: {len(data)} bytes, wanted {PREAMBLE_SIZE}", hint=_no_bundle_hint(data))
        magic, signed, signatures, grants, reserved, payload = _PREAMBLE.unpack_from(data)
        if magic != MAGIC:
            raise FormatError("preamble: this is no edgepack bundle (wrong magic)", hint=_no_bundle_hint(data))
        for part, length, cap in (
            ("signed region", signed, MAX_SIGNED_LENGTH),
            ("signatures", signatures, MAX_SIGNATURES_LENGTH),
            ("grants", grants, MAX_GRANTS_LENGTH),
        ):
            if length > cap:
                raise FormatError(f"preamble: {part} of {length} bytes, at most {cap} are allowed")
        if reserved != 0:
            raise FormatError(f"preamble: reserved field is {reserved:#x}, wanted 0")
        return cls(
            signed_length=signed,
            signatures_length=signatures,
            grants_length=grants,
            payload_length=payload,
        )

    def pack(self) -> bytes:
        """Return the 32 bytes `parse` reads."""
        return _PREAMBLE.pack(
            MAGIC, self.signed_length, self.signatures_length, self.grants_length, 0, self.payload_length
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A bundle's front as found: nothing in it is to be believed, `verify()` is the only way on."""

    preamble: Preamble
    signed: bytes = field(repr=False)
    signatures: tuple[Signature, ...]
    grants: tuple[Grant, ...]

    @classmethod
    def from_front(cls, front: bytes, file_length: int) -> Container:
        """Return the container whose bytes before the payload are `front` (steps 1 to 4).

        Args:
            front: exactly the first `Preamble.front_length` bytes of the file.
            file_length: the length of the whole file, payload included.

        Raises:
            FormatError: a length is wrong, or the signatures or grants are not well-formed.
        """
        preamble = Preamble.parse(front)
        if file_length != preamble.file_length:
            raise FormatError(
                f"the file has {file_length} bytes, its preamble says {preamble.file_length}",
                hint="the file is cut short or was appended to; copy it again",
            )
        if len(front) != preamble.front_length:
            raise FormatError(f"front: {len(front)} bytes, the preamble says {preamble.front_length}")
        signatures_at = PREAMBLE_SIZE + preamble.signed_length
        grants_at = signatures_at + preamble.signatures_length
        return cls(
            preamble=preamble,
            signed=front[PREAMBLE_SIZE:signatures_at],
            signatures=parse_signatures(front[signatures_at:grants_at]),
            grants=parse_grants(front[grants_at:]),
        )


def parse_signatures(block: bytes) -> tuple[Signature, ...]:
    """Return the signatures of a signatures block (step 4).

    Raises:
        FormatError: none, too many, cut short, left-over bytes, or key ids not strictly ascending.
    """
    found = _parse_block("signatures", block, _parse_signature)
    if not 1 <= len(found) <= MAX_SIGNATURES:
        raise FormatError(f"signatures: {len(found)} of them, wanted 1 to {MAX_SIGNATURES}")
    _check_ascending("signatures", [signature.key_id for signature in found])
    return found


def pack_signatures(signatures: Sequence[Signature]) -> bytes:
    """Return the block `parse_signatures` reads, in the one order it accepts.

    Raises:
        FormatError: none, too many, two by one key, or more bytes than allowed.
    """
    block = _COUNT.pack(len(signatures)) + b"".join(
        _SIGNATURE.pack(s.key_id, len(s.value)) + s.value for s in sorted(signatures, key=lambda s: s.key_id)
    )
    parse_signatures(block)
    return _capped("signatures", block, MAX_SIGNATURES_LENGTH)


def parse_grants(block: bytes) -> tuple[Grant, ...]:
    """Return the grants of a grants block or of a sidecar file, which holds just that (step 4).

    A kind that is unknown here is kept: it is another reader's grant.

    Raises:
        FormatError: cut short, left-over bytes, a size its kind cannot have, or key ids not strictly ascending.
    """
    found = _parse_block("grants", block, _parse_grant)
    _check_ascending("grants", [grant.key_id for grant in found])
    return found


def pack_grants(grants: Sequence[Grant]) -> bytes:
    """Return the block `parse_grants` reads, in the one order it accepts.

    Raises:
        FormatError: two for one key, a size its kind cannot have, or more bytes than allowed.
    """
    block = _COUNT.pack(len(grants)) + b"".join(
        _GRANT.pack(g.kind, 0, len(g.sealed), g.key_id) + g.sealed for g in sorted(grants, key=lambda g: g.key_id)
    )
    parse_grants(block)
    return _capped("grants", block, MAX_GRANTS_LENGTH)


def assemble_front(
    signed: bytes, signatures: Sequence[Signature], grants: Sequence[Grant], payload_length: int
) -> bytes:
    """Return everything that stands before the payload.

    Raises:
        FormatError: a part is malformed or longer than allowed.
    """
    signatures_block, grants_block = pack_signatures(signatures), pack_grants(grants)
    _capped("signed region", signed, MAX_SIGNED_LENGTH)
    preamble = Preamble(
        signed_length=len(signed),
        signatures_length=len(signatures_block),
        grants_length=len(grants_block),
        payload_length=payload_length,
    )
    return preamble.pack() + signed + signatures_block + grants_block


def _parse_block(part: str, block: bytes, parse_one: Callable[[bytes, int], tuple[T, int]]) -> tuple[T, ...]:
    if len(block) < _COUNT.size:
        raise FormatError(f"{part}: {len(block)} bytes, wanted at least {_COUNT.size}")
    (count,) = _COUNT.unpack_from(block)
    at, found = _COUNT.size, []
    for _ in range(count):
        item, at = parse_one(block, at)
        found.append(item)
    if at != len(block):
        raise FormatError(f"{part}: {len(block) - at} bytes are left over after {count} items")
    return tuple(found)


def _parse_signature(block: bytes, at: int) -> tuple[Signature, int]:
    start = at + _SIGNATURE.size
    if start > len(block):
        raise FormatError("signatures: cut short")
    key_id, length = _SIGNATURE.unpack_from(block, at)
    if start + length > len(block):
        raise FormatError("signatures: cut short")
    return Signature(key_id=key_id, value=block[start : start + length]), start + length


def _parse_grant(block: bytes, at: int) -> tuple[Grant, int]:
    start = at + _GRANT.size
    if start > len(block):
        raise FormatError("grants: cut short")
    kind, reserved, length, key_id = _GRANT.unpack_from(block, at)
    if reserved != 0:
        raise FormatError(f"grants: reserved byte is {reserved:#x}, wanted 0")
    if length != GRANT_SIZES.get(kind, length):
        raise FormatError(f"grants: {length} bytes for kind {kind}, wanted {GRANT_SIZES[kind]}")
    if start + length > len(block):
        raise FormatError("grants: cut short")
    return Grant(kind=kind, key_id=key_id, sealed=block[start : start + length]), start + length


def _check_ascending(part: str, key_ids: list[bytes]) -> None:
    # One order and no key twice: there is one way to write a block, and one key can never count as two.
    for before, after in itertools.pairwise(key_ids):
        if not before < after:
            raise FormatError(f"{part}: key ids {before.hex()[:16]}, {after.hex()[:16]} are not strictly ascending")


def _capped(part: str, data: bytes, cap: int) -> bytes:
    if len(data) > cap:
        raise FormatError(f"{part}: {len(data)} bytes, at most {cap} are allowed")
    return data


def _no_bundle_hint(data: bytes) -> str | None:
    if data[4:8] == b"TFL3":
        return "this is a plain .tflite model; pack it with `edgepack build`"
    if data[:4] == MAGIC[:4]:
        return "the file was damaged by a text-mode transfer or cut short; copy it again in binary mode"
    return None
