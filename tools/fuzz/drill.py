"""Planted bugs that a campaign must find: ``python -m tools.fuzz.run --drill``.

Each lies behind a few bytes that no seed has, so that chance does not find it and coverage does.
"""

from __future__ import annotations

import hashlib

from edgepack_runtime.errors import FormatError
from tools.fuzz.target import Target

__all__ = ["DRILLS"]

_SEEDS = (b"EP\1\0\0\0hello", b"nothing")


def _reached(data: bytes) -> bool:
    """Return whether an input got past the guards, one byte after the other."""
    if data[:2] != b"EP":
        raise FormatError("drill: no magic")
    if len(data) < 4:
        raise FormatError("drill: too short")
    return data[2] == 0xC3 and data[3] == 0x7A


def _untyped(data: bytes) -> None:
    if _reached(data):
        raise KeyError(data)


def _slow(data: bytes) -> None:
    if _reached(data):
        # In C, where the fuzzer's instruments slow nothing down: two seconds on a machine of 2026.
        hashlib.pbkdf2_hmac("sha256", data, b"salt", 4_000_000)


def _hungry(data: bytes) -> None:
    if _reached(data):
        bytearray(256 << 20)


def _hungry_in_secret(data: bytes) -> None:
    try:
        _hungry(data)
    except MemoryError:
        raise FormatError("drill: whatever went wrong is a refusal") from None


def _seeds() -> list[bytes]:
    return list(_SEEDS)


DRILLS = {
    f"drill_{run.__name__.strip('_')}": Target(run=run, errors=(FormatError,), seeds=_seeds)
    for run in (_untyped, _slow, _hungry, _hungry_in_secret)
}
