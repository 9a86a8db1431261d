"""A device profile made of what `edgepack-device probe` found: what was tried is measured, what is judged assumed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgepack.engine_ops import probed_table
from edgepack.errors import ProfileError
from edgepack.flatbuffer import operator_name
from edgepack.localprofile import LOCAL, profile_of
from edgepack.passes._layouts import DYNAMIC_LAYOUTS, PER_CHANNEL
from edgepack.probed import Probe, ProbedEngine, ProbedModel
from edgepack_runtime._fields import Fields
from edgepack_runtime.profile import ENGINES, DeviceProfile, KnownWrong, Source

__all__ = ["ImportedProfile", "default_name", "profile_of_probe"]

_OPERATORS = ("CONV_2D", "FULLY_CONNECTED")
# Those that the probe tries. A probe made before it tried one says so, and the profile does not support it.
_LAYOUTS = {"float32": "plain", "float16": "plain", "dynamic_range": PER_CHANNEL, "full_integer": PER_CHANNEL}
_LAYOUTS |= {"int16x8": PER_CHANNEL, "dynamic_int4": PER_CHANNEL, "dynamic_int2": PER_CHANNEL}
_LAYOUTS |= {"weight_only_int8": PER_CHANNEL, "weight_only_int4": PER_CHANNEL}
_TRIED_AS = {"dynamic_int4": "int4", "dynamic_int2": "int2"}
# Those that edgepack makes of dense layers only.
_DENSE_ONLY = ("dynamic_int2",)
_MAX_NAME, _MAX_REASON = 31, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedProfile:
    """The profile, and what is worth knowing about how it came to be."""

    profile: DeviceProfile
    notes: tuple[str, ...]


def default_name(probe: Probe) -> str:
    """Return a name for the profile, from what the board calls itself."""
    for text in (probe.machine.board, probe.machine.compatible.rstrip("\0").split("\0")[-1]):
        name = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX_NAME].strip("-")
        if name and name != LOCAL:
            return name
    return "probed-" + (re.sub("[^a-z0-9]+", "-", probe.machine.machine.lower()).strip("-")[:20] or "board")


def profile_of_probe(probe: Probe, name: str, engine: str | None = None) -> ImportedProfile:
    """Return the profile of a probed machine under its engine, or the first of `ENGINES` that works there.

    Raises:
        ProfileError: no engine works there, or none of the schemes does; or the engine has other operators than
            edgepack knows of its version.
        SchemaError: the name is none, or what was found does not make a profile.
        EdgepackError: its architecture or libc is none that an engine exists for, or a figure is missing.
    """
    if name == LOCAL:
        raise ProfileError(f"the name {LOCAL!r} is the machine at hand's", hint="take another: --name")
    chosen = _chosen(probe, engine)
    shipped = probed_table(chosen.name, chosen.version)
    if shipped is not None:
        _same_operators(chosen, {k: v for k, v in shipped.items() if v})
    base = profile_of(replace(probe.machine, engines=((chosen.name, chosen.version),)))
    when = f"{datetime.datetime.fromtimestamp(probe.created, datetime.timezone.utc):%Y-%m-%d}"
    by = f"by edgepack-device probe on {when}"
    lacking = {scheme: list(_lacking(chosen, scheme)) for scheme in base.quantization if scheme in _LAYOUTS}
    supported = tuple(scheme for scheme, lack in lacking.items() if not lack)
    if not supported:
        raise ProfileError(f"{chosen.name} {chosen.version} computes no scheme right there: {_told(lacking)}",
                           hint="install another version of the engine on the board, and probe again")  # fmt: skip
    wrong = tuple(
        KnownWrong(scheme=scheme, reason="; ".join(lack)[:_MAX_REASON], source=_source("measured", by))
        for scheme, lack in lacking.items()
        if any(_model(chosen, scheme, operator).verdict == "wrong" for operator in _operators(scheme))
    )
    profile = replace(
        base,
        name=name,
        description=f"{_called(base)}, as edgepack-device probe found it on {when}",
        engine=replace(base.engine, num_threads=chosen.num_threads),
        quantization=supported,
        known_wrong=wrong,
        sources=tuple((path, _sourced(path, source, chosen, by)) for path, source in base.sources),
    )
    failing = {scheme: lack for scheme, lack in lacking.items() if lack}
    notes = [f"not supported: {_told(failing)}"] if failing else []
    notes += [f"{e.name} {e.version} does not work there: {e.problem}" for e in probe.engines if e.problem]
    if shipped is None:
        notes.append(
            f"edgepack has no operator table of {chosen.name} {chosen.version}, so models are judged by versions "
            f"near it; in a checkout, `python -m tools.runtime_ops {chosen.name}=={chosen.version}` adds it"
        )
    return ImportedProfile(profile=DeviceProfile.from_fields(Fields(profile.to_json(), name)), notes=tuple(notes))


def _chosen(probe: Probe, wanted: str | None) -> ProbedEngine:
    engines = {engine.name: engine for engine in probe.engines}
    if wanted is not None and wanted not in engines:
        raise ProfileError(f"{wanted} was not probed; there are {', '.join(engines) or 'none'}",
                           hint="install it on the board, and probe again")  # fmt: skip
    names = [name for name in ENGINES if name in engines and wanted in (None, name)]
    for name in names:
        if not engines[name].problem:
            return engines[name]
    problems = "; ".join(f"{name}: {engines[name].problem}" for name in names)
    raise ProfileError(f"no engine works there: {problems or 'none that edgepack knows is installed'}",
                       hint="install one on the board, and probe again")  # fmt: skip


def _same_operators(engine: ProbedEngine, shipped: dict[str, int]) -> None:
    found = {operator_name(code): version for code, version in enumerate(engine.operators) if version}
    differing = sorted(name for name in found.keys() | shipped.keys() if found.get(name) != shipped.get(name))
    if differing:
        first = ", ".join(f"{n} v{found.get(n, 0)} instead of v{shipped.get(n, 0)}" for n in differing[:3])
        raise ProfileError(
            f"{engine.name} {engine.version} on this board has other operators than its wheel: {first}"
            + (f" and {len(differing) - 3} more" if len(differing) > 3 else ""),
            hint="models would be judged, and tried, by the wheel: install that on the board, and probe again",
        )


def _names(engine: str, scheme: str, operator: str) -> str:
    """Return the name of the probe model that is laid out as edgepack's step of this scheme does it."""
    layout = DYNAMIC_LAYOUTS[engine][operator] if scheme == "dynamic_range" else _LAYOUTS[scheme]
    return f"{_TRIED_AS.get(scheme, scheme)}/{layout}/{operator}"


def _model(engine: ProbedEngine, scheme: str, operator: str) -> ProbedModel:
    name = _names(engine.name, scheme, operator)
    untried = ProbedModel(name=name, verdict="fails", error=None, reason="was not tried")
    return engine.model(name) or untried


def _operators(scheme: str) -> tuple[str, ...]:
    return _OPERATORS[1:] if scheme in _DENSE_ONLY else _OPERATORS


def _lacking(engine: ProbedEngine, scheme: str) -> Iterator[str]:
    for operator in _operators(scheme):
        model = _model(engine, scheme, operator)
        if model.verdict == "wrong":
            yield (
                f"{operator} is off by {model.error:.1%}"
                if model.error is not None
                else f"{operator} gives no numbers"
            )
        elif model.verdict == "fails":
            yield f"{operator} fails ({model.reason})"


def _told(lacking: dict[str, list[str]]) -> str:
    return "; ".join(f"{scheme}: {', '.join(lack)}" for scheme, lack in lacking.items())


def _called(profile: DeviceProfile) -> str:
    hardware = profile.hardware
    return next((text for text in (hardware.board, hardware.soc, hardware.cpu) if text != "unknown"), hardware.arch)


def _source(kind: str, text: str) -> Source:
    return Source(kind=kind, text=text)


def _sourced(path: str, source: Source, engine: ProbedEngine, by: str) -> Source:
    if path == "engine.num_threads" and engine.threads:
        ratios = ", ".join(f"{ratio:g} with {count}" for count, ratio in engine.threads)
        return _source("measured", f"time of a convolution in relation to one thread: {ratios}; {by}")
    if path == "quantization.supported":
        off = max(model.error or 0 for model in engine.models if model.verdict == "right")
        return _source(
            "measured",
            f"tiny models of a convolution and a dense layer gave the known answers, off by {off:.1%} at most; {by}. "
            f"Their order is assumed: {source.text}",
        )
    if path == "budget.ram_bytes":
        return _source(
            source.kind,
            f"{source.text}, {by}; a process with Python and the engine takes {engine.process_bytes:,} bytes",
        )
    return _source(source.kind, f"{source.text}; {by}")
