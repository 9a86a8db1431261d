"""Does a model fit a device profile, as far as can be told without running it.

Each check gives one `Finding` with how far it can be trusted: ``measured`` by a probe of that exact engine,
``estimated`` from something near it, or ``unknown``, which is not a pass. Running the model under the exact engine
(`edgepack.lab`) comes on top, it does not replace this: some engines compute wrong numbers without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgepack.delegates import delegation
from edgepack.engine_ops import Support, oldest_with, support
from edgepack.flatbuffer import ModelView, SubgraphView, read_model
from edgepack.opversions import BUILT_IN_CUSTOM, required_versions
from edgepack.schemes import scheme_of, schemes_of_view
from edgepack.tensor_types import MEASURED_ENGINES, type_problems
from edgepack_runtime.profile import DeviceProfile

__all__ = ["Finding", "activation_bytes", "check_fit", "scheme_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: what was found, what was wanted, whether it holds, and what to do if not."""

    check: str
    holds: bool
    verdict: str
    found: str
    wanted: str
    remedy: str


def check_fit(model: bytes, profile: DeviceProfile) -> tuple[Finding, ...]:
    """Return every static check of a TFLite model against a profile, in a fixed order.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(model)
    return (
        _op_versions(view, profile),
        _custom_ops(view),
        _tensor_types(view, profile),
        _dynamic_tensors(view),
        *_speed(view, profile),
        _storage(view, profile),
        _memory(view, profile),
        _quantization(view, profile),
    )


def _engine(profile: DeviceProfile) -> str:
    return f"{profile.engine.name} {profile.engine.version}"


def _op_versions(view: ModelView, profile: DeviceProfile) -> Finding:
    engine = profile.engine
    wanted = f"every operator version is in {_engine(profile)}"
    # What the operators need, not only what the file states: a file that states too little is the dangerous one.
    checked = {
        f"{code.name} v{needed}": support(engine.name, engine.version, code.name, needed)
        for code, needed in zip(view.opcodes, required_versions(view), strict=True)
        if code.name != "CUSTOM"
    }
    for holds, verdict in ((False, None), (None, "unknown")):
        bad = {name: s for name, s in checked.items() if s.holds is holds}
        if bad:
            return Finding(
                check="op versions",
                holds=False,
                verdict=verdict or _weakest(bad.values()),
                found="; ".join(f"{name} ({s.basis})" for name, s in bad.items()),
                wanted=wanted,
                remedy="quantize for this engine, convert with an older form of the operator, or take a newer engine",
            )
    count = f"{len(checked)} operator types"
    bases = sorted({s.basis.split(" was probed")[0] for s in checked.values() if s.verdict != "measured"})
    return Finding(
        check="op versions",
        holds=True,
        verdict=_weakest(checked.values()),
        found=f"{count}, all present" if not bases else f"{count}, present as far as known: {'; '.join(bases)}",
        wanted=wanted,
        remedy="",
    )


def _other_engine(view: ModelView, engine: str) -> str:
    versions = zip(view.opcodes, required_versions(view), strict=True)
    needed = [(code.name, version) for code, version in versions if code.name != "CUSTOM"]
    known = {name: oldest_with(name, needed) for name in dict.fromkeys((engine, "ai-edge-litert"))}
    newer = " or ".join(f"{name} {version}" for name, version in known.items() if version)
    way = "quantize for this engine, or convert with an older form of the operator"
    return f"{way}; or take {newer} or newer, which has all of them" if newer else way


def _weakest(supports: Iterable[Support]) -> str:
    return "estimated" if any(s.verdict != "measured" for s in supports) else "measured"


def _custom_ops(view: ModelView) -> Finding:
    names = sorted({code.custom_code for code in view.opcodes if code.name == "CUSTOM"} - {*BUILT_IN_CUSTOM})
    flex = any(name.startswith("Flex") for name in names)
    return Finding(
        check="custom ops",
        holds=not names,
        verdict="measured",
        found=", ".join(names) or "none",
        wanted="operators that the engines' wheels bring",
        remedy=""
        if not names
        else "replace the TensorFlow-only operators (Flex…) in the source model"
        if flex
        else "replace these operators in the source model by builtin ones",
    )


def _tensor_types(view: ModelView, profile: DeviceProfile) -> Finding:
    engine = profile.engine
    problems = type_problems(view, engine.name, engine.version, profile.hardware.arch)
    measured = (engine.name, engine.version) in MEASURED_ENGINES
    return Finding(
        check="tensor types",
        holds=not problems,
        verdict="measured" if measured else "estimated",
        found="; ".join(f"{p.found}: {p.effect}" for p in problems) or "nothing this engine is known to get wrong",
        wanted=f"types and scales that {_engine(profile)} computes right",
        remedy="; ".join(sorted({p.remedy for p in problems})),
    )


def _dynamic_tensors(view: ModelView) -> Finding:
    graph = view.subgraphs[0]
    names = {i: graph.tensors[i].name for i in graph.inputs if -1 in graph.tensors[i].shape_signature}
    inner = view.is_dynamic and not names
    return Finding(
        check="dynamic tensors",
        holds=True,
        verdict="measured",
        found=f"inputs with an open dimension: {', '.join(names.values())}"
        if names
        else "none among the inputs, some inside the graph"
        if inner
        else "none",
        wanted="any; an open dimension costs XNNPACK, and memory is known for the stored shapes only",
        remedy="",
    )


def _speed(view: ModelView, profile: DeviceProfile) -> tuple[Finding, Finding]:
    """Return what XNNPACK runs, and for what the threads are: both are about speed and refuse nothing."""
    engine = profile.engine
    found = delegation(view, engine.name, engine.version, profile.hardware.arch)
    share = f"{found.taken} of {found.operators} operators"
    left = [f"falls back: {', '.join(found.left)}"] if found.left else []
    unsure = [f"not certain: {', '.join(found.unsure)}"] if found.unsure else []
    return (
        Finding(
            check="XNNPACK",
            holds=True,
            verdict=found.verdict if found.taken or found.left or found.why else "unknown",
            found="; ".join([f"none: {found.why}" if found.why else share, *left, *unsure]),
            wanted="any; what falls back runs on the engine's slower kernels",
            remedy="",
        ),
        Finding(
            check="threads",
            holds=engine.num_threads <= profile.hardware.cores,
            verdict="measured",
            found=f"{engine.num_threads}, which share the work inside one operator at a time",
            wanted=f"at most the {profile.hardware.cores} cores",
            remedy="" if engine.num_threads <= profile.hardware.cores else "lower num_threads in the profile",
        ),
    )


def _storage(view: ModelView, profile: DeviceProfile) -> Finding:
    budget = profile.budget.storage_bytes
    return Finding(
        check="storage",
        holds=view.file_bytes <= budget,
        verdict="measured",
        found=f"{view.file_bytes:,} bytes",
        wanted=f"at most {budget:,} bytes",
        remedy="" if view.file_bytes <= budget else "a smaller precision, or a smaller model",
    )


def activation_bytes(graph: SubgraphView) -> int | None:
    """Return the largest sum of activations alive at one operator, or None if a type has no fixed size.

    A tensor lives from the operator that writes it to the last that reads it; inputs, outputs and variables live
    throughout. No allocator does better; one with gaps does worse.
    """
    end = len(graph.operators)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index in (*graph.inputs, *graph.outputs, *(i for i, t in enumerate(graph.tensors) if t.variable)):
        first[index], last[index] = 0, end
    for step, operator in enumerate(graph.operators):
        for index in (*operator.inputs, *operator.outputs):
            first.setdefault(index, step)
            last[index] = max(last.get(index, step), step)
    change = [0] * (end + 2)
    for index, start in first.items():
        if index < 0 or graph.tensors[index].is_constant:
            continue
        size = graph.tensors[index].size_in_memory
        if size is None:
            return None
        change[start] += size
        change[last[index] + 1] -= size
    peak = alive = 0
    for delta in change:
        alive += delta
        peak = max(peak, alive)
    return peak


def _variable_bytes(graph: SubgraphView) -> int:
    """Return what the variables hold that the graph keeps between runs."""
    values = (o.inputs[1] for o in graph.operators if o.name == "ASSIGN_VARIABLE" and len(o.inputs) == 2)
    return sum(graph.tensors[i].size_in_memory or 0 for i in values if i >= 0)


def _memory(view: ModelView, profile: DeviceProfile) -> Finding:
    budget = profile.budget.ram_bytes
    activations = [activation_bytes(graph) for graph in view.subgraphs]
    wanted = f"at most {budget:,} bytes"
    known = [size for size in activations if size is not None]
    known += [_variable_bytes(graph) for graph in view.subgraphs[:1]]
    if None in activations:
        return Finding(
            check="memory (estimated)",
            holds=False,
            verdict="unknown",
            found="tensors whose size is only known at run time (text, variants)",
            wanted=wanted,
            remedy="a model without such tensors; or measure it on the device",
        )
    # The decrypted file stays in memory as it is; the first graph is the model, the others run inside it.
    total = view.file_bytes + sum(known)
    stated = " at the shapes stored in the file" if view.is_dynamic else ""
    return Finding(
        check="memory (estimated)",
        holds=total <= budget,
        verdict="estimated",
        found=f"{total:,} bytes: {view.file_bytes:,} of model, {sum(known):,} of activations{stated}, "
        "without the engine's own",
        wanted=wanted,
        remedy="" if total <= budget else "a smaller precision, a smaller input, or a smaller model",
    )


def _quantization(view: ModelView, profile: DeviceProfile) -> Finding:
    schemes = schemes_of_view(view)
    holds = set(schemes) <= set(profile.quantization)
    why = [f": {w.reason} ({w.source.kind}: {w.source.text})" for w in profile.known_wrong if w.scheme in schemes]
    scheme = " with ".join(schemes)
    return Finding(
        check="quantization",
        holds=holds,
        verdict="measured",
        found=f"{scheme}, known to be wrong{why[0]}" if why else scheme,
        wanted=f"one of {', '.join(profile.quantization)}",
        remedy="" if holds else f"build with --precision {profile.quantization[0]}",
    )
