"""What the machine at hand says of itself; nothing is judged here, nothing is run and nothing is written.

The host makes a device profile of it: `edgepack.localprofile`. It is a snapshot: free memory and storage are other
figures a minute later.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
import sys
from pathlib import Path

from edgepack_runtime import engines
from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import EdgepackError

__all__ = ["Machine", "read_machine", "storage_folder"]

# All that is asked of /proc/cpuinfo and /proc/meminfo; the rest is long, and some of it is a serial number.
_TOLD = {"CPU implementer", "CPU part", "model name", "Features", "flags", "MemTotal", "MemAvailable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was read from the machine, before any judgement; texts are the files' own.

    `pointer_bits` is the Python process's, `memory_limit` a container's limit in bytes, `engines` as
    `edgepack_runtime.engines.installed` gives them, `free_bytes` is storage where `free_where` says.
    """

    machine: str
    pointer_bits: int
    cpuinfo: str
    meminfo: str
    memory_limit: int | None
    cores: int
    free_bytes: int
    free_where: str
    os: str
    libc: str
    python: str
    board: str
    compatible: str
    engines: tuple[tuple[str, str], ...]


def read_machine() -> Machine:
    """Return what this machine says of itself.

    Raises:
        EdgepackError: /proc/cpuinfo or /proc/meminfo cannot be read.
    """
    folder, where = storage_folder()
    return Machine(
        machine=platform.machine(),
        pointer_bits=struct.calcsize("P") * 8,
        cpuinfo=_told("/proc/cpuinfo"),
        meminfo=_told("/proc/meminfo"),
        memory_limit=_memory_limit(),
        cores=len(os.sched_getaffinity(0)),
        free_bytes=shutil.disk_usage(folder).free,
        free_where=where,
        os=_os_name(),
        libc=" ".join(platform.libc_ver()).strip(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        board=_may_read("/proc/device-tree/model") or _may_read("/sys/class/dmi/id/product_name"),
        compatible=_may_read("/proc/device-tree/compatible"),
        engines=engines.installed(),
    )


def storage_folder() -> tuple[Path, str]:
    """Return the folder whose free storage counts, and what it is.

    It is said in words: a profile is signed into bundles, where nobody's home folder belongs.
    """
    home = Path.home()
    return (home, "the home folder") if home.is_dir() else (Path.cwd(), "the current folder")


def _told(path: str) -> str:
    text = _may_read(path)
    if not text:
        raise EdgepackError(
            f"{path}: cannot be read, so this machine cannot be described",
            hint="name a device profile instead",
        )
    # Cores that are alike are told once: a server has hundreds of them.
    return "\n".join(dict.fromkeys(line for line in text.splitlines() if line.partition(":")[0].strip() in _TOLD))


def _may_read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _memory_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _may_read(path)
        # Without a limit version 2 says "max", and version 1 the largest page count there is.
        if text.isdecimal() and 0 < int(text) < 1 << 60:
            return int(text)
    return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()
