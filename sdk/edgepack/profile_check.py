"""What can be told of a device profile without the device: does its engine exist for it, and what is only assumed."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from edgepack.engine_ops import support
from edgepack.micro_profile import Micro
from edgepack.toolchain import locate
from edgepack_runtime.profile import DeviceProfile, Source

__all__ = [
    "ERROR",
    "NOTE",
    "Difference",
    "ProfileFinding",
    "check_micro",
    "check_profile",
    "profile_differences",
    "profile_rows",
]

ERROR, NOTE = "error", "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFinding:
    """One thing about a profile: an ``error`` is a board on which nothing would run, a ``note`` is worth knowing."""

    severity: str
    field: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field in which two profiles differ; "" where one has none."""

    field: str
    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wheel:
    glibc: str
    pythons: tuple[str, ...]


@cache
def _wheels() -> Mapping[tuple[str, str, str], _Wheel]:
    text = importlib.resources.files("edgepack").joinpath("data", "engine_wheels.csv").read_text("utf-8")
    return {
        (row["engine"], row["version"], row["arch"]): _Wheel(glibc=row["glibc"], pythons=tuple(row["python"].split()))
        for row in csv.DictReader(text.splitlines())
    }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def check_profile(profile: DeviceProfile) -> tuple[ProfileFinding, ...]:
    """Return what is wrong with a profile that is well formed, errors first; empty if nothing is."""
    found = [*_wheel_findings(profile), *_figure_findings(profile)]
    return tuple(sorted(found, key=lambda finding: finding.severity != ERROR))


def _wheel_findings(profile: DeviceProfile) -> Iterator[ProfileFinding]:
    for version in profile.engine.versions:
        yield from _findings_of_wheel(profile, version, "version" if version == profile.engine.version else "also")


def _findings_of_wheel(profile: DeviceProfile, engine_version: str, member: str) -> Iterator[ProfileFinding]:
    engine, arch = profile.engine, profile.hardware.arch
    name = f"{engine.name} {engine_version}"
    versions = [v for (e, v, a) in _wheels() if (e, a) == (engine.name, arch)]
    wheel = _wheels().get((engine.name, engine_version, arch))
    if wheel is None:
        newest = max(versions, key=_numbers, default=None)
        yield ProfileFinding(
            severity=ERROR,
            field=f"engine.{member}",
            text=f"{name} has no wheel for {arch} that edgepack knows of",
            remedy=f"the newest with one is {newest}" if newest else f"no version of {engine.name} has one",
        )
        return
    libc, _, version = profile.software.libc.partition(" ")
    if libc != "glibc" or _numbers(version) < _numbers(wheel.glibc):
        yield ProfileFinding(
            severity=ERROR,
            field="software.libc",
            text=f"{profile.software.libc}, and the wheel of {name} for {arch} needs glibc {wheel.glibc}",
            remedy=_older(engine.name, arch, version) if libc == "glibc" else "a system with glibc",
        )
    if profile.software.python not in wheel.pythons:
        yield ProfileFinding(
            severity=ERROR,
            field="software.python",
            text=f"Python {profile.software.python}, and {name} has wheels for {', '.join(wheel.pythons)}",
            remedy="install one of these on the device, or take another version of the engine",
        )
    basis = support(engine.name, engine_version, "CONV_2D", 1)
    if basis.verdict != "measured":
        yield ProfileFinding(
            severity=NOTE,
            field=f"engine.{member}",
            text=f"the operator table of {name} was not probed; it is {basis.basis}",
            remedy="every build runs the model under it all the same",
        )


def _older(engine: str, arch: str, glibc: str) -> str:
    fitting = [
        v for (e, v, a), w in _wheels().items() if (e, a) == (engine, arch) and _numbers(w.glibc) <= _numbers(glibc)
    ]
    newest = max(fitting, key=_numbers, default=None)
    return f"the newest {engine} for glibc {glibc} is {newest}" if newest else "a newer system on the device"


def _figure_findings(profile: DeviceProfile) -> Iterator[ProfileFinding]:
    hardware, budget = profile.hardware, profile.budget
    if 2 * budget.ram_bytes > hardware.ram_bytes:
        yield ProfileFinding(
            severity=NOTE,
            field="budget.ram_bytes",
            text=f"{budget.ram_bytes:,} bytes for one model are more than half of the board's {hardware.ram_bytes:,}",
            remedy="leave room for the system, the application, and an update being checked beside the running model",
        )
    yield from _assumed(profile.sources, "run `edgepack-device probe` on the board, and say what was measured")
    if budget.latency_ms is None:
        yield ProfileFinding(
            severity=NOTE,
            field="budget.latency_ms",
            text="no latency budget",
            remedy="set one if the application has a deadline",
        )


def _assumed(sources: tuple[tuple[str, Source], ...], remedy: str) -> Iterator[ProfileFinding]:
    if assumed := [path for path, source in sources if source.kind == "assumed"]:
        text = f"assumed, not measured or published: {', '.join(assumed)}"
        yield ProfileFinding(severity=NOTE, field="sources", text=text, remedy=remedy)


def check_micro(profile: Micro) -> tuple[ProfileFinding, ...]:
    """Return what is wrong with a well-formed profile of a microcontroller, errors first; empty if nothing is."""
    npu = profile.npu
    tools = [("engine.version", "tflite-micro", profile.engine_version)]
    tools += [] if npu is None else [("npu.compiler_version", "ethos-u-vela", npu.compiler_version)]
    found = [
        ProfileFinding(
            severity=ERROR,
            field=field,
            text=f"edgepack has a lock file for another version of {tool} than {version}",
            remedy=f"`edgepack toolchain list` shows what there is; its lock file names the version of {tool}",
        )
        for field, tool, version in tools
        if f"\n{tool}=={version} " not in locate(tool).requirements
    ]
    return (*found, *_assumed(profile.sources, "measure it on the board, and say so"))


def _in_words(value: object) -> str:
    """Return a profile's value as people read it: a delegate with its library, a known fault with who says so."""
    if isinstance(value, list):
        return ("; " if value and isinstance(value[0], dict) else ", ").join(map(_in_words, value))
    if isinstance(value, dict):
        match value:
            case {"kind": kind, "text": text}:
                return f"{kind}: {text}"
            case {"name": name, "version": version}:
                library = value.get("library")
                return f"{name} {version}, " + (f"the library {library}" if library else "built into the engine")
            case {"scheme": scheme, "reason": reason}:
                source = value.get("source")
                return f"{scheme}: {reason}" + (f" ({_in_words(source)})" if source else "")
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    return f"{value:,}" if type(value) is int else str(value)


def profile_rows(profile: DeviceProfile | Micro) -> tuple[tuple[str, str, str], ...]:
    """Return field, value and source of everything in a profile's sections, in words; a list of tables is rows."""
    sources, rows = dict(profile.sources), []
    for section, table in profile.to_json().items():
        if not isinstance(table, dict) or section == "sources":
            continue
        for field, value in table.items():
            path = f"{section}.{field}"
            source = sources.get(path)
            said = f"{source.kind}: {source.text}" if source else ""
            if isinstance(value, list) and value and isinstance(value[0], dict):
                own = [item.get("source") for item in value]
                rows += [
                    (path, _in_words({k: v for k, v in item.items() if k != "source"}), _in_words(by) if by else said)
                    for item, by in zip(value, own, strict=True)
                ]
            else:
                rows.append((path, _in_words(value), said))
    return tuple(rows)


def _flat(profile: DeviceProfile) -> dict[str, str]:
    """Return a profile's fields by dotted names, as text."""
    flat = {}
    for name, value in profile.to_json().items():
        inner = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        for path, item in inner.items():
            flat[path] = _in_words(item)
    return flat


def profile_differences(first: DeviceProfile, second: DeviceProfile) -> tuple[Difference, ...]:
    """Return every field in which two profiles differ, in the order of the file."""
    ours, theirs = _flat(first), _flat(second)
    return tuple(
        Difference(field=path, first=ours.get(path, ""), second=theirs.get(path, ""))
        for path in dict.fromkeys([*ours, *theirs])
        if ours.get(path) != theirs.get(path)
    )
