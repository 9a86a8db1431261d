"""What one input may cost: a second of processor time and 64 MiB of memory."""

from __future__ import annotations

import ctypes
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["MAX_BYTES", "MAX_SECONDS", "OverLimit", "OverTime", "refuse_hidden_memory_error", "run_within_limits"]

MAX_SECONDS = 1.0
MAX_BYTES = 64 << 20
_PAGE = resource.getpagesize()
_HARD = resource.getrlimit(resource.RLIMIT_AS)[1]
# What libraries in C say: zstd, and the system.
_NO_MEMORY = re.compile(r"not enough memory|[Aa]llocation error|[Cc]annot allocate")
# glibc keeps what large buffers leave behind, up to 64 MiB, and would serve the next one from it without asking the
# kernel. A threshold that is set stays: large buffers come and go one by one.
_M_MMAP_THRESHOLD = -3
_C = ctypes.CDLL(None)
if hasattr(_C, "mallopt"):
    _C.mallopt(_M_MMAP_THRESHOLD, 128 << 10)


class OverLimit(AssertionError):
    """An input took more than it may; never a verdict, always a finding."""


class OverTime(OverLimit):
    """It took too long, which under a fuzzer's instruments is a suspicion only: they slow Python down."""


def run_within_limits(run: Callable[[bytes], None], data: bytes) -> None:
    """Run one input; what it needs beyond `MAX_BYTES` of address space is not there.

    Raises:
        OverTime: it took longer than `MAX_SECONDS`.
        OverLimit: it ran out of its memory.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE + MAX_BYTES, _HARD))
    before = time.process_time()
    try:
        run(data)
    except MemoryError as error:
        raise OverLimit(_too_much(data)) from error
    finally:
        took = time.process_time() - before
        resource.setrlimit(resource.RLIMIT_AS, (_HARD, _HARD))
    if took > MAX_SECONDS:
        raise OverTime(f"{took:.1f} s for {len(data)} bytes of input, at most {MAX_SECONDS:.1f}")


def refuse_hidden_memory_error(error: BaseException, data: bytes) -> None:
    """Refuse a refusal that was made of a `MemoryError`: a parser that allocates whatever an input claims, and lives.

    Raises:
        OverLimit: memory ran out on the way to `error`.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or _NO_MEMORY.search(str(seen)):
            raise OverLimit(_too_much(data)) from error
        # Also behind `raise … from None`, which hides it from people only.
        seen = seen.__cause__ or seen.__context__


def _too_much(data: bytes) -> str:
    return f"more than {MAX_BYTES >> 20} MiB for {len(data)} bytes of input"
