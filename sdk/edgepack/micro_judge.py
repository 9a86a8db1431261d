"""One candidate for one microcontroller: does it fit flash and arena, does it compute right, what does vela say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgepack.candidate import SIMILARITY, Samples, broken_outputs, excuse_of, judged_as, judged_outputs
from edgepack.drop import drop_evidence
from edgepack.errors import PassError, WorkerError
from edgepack.evaluate import compare
from edgepack.flatbuffer import ModelView, TensorView, read_model
from edgepack.gate import Gate
from edgepack.micro_profile import Micro, Npu
from edgepack.model import Refusal
from edgepack.schemes import scheme_of
from edgepack.tflm import ReferenceRequest, ReferenceResult, TflmRequest, TflmResult
from edgepack.untrained import before_evidence
from edgepack.vela import VelaRequest, VelaResult
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import EngineError, InputError
from edgepack_runtime.golden import GoldenSample
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array, QuantizationParameters, TensorSpec

__all__ = ["Judged", "MicroBench", "judge"]

# How far float kernels of two builds may be apart, as a share of the output's range; integers have no excuse.
_FLOAT_TOLERANCE = 1e-5
_MAX_GOLDEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBench:
    """Where candidates are run: the host's own Python, tflite-micro's environment, vela's if a profile needs it."""

    host: Workplace
    interpreter: Workplace
    compiler: Workplace | None
    gate: Gate
    keep_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found out; it may be shipped when `refusals` is empty. `model` is compiled where there is an NPU."""

    scheme: str
    model: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: tuple[GoldenSample, ...]
    arena_used_bytes: int
    evidence: tuple[Evidence, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graph:
    """A model's inputs and outputs by name, in the order in which its graph has them, and an interpreter them."""

    inputs: Mapping[str, TensorView]
    outputs: Mapping[str, TensorView]


class _Case:
    """A model on a profile, and evidence and refusals as they come in."""

    def __init__(self, model: bytes, scheme: str, profile: Micro, bench: MicroBench) -> None:
        self.model, self.scheme, self.profile, self.bench = model, scheme, profile, bench
        self.graph = _graph(read_model(model))
        self.evidence: list[Evidence] = []
        self.refusals: list[Refusal] = []

    def add(self, evidence: Evidence, remedy: str) -> None:
        self.evidence.append(evidence)
        if not evidence.holds:
            self.refuse(evidence.check, evidence.found, evidence.wanted, remedy)

    def refuse(self, check: str, found: str, wanted: str, remedy: str) -> None:
        self.refusals.append(
            Refusal(
                profile=self.profile.name, scheme=self.scheme, check=check, found=found, wanted=wanted, remedy=remedy
            )
        )


def judge(model: bytes, scheme: str, profile: Micro, samples: Samples, bench: MicroBench) -> Judged:
    """Return what was found out about a model for a microcontroller; the interpreter is given the profile's arena.

    Raises:
        SourceModelError: the bytes are no TFLite model.
        InputError: its signature does not name each input and output of its graph once.
        WorkerError: the host's own reference kernels crashed or hung.
    """
    case = _Case(model, scheme, profile, bench)
    graph, found = case.graph, scheme_of(model)
    case.add(
        _evidence("quantization", found in profile.quantization, found, f"one of {', '.join(profile.quantization)}"),
        f"build with --precision {profile.quantization[0]}",
    )
    feeds = {name: _stored(array, graph.inputs[name]) for name, array in samples.feeds.items()}
    result = _replay(case, feeds)
    golden: tuple[GoldenSample, ...] = ()
    if result is not None:
        golden = _golden(result.outputs, feeds, samples.calibration)
        _same_as_reference(case, golden)
        _like_the_source(case, result.outputs, samples)
    shipped = model
    if profile.npu is not None and bench.compiler is not None and not case.refusals:
        shipped = _compiled(case, profile.npu, bench.compiler)
    budget = profile.budget.flash_bytes
    case.add(
        _evidence("flash", len(shipped) <= budget, f"{len(shipped):,} bytes of model", f"at most {budget:,} bytes"),
        "a smaller precision, or a smaller model",
    )
    return Judged(
        scheme=scheme,
        model=shipped,
        inputs=_specs(graph.inputs),
        outputs=_specs(graph.outputs),
        golden=golden,
        arena_used_bytes=0 if result is None else result.arena_bytes,
        evidence=tuple(case.evidence),
        refusals=tuple(case.refusals),
    )


def _evidence(
    check: str, holds: bool, found: str, wanted: str, where: tuple[str, str] = ("measured", "this machine")
) -> Evidence:
    """Return evidence; `where` is the verdict and the environment."""
    return Evidence(check=check, holds=holds, verdict=where[0], found=found, wanted=wanted, environment=where[1])


def _graph(view: ModelView) -> _Graph:
    tensors = view.subgraphs[0].tensors
    if len(view.signatures) != 1:
        raise InputError(f"the model has {len(view.signatures)} signatures, expected the one a build makes")
    (signature,) = view.signatures
    graph, named = view.subgraphs[0], {}
    for kind, names, order in (
        ("input", signature.inputs, graph.inputs),
        ("output", signature.outputs, graph.outputs),
    ):
        places = {index: name for name, index in names}
        if len(places) != len(names) or sorted(places) != sorted(order):
            raise InputError(f"the model's signature names {len(names)} {kind}s, and its graph has {len(order)}")
        named[kind] = {places[index]: tensors[index] for index in order}
    return _Graph(inputs=named["input"], outputs=named["output"])


def _specs(tensors: Mapping[str, TensorView]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=name,
            dtype=tensor.dtype,
            shape=tensor.shape,
            quantization=QuantizationParameters(scale=tensor.scales, zero_point=tensor.zero_points)
            if tensor.scales
            else None,
        )
        for name, tensor in tensors.items()
    )


def _stored(array: Array, tensor: TensorView) -> Array:
    """Return real numbers as the integers a board would feed, and what needs no change as it is."""
    if str(array.dtype) == tensor.dtype:
        return array
    limits = np.iinfo(tensor.dtype)
    stored = np.round(array / tensor.scales[0]) + tensor.zero_points[0]
    return np.clip(stored, limits.min, limits.max).astype(tensor.dtype)


def _real(array: Array, tensor: TensorView) -> Array:
    if not tensor.scales:
        return array
    return ((array.astype(np.float64) - tensor.zero_points[0]) * tensor.scales[0]).astype(np.float32)


def _replay(case: _Case, feeds: Mapping[str, Array]) -> TflmResult | None:
    profile, graph = case.profile, case.graph
    arena = profile.budget.arena_bytes
    request = TflmRequest(
        model=case.model,
        version=profile.engine_version,
        arena_bytes=arena,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        feeds=feeds,
    )
    wanted = f"{profile.engine} runs it in an arena of {arena:,} bytes"
    try:
        result = run_task("edgepack.tflm:replay", request, TflmResult, case.bench.interpreter)
    except (EngineError, WorkerError) as error:
        case.refuse("arena", error.message, wanted, error.hint or "a smaller model")
        return None
    evidence = _evidence(
        "arena",
        True,
        f"runs in it, and needs {result.arena_bytes:,} bytes here",
        wanted,
        ("measured", f"{profile.engine} on x86_64 (not {profile.hardware.arch})"),
    )
    case.add(replace(evidence, value=float(result.arena_bytes)), "")
    return result


def _golden(outputs: Mapping[str, Array], feeds: Mapping[str, Array], calibration: int) -> tuple[GoldenSample, ...]:
    """Return calibration samples: those with the lowest and highest first output, and evenly spaced ones."""
    level = next(iter(outputs.values()))[:calibration].reshape(calibration, -1).astype(np.float64).mean(axis=1)
    spaced = np.linspace(0, calibration - 1, _MAX_GOLDEN).round().astype(int).tolist()
    chosen = list(dict.fromkeys([int(level.argmin()), int(level.argmax()), *spaced]))[:_MAX_GOLDEN]
    return tuple(
        GoldenSample(inputs={n: a[i] for n, a in feeds.items()}, outputs={n: a[i] for n, a in outputs.items()})
        for i in chosen
    )


def _same_as_reference(case: _Case, golden: tuple[GoldenSample, ...]) -> None:
    graph = case.graph
    request = ReferenceRequest(
        model=case.model,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        feeds={name: np.stack([sample.inputs[name] for sample in golden]) for name in graph.inputs},
    )
    wanted = "equal to the last bit; floats within 1e-5 of the range"
    try:
        result = run_task("edgepack.tflm:reference", request, ReferenceResult, case.bench.host)
    except EngineError as error:
        case.refuse("same as the reference kernels", error.message, wanted, "another precision")
        return
    worst = 0.0
    for name, tensor in graph.outputs.items():
        ours = np.stack([sample.outputs[name] for sample in golden]).astype(np.float64)
        theirs = result.outputs[name].astype(np.float64)
        span = float(np.ptp(theirs)) or 1.0
        difference = float(np.abs(ours - theirs).max(initial=0.0)) / span
        worst = max(worst, difference if tensor.dtype != "float32" or difference > _FLOAT_TOLERANCE else 0.0)
    case.add(
        _evidence(
            "same as the reference kernels",
            worst == 0.0,
            f"{len(golden)} samples, largest difference {worst:.2g} of the range",
            wanted,
            ("measured", f"{case.profile.engine} and {result.engine}"),
        ),
        "another precision: two builds of the same kernels differ on this model",
    )


def _like_the_source(case: _Case, outputs: Mapping[str, Array], samples: Samples) -> None:
    gate = case.bench.gate
    real = {name: _real(outputs[name], tensor) for name, tensor in case.graph.outputs.items()}
    kind, limit = SIMILARITY[judged_as(case.scheme, case.model)]
    where = ("measured", case.profile.engine)
    remedy = "a larger precision, or more and more typical calibration samples"
    broken = broken_outputs(samples.reference, real)
    if broken:
        case.refuse("finite outputs", broken, "numbers", remedy)
    drops = () if broken else samples.drops(real, gate, case.bench.host)
    judged = judged_outputs(drops, gate)
    parities = compare(samples.reference, real)
    excuse = excuse_of(case.scheme, judged_as(case.scheme, case.model), parities, samples)
    for drop in drops:
        case.add(drop_evidence(drop, case.profile.engine, excuse=excuse), drop.remedy(remedy))
    if samples.before is not None:
        for evidence in before_evidence(samples.before, real, judged, case.profile.engine):
            case.add(evidence, "less training, or labelled evaluation data, by which the gate sees more")
    for parity in parities:
        close = parity.relative_error <= limit if kind == "error" else parity.correlation >= limit
        binding = kind == "error" or parity.output not in judged
        wanted = f"error at most {limit:.1%} of the range" if kind == "error" else f"correlation at least {limit}"
        text = f"error {parity.relative_error:.2%} of the range, correlation {parity.correlation:.4f}"
        case.add(
            _evidence(
                f"like the float source: {parity.output}",
                close or not binding,
                text,
                wanted if binding else f"{wanted} (the metric decides)",
                where,
            ),
            remedy,
        )


def _compiled(case: _Case, npu: Npu, compiler: Workplace) -> bytes:
    """Return the model as vela compiles it; its figures are held against the profile's, which vela does not do."""
    request = VelaRequest(
        model=case.model,
        version=npu.compiler_version,
        accelerator=npu.accelerator,
        system_config=npu.system_config,
        memory_mode=npu.memory_mode,
    )
    wanted = f"vela compiles it for {npu.accelerator}"
    try:
        result = run_task("edgepack.vela:compile_model", request, VelaResult, compiler)
    except (PassError, WorkerError) as error:
        case.refuse("vela", error.message, wanted, error.hint or "another model")
        return case.model
    where = (
        "estimated",
        f"ethos-u-vela {npu.compiler_version}, {npu.accelerator}, {npu.system_config}, {npu.memory_mode}",
    )
    budget = case.profile.budget
    sram = budget.sram_bytes or 0
    case.add(
        replace(
            _evidence(
                "NPU memory", result.sram_bytes <= sram, f"{result.sram_bytes:,} bytes of SRAM",
                f"at most {sram:,} bytes", where,
            ),
            value=float(result.sram_bytes),
        ),
        "a smaller model, or another memory mode in the profile",
    )  # fmt: skip
    operators = [operator for _, operator in read_model(result.model).operators()]
    left = sorted({o.name for o in operators if o.custom_code != "ethos-u"})
    case.add(
        _evidence(
            "operators on the NPU",
            any(o.custom_code == "ethos-u" for o in operators),
            f"left to the processor: {', '.join(left)}" if left else "all of them",
            "at least some of them",
            ("measured", where[1]),
        ),
        "int8 operators that the Ethos-U has; `vela --supported-ops-report` lists them",
    )
    latency = budget.latency_ms
    case.add(
        replace(
            _evidence(
                "latency (estimated by vela)",
                latency is None or result.inference_ms <= latency,
                f"{result.cycles:,} cycles, {result.inference_ms:.3f} ms",
                "no budget" if latency is None else f"at most {latency:g} ms",
                where,
            ),
            value=result.inference_ms,
        ),
        "a smaller model",
    )
    case.add(
        _evidence(
            "outputs on the NPU", True, "the compiled model runs nowhere here; what was run is the one before",
            "replay the golden samples on the board", ("unknown", where[1]),
        ),
        "",
    )  # fmt: skip
    return result.model
