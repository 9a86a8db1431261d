"""Process start to the first output, and the memory of it: the bundle's process and the bare engine's, by turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.bench.figures import Figure
from tools.bench.subjects import Subject

__all__ = ["process_figures"]

_CHILD = Path(__file__).with_name("child.py")
_MIB = 1024 * 1024
# A start is held to less where the model is small: reading and deciphering a large one takes its time.
_SMALL_MODEL, _SMALL_RATIO, _LARGE_RATIO = 5_000_000, 1.05, 1.15
_MORE_PEAK, _MORE_UNEVICTABLE = 12 * _MIB, 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    seconds: float
    peak: int
    unevictable: int


def process_figures(subject: Subject, rounds: int) -> Iterator[Figure]:
    """Give the ratio of the two starts, and what the bundle's process takes more of memory."""
    bare = ("bare", subject.bare)
    bundle = ("bundle", subject.bundle, subject.trust, subject.device_key)
    # The first of each fills the caches of the disk and of Python's compiled files.
    pairs = [(_measured(*bundle), _measured(*bare)) for _ in range(rounds + 1)][1:]
    yield Figure(
        what=f"{subject.name}: start to first output, bundle / bare file",
        value=statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs),
        unit="x",
        goal=_SMALL_RATIO if subject.size <= _SMALL_MODEL else _LARGE_RATIO,
    )
    yield Figure(
        what=f"{subject.name}: the same, least time of each",
        value=min(ours.seconds for ours, _ in pairs) / min(theirs.seconds for _, theirs in pairs),
        unit="x",
    )
    yield Figure(
        what=f"{subject.name}: peak RSS over the bare engine's",
        value=statistics.median(ours.peak - theirs.peak for ours, theirs in pairs) / _MIB,
        unit="MiB",
        goal=_MORE_PEAK / _MIB,
    )
    yield Figure(
        what=f"{subject.name}: unevictable memory over the bare engine's, per model size",
        value=statistics.median(ours.unevictable - theirs.unevictable for ours, theirs in pairs) / subject.size,
        unit="x",
        goal=_MORE_UNEVICTABLE,
    )


def _measured(*arguments: object) -> _Process:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(_CHILD), *map(str, arguments)], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    peak, unevictable, _ = map(int, done.stdout.split())
    return _Process(seconds=seconds, peak=peak, unevictable=unevictable)
