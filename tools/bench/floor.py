"""What verification and decryption cost at least on this machine: bytes through SHA-256 and AES-256-GCM."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tools.bench.figures import Figure

__all__ = ["floor_figures"]

_BLOCK = bytes(1 << 20)
_BLOCKS = 32


def floor_figures(rounds: int) -> Iterator[Figure]:
    """Give both speeds on one core, and the milliseconds that 100 MB take on two."""
    cipher = AESGCM(bytes(32))
    sealed = cipher.encrypt(bytes(12), _BLOCK, None)
    hashing = _speed(lambda: hashlib.sha256(_BLOCK).digest(), rounds)
    opening = _speed(lambda: cipher.decrypt(bytes(12), sealed, None), rounds)
    yield Figure(what="SHA-256 on one core", value=hashing / 1e9, unit="GB/s")
    yield Figure(what="AES-256-GCM on one core", value=opening / 1e9, unit="GB/s")
    milliseconds = 1e8 * (1 / hashing + 1 / opening) / 2 * 1e3
    yield Figure(what="both for 100 MB, spread over two cores", value=milliseconds, unit="ms")


def _speed(work: Callable[[], object], rounds: int) -> float:
    """Return bytes a second."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(_BLOCKS):
            work()
        seconds.append(time.perf_counter() - start)
    return len(_BLOCK) * _BLOCKS / statistics.median(seconds)
