"""Device profiles: what a board is, which engine it runs, and what a model may take of it.

The schema is shared by both sides: the host reads TOML files, the device reads the copy signed into a bundle's
manifest. Every figure names its source, so that a refusal can be argued with. See ``docs/profiles.md``.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

from edgepack_runtime._fields import Fields, canonical_json

__all__ = [
    "ARCHITECTURES",
    "ENGINES",
    "FIGURES",
    "SCHEMA_VERSION",
    "SCHEMES",
    "SOURCE_KINDS",
    "Budget",
    "DeviceProfile",
    "EngineRequirement",
    "Hardware",
    "Software",
    "Source",
]

SCHEMA_VERSION = 1
ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
ENGINES = ("ai-edge-litert", "tflite-runtime")
# From the smallest model to the largest; `docs/conversion.md` says what each does.
SCHEMES = ("full_integer", "dynamic_range", "float16", "float32")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,30}")
_VERSION = re.compile(r"[0-9]{1,8}(\.[0-9]{1,8}){1,3}")
_LIBC = re.compile(r"(glibc|musl) [0-9]{1,4}\.[0-9]{1,4}")
_PYTHON = re.compile(r"3\.[0-9]{1,3}")
SOURCE_KINDS = ("measured", "published", "assumed")
_MAX_TEXT = 1000
# What moves a terminal's cursor, or breaks or turns a line. A list of its own: what Python calls printable differs
# from one version to the next, and other readers have to agree.
_UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FEATURE = re.compile("[!-~]{1,64}")
# The manifest is JSON, whose readers agree on integers below this only.
_MAX_INTEGER = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The board and its processor; `ram_bytes` is what is soldered on, not what a model may use."""

    board: str
    soc: str
    arch: str
    cpu: str
    cores: int
    cpu_features: tuple[str, ...]
    ram_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """The userland the runtime is installed into."""

    os: str
    libc: str
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequirement:
    """The inference engine in the exact version the profile is proven for."""

    name: str
    version: str
    num_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one model may take of the device.

    `ram_bytes` is what loading it and running it once add to the process (Python, numpy and the engine are there
    already), `storage_bytes` what its bundle may weigh, `latency_ms` how long one run may last.
    """

    ram_bytes: int
    storage_bytes: int
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a figure comes from: ``measured``, ``published`` or ``assumed``, and by what."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """One kind of device; `name` is what bundles are built for and devices are configured as."""

    name: str
    description: str
    aliases: tuple[str, ...]
    hardware: Hardware
    software: Software
    engine: EngineRequirement
    budget: Budget
    quantization: tuple[str, ...]
    sources: tuple[tuple[str, Source], ...]

    def to_json(self) -> dict[str, object]:
        """Return the profile as the table `from_fields` reads."""
        hw, sw, engine, budget = self.hardware, self.software, self.engine, self.budget
        limits: dict[str, object] = {"ram_bytes": budget.ram_bytes, "storage_bytes": budget.storage_bytes}
        if budget.latency_ms is not None:
            limits["latency_ms"] = budget.latency_ms
        return {
            "schema": SCHEMA_VERSION,
            "name": self.name,
            "description": self.description,
            "aliases": list(self.aliases),
            "hardware": {
                "board": hw.board,
                "soc": hw.soc,
                "arch": hw.arch,
                "cpu": hw.cpu,
                "cores": hw.cores,
                "cpu_features": list(hw.cpu_features),
                "ram_bytes": hw.ram_bytes,
            },
            "software": {"os": sw.os, "libc": sw.libc, "python": sw.python},
            "engine": {"name": engine.name, "version": engine.version, "num_threads": engine.num_threads},
            "budget": limits,
            "quantization": {"supported": list(self.quantization)},
            "sources": {path: {"kind": s.kind, "text": s.text} for path, s in self.sources},
        }

    def digest(self) -> bytes:
        """Return the SHA-256 of the profile's canonical JSON: 32 bytes that change with any field."""
        return hashlib.sha256(canonical_json(self.to_json())).digest()

    @classmethod
    def from_fields(cls, fields: Fields) -> DeviceProfile:
        """Return the profile read strictly from a table.

        Raises:
            SchemaError: a field is missing, unknown or wrong, or a figure has no source.
        """
        if (schema := fields.take("schema", int)) != SCHEMA_VERSION:
            fields.refuse("schema", f"version {schema} is not known here, this is version {SCHEMA_VERSION}")
        name = fields.take("name", str)
        if not _NAME.fullmatch(name):
            fields.refuse("name", f"{name!r} is no profile name (a-z, 0-9, '.', '_', '-'; at most 31)")
        aliases = _aliases(fields, name)
        quantization = fields.take_table("quantization")
        profile = cls(
            name=name,
            description=_text(fields, "description"),
            aliases=aliases,
            hardware=_hardware(fields.take_table("hardware")),
            software=_software(fields.take_table("software")),
            engine=_engine(fields.take_table("engine")),
            budget=_budget(fields.take_table("budget")),
            quantization=_schemes(quantization),
            sources=_sources(fields.take_table("sources")),
        )
        fields.finish()
        _check_sources(profile, fields)
        _check_together(profile, fields)
        return profile


def _positive(fields: Fields, name: str) -> int:
    value = fields.take(name, int)
    # The number itself is not quoted: Python refuses to print an integer of thousands of digits.
    if not 1 <= value < _MAX_INTEGER:
        fields.refuse(name, "expected a positive integer below 2^53")
    return value


def _text(fields: Fields, name: str, pattern: re.Pattern[str] | None = None, example: str = "") -> str:
    value = fields.take(name, str)
    # It is shown in terminals, where an escape sequence would be obeyed.
    if not value or len(value) > _MAX_TEXT or _UNSHOWN.search(value):
        fields.refuse(name, f"expected 1 to {_MAX_TEXT} printable characters on one line")
    if pattern is not None and not pattern.fullmatch(value):
        fields.refuse(name, f"expected text such as {example!r}, got {value!r}")
    return value


def _aliases(fields: Fields, name: str) -> tuple[str, ...]:
    aliases = fields.take_strings("aliases", ())
    for alias in aliases:
        if not _NAME.fullmatch(alias):
            fields.refuse("aliases", f"{alias!r} is no profile name (a-z, 0-9, '.', '_', '-'; at most 31)")
    if len({name, *aliases}) != 1 + len(aliases):
        fields.refuse("aliases", "an alias is there twice, or is the name itself")
    return aliases


def _hardware(fields: Fields) -> Hardware:
    hardware = Hardware(
        board=_text(fields, "board"),
        soc=_text(fields, "soc"),
        arch=fields.take_choice("arch", ARCHITECTURES),
        cpu=_text(fields, "cpu"),
        cores=_positive(fields, "cores"),
        cpu_features=fields.take_strings("cpu_features"),
        ram_bytes=_positive(fields, "ram_bytes"),
    )
    for feature in hardware.cpu_features:
        if not _FEATURE.fullmatch(feature):
            fields.refuse("cpu_features", f"{feature[:64]!r} is no flag as /proc/cpuinfo has them")
    fields.finish()
    return hardware


def _software(fields: Fields) -> Software:
    software = Software(
        os=_text(fields, "os"),
        libc=_text(fields, "libc", _LIBC, "glibc 2.36"),
        python=_text(fields, "python", _PYTHON, "3.11"),
    )
    fields.finish()
    return software


def _engine(fields: Fields) -> EngineRequirement:
    engine = EngineRequirement(
        name=fields.take_choice("name", ENGINES),
        version=_text(fields, "version", _VERSION, "2.14.0"),
        num_threads=_positive(fields, "num_threads"),
    )
    fields.finish()
    return engine


def _budget(fields: Fields) -> Budget:
    budget = Budget(
        ram_bytes=_positive(fields, "ram_bytes"),
        storage_bytes=_positive(fields, "storage_bytes"),
        latency_ms=fields.take("latency_ms", float, None),
    )
    # TOML has inf and nan, and JSON does not.
    if budget.latency_ms is not None and not (math.isfinite(budget.latency_ms) and budget.latency_ms > 0):
        fields.refuse("latency_ms", f"expected a positive number, got {budget.latency_ms}")
    fields.finish()
    return budget


def _schemes(fields: Fields) -> tuple[str, ...]:
    schemes = fields.take_strings("supported")
    for scheme in schemes:
        if scheme not in SCHEMES:
            fields.refuse("supported", f"{scheme!r} is none of {', '.join(SCHEMES)}")
    if not schemes or len(set(schemes)) != len(schemes):
        fields.refuse("supported", "expected at least one scheme, each once, the preferred one first")
    fields.finish()
    return schemes


def _sources(fields: Fields) -> tuple[tuple[str, Source], ...]:
    sources = []
    for path in fields.names():
        entry = fields.take_table(path)
        kind, text = entry.take_choice("kind", SOURCE_KINDS), _text(entry, "text")
        entry.finish()
        sources.append((path, Source(kind=kind, text=text)))
    return tuple(sorted(sources, key=lambda item: item[0]))


# Each needs a source; a latency that is given needs one too.
FIGURES = (
    "hardware.cores",
    "hardware.cpu_features",
    "hardware.ram_bytes",
    "engine.version",
    "engine.num_threads",
    "budget.ram_bytes",
    "budget.storage_bytes",
    "quantization.supported",
)


def _check_sources(profile: DeviceProfile, fields: Fields) -> None:
    wanted = set(FIGURES) | ({"budget.latency_ms"} if profile.budget.latency_ms is not None else set())
    have = {path for path, _ in profile.sources}
    if missing := sorted(wanted - have):
        fields.refuse("sources", f"no source is given for {', '.join(missing)}")
    if unknown := sorted(have - wanted):
        fields.refuse("sources", f"{', '.join(unknown)} is no figure of this profile")


def _check_together(profile: DeviceProfile, fields: Fields) -> None:
    hardware, engine, budget = profile.hardware, profile.engine, profile.budget
    if engine.name == "ai-edge-litert" and hardware.arch == "armv7l":
        fields.refuse("engine.name", "there is no ai-edge-litert for armv7l in any version; use tflite-runtime")
    if engine.num_threads > hardware.cores:
        fields.refuse("engine.num_threads", f"{engine.num_threads} threads on {hardware.cores} cores")
    if budget.ram_bytes > hardware.ram_bytes:
        fields.refuse("budget.ram_bytes", f"{budget.ram_bytes} is more than the {hardware.ram_bytes} there are")
