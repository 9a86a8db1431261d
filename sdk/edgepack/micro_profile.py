"""Profiles of microcontrollers and NPUs: no Linux, no file system, no runtime of ours; a model in flash and an arena.

Such a file says ``target``; it is found by name and read strictly, as that of a device is. `docs/microcontrollers.md`
explains it.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgepack._toml import MAX_TOML_BYTES, parse_toml
from edgepack.errors import ProfileError
from edgepack_runtime._fields import Fields, canonical_json
from edgepack_runtime._files import read_capped
from edgepack_runtime.capabilities import (
    SCHEMES,
    Source,
    take_each_once,
    take_line,
    take_positive,
    take_source,
)

__all__ = [
    "ACCELERATORS",
    "MICRO_ARCHITECTURES",
    "SCHEMA_VERSION",
    "Micro",
    "MicroBudget",
    "MicroHardware",
    "Npu",
    "find_micro",
    "list_micros",
]

SCHEMA_VERSION = 1
MICRO_ARCHITECTURES = ("armv6-m", "armv7-m", "armv7e-m", "armv8-m", "armv8.1-m", "riscv32", "xtensa")
ACCELERATORS = tuple(
    f"ethos-{name}"
    for name in (
        "u55-32", "u55-64", "u55-128", "u55-256", "u65-256", "u65-512",
        "u85-128", "u85-256", "u85-512", "u85-1024", "u85-2048",
    )
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,30}")
# It is handed to a command: letters, digits and underscores only.
_SETTING = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]{0,63}")
_ENGINE, _COMPILER = "tflite-micro", "ethos-u-vela"


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroHardware:
    """The board; `ram_bytes` and `flash_bytes` are what is built in, not what a model may use."""

    board: str
    soc: str
    arch: str
    cpu: str
    ram_bytes: int
    flash_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBudget:
    """What one model may take: the tensor arena, its bytes in flash, and beside an NPU its SRAM and a latency."""

    arena_bytes: int
    flash_bytes: int
    sram_bytes: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Npu:
    """An Ethos-U, and how vela is told of the system around it."""

    accelerator: str
    system_config: str
    memory_mode: str
    compiler_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Micro:
    """One kind of microcontroller board; `engine_version` is tflite-micro's, under which models are proven."""

    name: str
    description: str
    aliases: tuple[str, ...]
    hardware: MicroHardware
    engine_version: str
    budget: MicroBudget
    npu: Npu | None
    quantization: tuple[str, ...]
    sources: tuple[tuple[str, Source], ...]

    @property
    def engine(self) -> str:
        """Name and version of the interpreter, as in evidence."""
        return f"{_ENGINE} {self.engine_version}"

    def to_json(self) -> dict[str, object]:
        """Return the profile as the table `read_micro` reads."""
        hw, npu = self.hardware, self.npu
        budget: dict[str, object] = {
            name: getattr(self.budget, name)
            for name in ("arena_bytes", "flash_bytes", "sram_bytes", "latency_ms")
            if getattr(self.budget, name) is not None
        }
        table: dict[str, object] = {
            "schema": SCHEMA_VERSION,
            "target": "mcu" if npu is None else "npu",
            "name": self.name,
            "description": self.description,
            "aliases": list(self.aliases),
            "hardware": {
                name: getattr(hw, name) for name in ("board", "soc", "arch", "cpu", "ram_bytes", "flash_bytes")
            },
            "engine": {"name": _ENGINE, "version": self.engine_version},
            "budget": budget,
            "quantization": {"supported": list(self.quantization)},
            "sources": {path: source.to_json() for path, source in self.sources},
        }
        if npu is not None:
            table["npu"] = {
                "accelerator": npu.accelerator,
                "system_config": npu.system_config,
                "memory_mode": npu.memory_mode,
                "compiler": _COMPILER,
                "compiler_version": npu.compiler_version,
            }
        return table

    def digest(self) -> str:
        """Return the SHA-256 of the profile's canonical JSON, in hex."""
        return hashlib.sha256(canonical_json(self.to_json())).hexdigest()

    @classmethod
    def from_fields(cls, fields: Fields) -> Micro:
        """Return the profile read strictly from a table.

        Raises:
            SchemaError: a field is missing, unknown or wrong, or a figure has no source.
        """
        if (schema := fields.take("schema", int)) != SCHEMA_VERSION:
            fields.refuse("schema", f"version {schema} is not known here, this is version {SCHEMA_VERSION}")
        has_npu = fields.take_choice("target", ("mcu", "npu")) == "npu"
        aliases = fields.take_strings("aliases", ())
        name = fields.take("name", str)
        for one in (name, *aliases):
            if not _NAME.fullmatch(one):
                fields.refuse("name", f"{one[:64]!r} is no profile name (a-z, 0-9, '.', '_', '-'; at most 31)")
        engine, schemes = fields.take_table("engine"), fields.take_table("quantization")
        engine.take_choice("name", (_ENGINE,))
        profile = cls(
            name=name,
            description=take_line(fields, "description"),
            aliases=aliases,
            hardware=_hardware(fields.take_table("hardware")),
            engine_version=take_line(engine, "version", _VERSION, "0.dev20261023182759"),
            budget=_budget(fields.take_table("budget"), has_npu),
            npu=_npu(fields.take_table("npu")) if has_npu else None,
            quantization=take_each_once(schemes, "supported", SCHEMES),
            sources=_sources(fields.take_table("sources")),
        )
        for table in (engine, schemes, fields):
            table.finish()
        _check(profile, fields)
        return profile


def _hardware(fields: Fields) -> MicroHardware:
    hardware = MicroHardware(
        board=take_line(fields, "board"),
        soc=take_line(fields, "soc"),
        arch=fields.take_choice("arch", MICRO_ARCHITECTURES),
        cpu=take_line(fields, "cpu"),
        ram_bytes=take_positive(fields, "ram_bytes"),
        flash_bytes=take_positive(fields, "flash_bytes"),
    )
    fields.finish()
    return hardware


def _budget(fields: Fields, has_npu: bool) -> MicroBudget:
    # Nothing but vela's estimate can be held against a latency here.
    latency = fields.take("latency_ms", float, None) if has_npu else None
    budget = MicroBudget(
        arena_bytes=take_positive(fields, "arena_bytes"),
        flash_bytes=take_positive(fields, "flash_bytes"),
        sram_bytes=take_positive(fields, "sram_bytes") if has_npu else None,
        latency_ms=latency,
    )
    if latency is not None and not (math.isfinite(latency) and latency > 0):
        fields.refuse("latency_ms", f"expected a positive number, got {latency}")
    fields.finish()
    return budget


def _npu(fields: Fields) -> Npu:
    fields.take_choice("compiler", (_COMPILER,))
    npu = Npu(
        accelerator=fields.take_choice("accelerator", ACCELERATORS),
        system_config=take_line(fields, "system_config", _SETTING, "Ethos_U55_High_End_Embedded"),
        memory_mode=take_line(fields, "memory_mode", _SETTING, "Shared_Sram"),
        compiler_version=take_line(fields, "compiler_version", _VERSION, "5.2.0"),
    )
    fields.finish()
    return npu


def _sources(fields: Fields) -> tuple[tuple[str, Source], ...]:
    return tuple(sorted((path, take_source(fields, path)) for path in fields.names()))


def _check(profile: Micro, fields: Fields) -> None:
    wanted = {"hardware.ram_bytes", "hardware.flash_bytes", "engine.version", "quantization.supported"}
    table = profile.to_json()
    for part in ("budget", "npu"):
        members = table.get(part, {})
        wanted |= {f"{part}.{name}" for name in members if name != "compiler"}  # type: ignore[attr-defined]
    have = {path for path, _ in profile.sources}
    if missing := sorted(wanted - have):
        fields.refuse("sources", f"no source is given for {', '.join(missing)}")
    if unknown := sorted(have - wanted):
        fields.refuse("sources", f"{', '.join(unknown)} is no figure of this profile")
    hardware, budget = profile.hardware, profile.budget
    for name, room in (("arena_bytes", hardware.ram_bytes), ("flash_bytes", hardware.flash_bytes)):
        if getattr(budget, name) > room:
            fields.refuse(f"budget.{name}", f"{getattr(budget, name)} is more than the {room} there are")
    if profile.npu is not None and profile.quantization != ("full_integer",):
        fields.refuse("quantization.supported", "an Ethos-U computes in integers: expected full_integer alone")


def list_micros() -> tuple[Micro, ...]:
    """Return the microcontroller profiles edgepack ships, by name.

    Raises:
        ProfileError: their folder is missing, or a file cannot be read.
        SchemaError: a field of one is wrong.
    """
    package = Path(str(importlib.resources.files("edgepack")))
    # As in `edgepack.profiles`: inside a wheel's package, or at the root of a checkout.
    folders = [at / "device_profiles" / "micro" for at in (package, package.parents[1])]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise ProfileError(f"{folders[0]}: no such folder", hint="install edgepack again, or name a profile's file")
    return tuple(sorted((_read(path) for path in folder.glob("*.toml")), key=lambda profile: profile.name))


def find_micro(name_or_path: str) -> Micro | None:
    """Return the microcontroller profile of a name, an alias or a ``.toml`` file; None if it is no microcontroller's.

    Raises:
        ProfileError: the file cannot be read.
        SchemaError: a field of it is wrong.
    """
    if name_or_path.endswith(".toml") or os.sep in name_or_path:
        path = Path(name_or_path)
        # A file that is not there is refused by whoever looks for a device's profile next.
        return _read(path) if path.is_file() and "target" in _table(path) else None
    return next((p for p in list_micros() if name_or_path in (p.name, *p.aliases)), None)


def _read(path: Path) -> Micro:
    return Micro.from_fields(Fields(_table(path), path.name))


def _table(path: Path) -> dict[str, object]:
    return parse_toml(read_capped(path, MAX_TOML_BYTES), path.name, ProfileError)
