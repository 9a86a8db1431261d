"""Documents as `edgepack-device probe` prints them, of a Raspberry Pi 4 that nobody has."""

from __future__ import annotations

import json
from typing import Any

from edgepack.engine_ops import probed_table
from edgepack.flatbuffer import operator_name
from edgepack_runtime.op_table import MAX_OPERATORS
from edgepack_runtime.probing import probe_models

CPUINFO = "Features\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08"
MACHINE = {
    "machine": "aarch64",
    "pointer_bits": 64,
    "cpuinfo": CPUINFO,
    "meminfo": "MemTotal:        3884276 kB\nMemAvailable:    3000000 kB",
    "cores": 4,
    "free_bytes": 10_000_000_000,
    "free_where": "the home folder",
    "os": "Debian GNU/Linux 12 (bookworm)",
    "libc": "glibc 2.36",
    "python": "3.11",
    "board": "Raspberry Pi 4 Model B Rev 1.5\0",
    "compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
}


def operators(name: str, version: str) -> list[int]:
    table = probed_table(name, version) or {}
    return [table.get(operator_name(code), 0) for code in range(MAX_OPERATORS)]


def engine(name: str = "ai-edge-litert", version: str = "2.3.0", **changes: Any) -> dict[str, Any]:
    models = [{"name": m.name, "verdict": "right", "error": 0.002, "reason": ""} for m in probe_models()]
    made = {"name": name, "version": version, "problem": "", "operators": operators(name, version), "models": models}
    made |= {"threads": [[1, 1.0], [2, 0.6], [3, 0.45], [4, 0.46]], "num_threads": 3, "process_bytes": 45_000_000}
    return made | changes


def tried(changes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the models, all right but for those whose name begins with a key of `changes`."""
    models = []
    for model in engine()["models"]:
        change = next((new for start, new in changes.items() if model["name"].startswith(start)), None)
        models.append(model if change is None else {"name": model["name"], "reason": ""} | change)
    return models


def document(*engines: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {
        "edgepack_probe": 1,
        "runtime": "0.1.0",
        "created": 1_795_486_089,
        "machine": MACHINE | machine,
        "write_bytes_per_second": 20_000_000,
        "engines": list(engines) or [engine()],
    }


def as_bytes(made: object) -> bytes:
    return json.dumps(made).encode()
