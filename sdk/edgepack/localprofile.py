"""What the machine at hand is, as a device profile named ``local``.

`edgepack_runtime.probe.read_machine` looks, `profile_of` judges what was seen, on this machine or on another.
"""

from __future__ import annotations

import re

from edgepack_runtime._fields import Fields
from edgepack_runtime.errors import EdgepackError, EngineError
from edgepack_runtime.probe import Machine, read_machine
from edgepack_runtime.profile import (
    ARCHITECTURES,
    ENGINES,
    SCHEMES,
    Budget,
    DeviceProfile,
    EngineRequirement,
    Hardware,
    Software,
    Source,
)

__all__ = ["LOCAL", "local_profile", "profile_of"]

LOCAL = "local"
_RAM_SHARE = 2  # a half of what is available now
_STORAGE_SHARE = 2  # a half of what is free: an update needs room beside the bundle it replaces
_MAX_FLAGS = 512

_MACHINES = {
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "armv7l",
    "armv8l": "armv7l",  # a 64-bit core that a 32-bit kernel personality runs
    "x86_64": "x86_64",
    "amd64": "x86_64",
}
# A 64-bit kernel under a 32-bit userland, as 32-bit Raspberry Pi OS has it: wheels go by the userland.
_EVERYWHERE = SCHEMES[:4]
# Beside them. Int4 and int2 weights are for ai-edge-litert: here they give wrong numbers, or a crash.
_TFLITE = ("int16x8", "weight_only_int8")
_NARROW = {"aarch64": "armv7l", "armv7l": "armv7l"}

# Arm's part numbers (implementer 0x41), because 64-bit kernels give no model name; as in Linux's
# arch/arm64/include/asm/cputype.h and in each core's Technical Reference Manual under "MIDR_EL1".
_ARM_PARTS = {
    0xC07: "Cortex-A7",
    0xC09: "Cortex-A9",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}


def local_profile() -> DeviceProfile:
    """Return the machine at hand as the profile ``local``.

    Raises:
        EdgepackError: it is of an architecture or system no engine exists for, or /proc is missing.
        EngineError: no engine is installed.
    """
    return profile_of(read_machine())


def profile_of(machine: Machine) -> DeviceProfile:
    """Return the profile of `machine`; what is not measured is said to be assumed.

    Raises:
        EdgepackError: its architecture or libc is none that an engine exists for, or a figure is missing.
        EngineError: no engine is installed.
    """
    arch = _architecture(machine)
    engine, version = _engine(machine.engines)
    total, available = (_kib(machine.meminfo, field) for field in ("MemTotal", "MemAvailable"))
    limit = machine.memory_limit
    if limit is not None:
        total, available = min(total, limit), min(available, limit)
    held = "" if limit is None else ", held down by the control group's limit"
    profile = DeviceProfile(
        name=LOCAL,
        description="The machine at hand, as it was when it was asked",
        aliases=(),
        hardware=Hardware(
            board=_printable(machine.board),
            soc=_printable(machine.compatible.rstrip("\0").split("\0")[-1]),
            arch=arch,
            cpu=_cpu(machine.cpuinfo),
            cores=machine.cores,
            cpu_features=_features(machine.cpuinfo),
            ram_bytes=total,
        ),
        software=Software(os=_printable(machine.os), libc=_libc(machine.libc), python=machine.python),
        engine=EngineRequirement(name=engine, version=version, num_threads=machine.cores),
        budget=Budget(
            ram_bytes=max(1, available // _RAM_SHARE),
            storage_bytes=max(1, machine.free_bytes // _STORAGE_SHARE),
        ),
        quantization=_preference(arch, engine),
        sources=tuple(
            sorted(
                {
                    "hardware.cores": _measured("sched_getaffinity: the cores this process may use"),
                    "hardware.cpu_features": _measured("/proc/cpuinfo: flags that every core has"),
                    "hardware.ram_bytes": _measured(f"/proc/meminfo: MemTotal{held}"),
                    "engine.version": _measured("importlib.metadata: the version that is installed"),
                    "engine.num_threads": _assumed("one thread for each core"),
                    "budget.ram_bytes": _assumed(f"a half of /proc/meminfo's MemAvailable{held}"),
                    "budget.storage_bytes": _assumed(
                        f"a half of what is free where {machine.free_where} is: an update stands beside "
                        "the bundle it replaces"
                    ),
                    "quantization.supported": _assumed(_preference_reason(arch, engine)),
                }.items()
            )
        ),
    )
    # The same strict reader that every other profile has passed.
    return DeviceProfile.from_fields(Fields(profile.to_json(), "this machine"))


def _measured(text: str) -> Source:
    return Source(kind="measured", text=text)


def _assumed(text: str) -> Source:
    return Source(kind="assumed", text=text)


def _printable(text: str) -> str:
    kept = "".join(c for c in text.strip("\0 \n") if c.isprintable())[:200]
    return kept or "unknown"


def _architecture(machine: Machine) -> str:
    arch = _MACHINES.get(machine.machine.lower())
    if arch is not None and machine.pointer_bits == 32:
        arch = _NARROW.get(arch)
    if arch is None:
        raise EdgepackError(
            f"this machine is {machine.machine or 'unnamed'} with a {machine.pointer_bits}-bit Python, "
            f"expected one of {', '.join(ARCHITECTURES)}",
            hint="no TFLite engine has a Python wheel for it",
        )
    return arch


def _engine(found: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    versions = dict(found)
    for name in ENGINES:
        if name in versions:
            return name, versions[name]
    raise EngineError(
        f"none of {', '.join(ENGINES)} is installed here",
        hint="install one: python3 -m pip install ai-edge-litert; "
        "on 32-bit ARM: python3 -m pip install 'tflite-runtime==2.14.0' 'numpy<2'",
    )


def _libc(text: str) -> str:
    match = re.match(r"(glibc|musl) [0-9]+\.[0-9]+", text)
    if match is None:
        raise EdgepackError(
            f"this Python is linked with {_printable(text)!r}, expected glibc",
            hint="the engines' wheels are for glibc",
        )
    return match.group()


def _kib(meminfo: str, field: str) -> int:
    match = re.search(rf"^{field}:\s+([0-9]{{1,15}}) kB$", meminfo, re.MULTILINE)
    if match is None:
        raise EdgepackError(f"/proc/meminfo has no {field}", hint="name a device profile instead")
    return int(match.group(1)) * 1024


def _values(cpuinfo: str, *fields: str) -> list[str]:
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() in fields]


def _cpu(cpuinfo: str) -> str:
    if "0x41" in _values(cpuinfo, "CPU implementer"):
        parts = dict.fromkeys(_values(cpuinfo, "CPU part"))
        return _printable(" + ".join(_ARM_PARTS.get(_hex(part), f"Arm part {part}") for part in parts))
    names = dict.fromkeys(_values(cpuinfo, "model name"))
    return _printable(" + ".join(names))


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1


def _features(cpuinfo: str) -> tuple[str, ...]:
    cores = [line.split() for line in _values(cpuinfo, "Features", "flags")]
    if not cores:
        return ()
    # Where cores differ, a thread may land on any of them.
    common = set(cores[0]).intersection(*cores[1:])
    return tuple(dict.fromkeys(flag for flag in cores[0] if flag in common and flag.isprintable()))[:_MAX_FLAGS]


def _slow_int8(arch: str, engine: str) -> bool:
    return arch == "x86_64" and engine == "tflite-runtime"


def _preference(arch: str, engine: str) -> tuple[str, ...]:
    order = tuple(reversed(_EVERYWHERE)) if _slow_int8(arch, engine) else _EVERYWHERE
    return (*order, *(_TFLITE if engine == "tflite-runtime" else SCHEMES[len(_EVERYWHERE) :]))


def _preference_reason(arch: str, engine: str) -> str:
    if _slow_int8(arch, engine):
        return "tflite-runtime has fast kernels for float only on x86-64, so the largest comes first"
    return "the engine runs all of them; the smallest and fastest comes first"
