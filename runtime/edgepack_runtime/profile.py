"""Device profiles: what a board is, which engine it runs, and what a model may take of it.

The schema is shared by both sides: the host reads TOML files, the device reads the copy signed into a bundle's
manifest. Every figure names its source, so that a refusal can be argued with. See ``docs/profiles.md``.
"""

from __future__ import annotations

import math
import re

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields, canonical_json
from edgepack_runtime.capabilities import (
    SCHEMES,
    SOURCE_KINDS,
    Delegate,
    InputLimits,
    KnownWrong,
    Source,
    read_delegates,
    read_known_wrong,
    read_limits,
    take_each_once,
    take_line,
    take_positive,
    take_source,
)

__all__ = [
    "ARCHITECTURES",
    "ENGINES",
    "FIGURES",
    "OPTIONAL_FIGURES",
    "SCHEMA_VERSION",
    "SCHEMES",
    "SOURCE_KINDS",
    "Budget",
    "Delegate",
    "DeviceProfile",
    "EngineRequirement",
    "Hardware",
    "InputLimits",
    "KnownWrong",
    "Software",
    "Source",
]

SCHEMA_VERSION = 1
ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
ENGINES = ("ai-edge-litert", "tflite-runtime")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,30}")
_VERSION = re.compile(r"[0-9]{1,8}(\.[0-9]{1,8}){1,3}")
_LIBC = re.compile(r"(glibc|musl) [0-9]{1,4}\.[0-9]{1,4}")
_PYTHON = re.compile(r"3\.[0-9]{1,3}")
_FEATURE = re.compile("[!-~]{1,64}")


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
    """The inference engine in the exact version the profile is proven for.

    Devices may have one of the versions in `also` instead: bundles are proven under each of them too.
    """

    name: str
    version: str
    num_threads: int
    also: tuple[str, ...] = ()
    delegates: tuple[Delegate, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version a bundle is proven under, `version` first."""
        return (self.version, *self.also)

    @property
    def libraries(self) -> tuple[str, ...]:
        """The shared libraries of delegates that are no part of the engine's wheel."""
        return tuple(delegate.library for delegate in self.delegates if delegate.library is not None)


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
    known_wrong: tuple[KnownWrong, ...] = ()
    io: InputLimits | None = None

    def to_json(self) -> dict[str, object]:
        """Return the profile as the table `from_fields` reads."""
        hw, sw, engine, budget = self.hardware, self.software, self.engine, self.budget
        limits: dict[str, object] = {"ram_bytes": budget.ram_bytes, "storage_bytes": budget.storage_bytes}
        if budget.latency_ms is not None:
            limits["latency_ms"] = budget.latency_ms
        required: dict[str, object] = {
            "name": engine.name,
            "version": engine.version,
            "num_threads": engine.num_threads,
        }
        if engine.also:
            required["also"] = list(engine.also)
        if engine.delegates:
            required["delegates"] = [delegate.to_json() for delegate in engine.delegates]
        schemes: dict[str, object] = {"supported": list(self.quantization)}
        if self.known_wrong:
            schemes["known_wrong"] = [wrong.to_json() for wrong in self.known_wrong]
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
            "engine": required,
            "budget": limits,
            "quantization": schemes,
            **({} if self.io is None else {"io": self.io.to_json()}),
            "sources": {path: source.to_json() for path, source in self.sources},
        }

    def digest(self) -> bytes:
        """Return the SHA-256 of the profile's canonical JSON: 32 bytes that change with any field."""
        from edgepack_runtime._crypto import sha256  # a host that only reads profiles needs no cryptography

        return sha256(canonical_json(self.to_json()))

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
        supported, wrong = _quantization(fields.take_table("quantization"))
        profile = cls(
            name=name,
            description=take_line(fields, "description"),
            aliases=aliases,
            hardware=_hardware(fields.take_table("hardware")),
            software=_software(fields.take_table("software")),
            engine=_engine(fields.take_table("engine")),
            budget=_budget(fields.take_table("budget")),
            quantization=supported,
            known_wrong=wrong,
            io=read_limits(fields.take_table("io")) if "io" in fields.names() else None,
            sources=_sources(fields.take_table("sources")),
        )
        fields.finish()
        _check_sources(profile, fields)
        _check_together(profile, fields)
        return profile


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
        board=take_line(fields, "board"),
        soc=take_line(fields, "soc"),
        arch=fields.take_choice("arch", ARCHITECTURES),
        cpu=take_line(fields, "cpu"),
        cores=take_positive(fields, "cores"),
        cpu_features=fields.take_strings("cpu_features"),
        ram_bytes=take_positive(fields, "ram_bytes"),
    )
    for feature in hardware.cpu_features:
        if not _FEATURE.fullmatch(feature):
            fields.refuse("cpu_features", f"{feature[:64]!r} is no flag as /proc/cpuinfo has them")
    fields.finish()
    return hardware


def _software(fields: Fields) -> Software:
    software = Software(
        os=take_line(fields, "os"),
        libc=take_line(fields, "libc", _LIBC, "glibc 2.36"),
        python=take_line(fields, "python", _PYTHON, "3.11"),
    )
    fields.finish()
    return software


def _engine(fields: Fields) -> EngineRequirement:
    engine = EngineRequirement(
        name=fields.take_choice("name", ENGINES),
        version=take_line(fields, "version", _VERSION, "2.14.0"),
        num_threads=take_positive(fields, "num_threads"),
        also=_also(fields) if "also" in fields.names() else (),
        delegates=read_delegates(fields),
    )
    if engine.version in engine.also:
        fields.refuse("also", f"{engine.version} is the engine's version already")
    fields.finish()
    return engine


def _also(fields: Fields) -> tuple[str, ...]:
    also = fields.take_strings("also")
    for version in also:
        if not _VERSION.fullmatch(version):
            fields.refuse("also", f"expected text such as '2.14.0', got {version[:64]!r}")
    if not also or len(set(also)) != len(also):
        fields.refuse("also", "expected at least one version, each once")
    return also


def _budget(fields: Fields) -> Budget:
    budget = Budget(
        ram_bytes=take_positive(fields, "ram_bytes"),
        storage_bytes=take_positive(fields, "storage_bytes"),
        latency_ms=fields.take("latency_ms", float, None),
    )
    # TOML has inf and nan, and JSON does not.
    if budget.latency_ms is not None and not (math.isfinite(budget.latency_ms) and budget.latency_ms > 0):
        fields.refuse("latency_ms", f"expected a positive number, got {budget.latency_ms}")
    fields.finish()
    return budget


def _quantization(fields: Fields) -> tuple[tuple[str, ...], tuple[KnownWrong, ...]]:
    supported = take_each_once(fields, "supported", SCHEMES)
    wrong = read_known_wrong(fields, supported)
    fields.finish()
    return supported, wrong


def _sources(fields: Fields) -> tuple[tuple[str, Source], ...]:
    return tuple(sorted((path, take_source(fields, path)) for path in fields.names()))


# Each needs a source; so do these of the others that a profile has.
OPTIONAL_FIGURES = (
    "budget.latency_ms",
    "engine.also",
    "engine.delegates",
    "io.batch",
    "io.input_dtypes",
    "io.max_input_bytes",
    "io.output_dtypes",
)
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
    engine, io = profile.engine, {} if profile.io is None else profile.io.to_json()
    wanted = {*FIGURES, *(f"io.{name}" for name in io)}
    for path, given in (
        ("budget.latency_ms", profile.budget.latency_ms is not None),
        ("engine.also", engine.also),
        ("engine.delegates", engine.delegates),
    ):
        wanted |= {path} if given else set()
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
