"""One candidate for one profile: quantize, check the fit, run it under the profile's exact engine, and judge it."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgepack.budgets import budget_evidence
from edgepack.drop import drop_evidence
from edgepack.errors import PassError, WorkerError
from edgepack.evaluate import Parity, compare
from edgepack.fit import check_fit
from edgepack.flatbuffer import read_model
from edgepack.gate import Drop, Gate
from edgepack.lab import LabRequest, LabResult, run_in_lab
from edgepack.lean import PassCall
from edgepack.limits import check_limits
from edgepack.model import PassRequest, PassResult, Refusal, StepRecord, TFLiteModel
from edgepack.optimize import Optimize
from edgepack.ownmetric import measure_drops
from edgepack.passoptions import PassOrder
from edgepack.schemes import scheme_of, schemes_of_view
from edgepack.truth import Labels
from edgepack.untrained import before_evidence
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import EngineError
from edgepack_runtime.manifest import AS_IS, Evidence
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.tensors import Array

__all__ = [
    "SIMILARITY",
    "Bench",
    "Candidate",
    "Samples",
    "apply_pass",
    "broken_outputs",
    "environment_of",
    "examine",
    "excuse_of",
    "judged_as",
    "judged_outputs",
    "memory_evidence",
    "under",
]

# A candidate is held against the float source's outputs: float32 by its largest error as a share of the output's
# range, the others by correlation, because rounded weights move single values far in a steep network and its
# decisions not at all (docs/conversion.md, "When is it equal?").
SIMILARITY: Mapping[str, tuple[str, float]] = {
    "float32": ("error", 1e-3),
    "float16": ("correlation", 0.999),
    "dynamic_range": ("correlation", 0.97),
    "full_integer": ("correlation", 0.97),
}


def judged_as(scheme: str, model: bytes) -> str:
    """Return the scheme whose limits apply: a source shipped as it is is judged by the precision it has.

    Another precision than those of `SIMILARITY` is judged as ``dynamic_range`` where some layer rounds its
    activations on the fly, which processors do differently; else as ``full_integer``.
    """
    found = scheme_of(model) if scheme == AS_IS else scheme
    if found in SIMILARITY:
        return found
    rounded = any(name.startswith("dynamic_") for name in schemes_of_view(read_model(model)))
    return "dynamic_range" if rounded else "full_integer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """All samples of a build: the first `calibration` are calibration data, the rest evaluation data.

    `feeds` are arrays [n, *input shape] by input name, `reference` the source framework's outputs [n, *output shape],
    `labels` what is right for the evaluation data, None without any. Where the source was trained further in this
    build, `before` are the outputs it had before, or its teacher's, by the same names; None else.
    """

    feeds: Mapping[str, Array]
    reference: Mapping[str, Array]
    calibration: int
    labels: Labels | None
    before: Mapping[str, Array] | None = None

    @property
    def standard(self) -> Mapping[str, Array]:
        """What a metric's loss is counted from: training is no way to lose unnoticed."""
        return self.reference if self.before is None else self.before

    def calibration_feeds(self) -> dict[str, Array]:
        """Return the calibration part of `feeds`."""
        return {name: array[: self.calibration] for name, array in self.feeds.items()}

    def evaluated(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the evaluation part of outputs on all samples."""
        return {name: array[self.calibration :] for name, array in outputs.items()}

    def drops(self, outputs: Mapping[str, Array], gate: Gate, place: Workplace) -> tuple[Drop, ...]:
        """Return what a candidate with these `outputs` on all samples loses; nothing without evaluation samples.

        A metric that is the user's own code runs in `place`.

        Raises:
            DatasetError: outputs, labels and the gate's metrics do not fit each other.
            RecipeError: the user's own metric cannot be used.
        """
        if all(len(array) == self.calibration for array in self.feeds.values()):
            return ()
        return measure_drops(gate, (self.evaluated(self.standard), self.evaluated(outputs)), self.labels, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate and everything found out about it; it may be shipped when `refusals` is empty.

    `model` and `lab` are None where it did not get that far.
    """

    scheme: str
    model: TFLiteModel | None
    lab: LabResult | None
    parities: tuple[Parity, ...]
    drops: tuple[Drop, ...]
    evidence: tuple[Evidence, ...]
    refusals: tuple[Refusal, ...]


def apply_pass(
    model: TFLiteModel,
    order: PassOrder,
    calibration: Mapping[str, Array],
    place: Workplace,
    *,
    keep_names: bool = False,
) -> TFLiteModel:
    """Return `model` quantized as ordered and made lean, which `keep_names` leaves undone.

    Args:
        model: the float model.
        order: the pass, its options and engine; `AS_IS` quantizes nothing.
        calibration: arrays [n, *input shape] by input name.
        place: where the pass runs.
        keep_names: as for `edgepack.lean.PassCall`.

    Raises:
        PassError: it cannot be applied, and why.
        WorkerError: it crashed or hung.
    """
    start = time.monotonic()
    request = PassRequest(model=model.data, engine=order.engine, options=order.options, calibration=calibration)
    call = PassCall(scheme=order.scheme, request=request, keep_names=keep_names)
    result = run_task("edgepack.lean:run", call, PassResult, place)
    if order.scheme == AS_IS and not result.notes:
        return model
    step = StepRecord(
        use=order.scheme,
        tool="; ".join([result.tool, *result.notes]),
        options=request.options,
        input_digest=hashlib.sha256(model.data).hexdigest(),
        output_digest=hashlib.sha256(result.model).hexdigest(),
        seconds=time.monotonic() - start,
    )
    return TFLiteModel(data=result.model, inputs=model.inputs, outputs=model.outputs, history=(*model.history, step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where candidates are run: the interpreters of the engines' environments by ``name==version``, and the gate.

    `beside` is the float model that candidates are timed against, empty for none; `host` where a metric of the user's
    own runs.
    """

    engines: Mapping[str, Workplace]
    gate: Gate
    optimize: Optimize = field(default_factory=Optimize)
    beside: bytes = b""
    host: Workplace = field(default_factory=lambda: Workplace(python=Path(sys.executable)))

    def replay(
        self, model: TFLiteModel, profile: DeviceProfile, feeds: Mapping[str, Array], *, timed: bool = False
    ) -> LabResult:
        """Return the model's outputs on `feeds` under the profile's exact engine; `timed` beside the float model.

        Raises:
            EngineError: the engine cannot load or run the model.
            WorkerError: it crashed or hung doing so.
        """
        engine = profile.engine
        request = LabRequest(
            model=model.data,
            engine=engine.name,
            version=engine.version,
            num_threads=engine.num_threads,
            feeds=feeds,
            ram_budget=profile.budget.ram_bytes,
            beside=self.beside if timed else b"",
        )
        return run_in_lab(request, self.engines[f"{engine.name}=={engine.version}"])


class _Findings:
    """Evidence and refusals as they come in."""

    def __init__(self, profile: DeviceProfile, scheme: str) -> None:
        self.profile = profile
        self.scheme = scheme
        self.remedy = (
            "the float model it was made from"
            if scheme == AS_IS
            else "a larger precision, or more and more typical calibration samples"
        )
        self.evidence: list[Evidence] = []
        self.refusals: list[Refusal] = []

    def add(self, evidence: Evidence, remedy: str, *, unclear: bool = False) -> None:
        self.evidence.append(evidence)
        if not evidence.holds:
            self.refuse(evidence.check, evidence.found, evidence.wanted, remedy, unclear=unclear)

    def refuse(self, check: str, found: str, wanted: str, remedy: str, *, unclear: bool = False) -> None:
        self.refusals.append(
            Refusal(
                profile=self.profile.name,
                scheme=self.scheme,
                check=check,
                found=found,
                wanted=wanted,
                remedy=remedy,
                unclear=unclear,
            )
        )


def examine(
    model: TFLiteModel | PassError, scheme: str, profile: DeviceProfile, samples: Samples, bench: Bench
) -> Candidate:
    """Return the candidate with everything that was found out about it under each engine version of the profile.

    Its `lab`, `parities` and `drops` are those of the version that the bundle's header names.
    """
    findings = _Findings(profile, scheme)
    if isinstance(model, PassError):
        findings.refuse("quantization", model.message, f"a {scheme} model", model.hint or "try another precision")
        refusals = tuple(findings.refusals)
        return Candidate(scheme=scheme, model=None, lab=None, parities=(), drops=(), evidence=(), refusals=refusals)
    if samples.before is not None:
        findings.remedy += ", or training that loses less"
    lab, parities, drops = _judge(findings, model, profile, samples, bench)
    for version in profile.engine.also:
        _judge(findings, model, under(profile, version), samples, bench)
    return Candidate(
        scheme=scheme,
        model=model,
        lab=lab,
        parities=parities,
        drops=drops,
        evidence=tuple(findings.evidence),
        refusals=tuple(findings.refusals),
    )


def under(profile: DeviceProfile, version: str) -> DeviceProfile:
    """Return the profile as if its engine were of that version only."""
    return replace(profile, engine=replace(profile.engine, version=version, also=()))


def _judge(
    findings: _Findings, model: TFLiteModel, profile: DeviceProfile, samples: Samples, bench: Bench
) -> tuple[LabResult | None, tuple[Parity, ...], tuple[Drop, ...]]:
    """Add what is found out under the engine version of `profile`; return what it was found from."""
    for finding in (*check_fit(model.data, profile), *check_limits(model.inputs, model.outputs, profile)):
        evidence = Evidence(
            check=finding.check,
            holds=finding.holds,
            verdict=finding.verdict,
            found=finding.found,
            wanted=finding.wanted,
            environment="static",
        )
        # What another version of the engine does not change was found out under the first.
        if evidence not in findings.evidence:
            findings.add(evidence, finding.remedy)
    try:
        lab = bench.replay(model, profile, samples.feeds, timed=True)
    except (EngineError, WorkerError) as error:
        findings.refuse(
            "runs on the engine",
            error.message,
            f"{profile.engine.name} {profile.engine.version} runs it",
            error.hint or "try another precision",
        )
        return None, (), ()
    findings.add(memory_evidence(profile, lab), "a smaller precision, or a smaller model")
    for evidence in budget_evidence(model.data, profile, lab, bench.optimize, environment_of(profile, lab)):
        findings.add(evidence, "another precision, or --optimize auto, which looks for one within the budget")
    parities = compare(samples.reference, lab.outputs)
    limits = judged_as(findings.scheme, model.data)
    broken = broken_outputs(samples.reference, lab.outputs)
    if broken:
        findings.refuse("finite outputs", broken, "numbers", findings.remedy)
    drops = () if broken else samples.drops(lab.outputs, bench.gate, bench.host)
    judged = judged_outputs(drops, bench.gate)
    _check_similarity(findings, parities, lab, limits=limits, judged=judged)
    if samples.before is not None:
        for evidence in before_evidence(samples.before, lab.outputs, judged, environment_of(profile, lab)):
            findings.add(evidence, "less training, or labelled evaluation data, by which the gate sees more")
    excuse = excuse_of(findings.scheme, limits, parities, samples)
    for drop in drops:
        evidence = drop_evidence(drop, environment_of(profile, lab), excuse=excuse)
        findings.add(evidence, drop.remedy(findings.remedy), unclear=drop.verdict.unclear)
    return lab, parities, drops


def broken_outputs(reference: Mapping[str, Array], found: Mapping[str, Array]) -> str:
    """Return which outputs hold NaN or infinity where the source's do not; '' for none."""
    broken = [
        f"{name} on {int((~np.isfinite(found[name])).reshape(len(found[name]), -1).any(1).sum())} samples"
        for name, values in reference.items()
        if np.isfinite(values).all() and not np.isfinite(found[name]).all()
    ]
    return f"NaN or infinity in {', '.join(broken)}" if broken else ""


def excuse_of(scheme: str, limits: str, parities: Sequence[Parity], samples: Samples) -> str:
    """Return why a lack of samples does not refuse a candidate, '' where it does.

    The float model is held to the source's outputs anyway. Of a source shipped as it is nothing was made that could
    be worse, as long as the engine computes what the source's own does.
    """
    if samples.before is not None:
        return ""
    kind, limit = SIMILARITY["float32"]
    if SIMILARITY[limits][0] == kind:
        return "it is the float model"
    same = all(parity.relative_error <= limit for parity in parities)
    return "it is the source itself" if scheme == AS_IS and same else ""


def judged_outputs(drops: Sequence[Drop], gate: Gate) -> frozenset[str]:
    """Return the outputs a metric decides on in place of their likeness: with labels, or a named metric."""
    return frozenset(name for drop in drops if gate.asked or drop.labelled for name in drop.outputs)


def environment_of(profile: DeviceProfile, lab: LabResult) -> str:
    """Return in words where a replay ran, honest about what it was not."""
    text = f"{profile.engine.name} {lab.engine_version} on {lab.machine}"
    return text if lab.machine == profile.hardware.arch else f"{text} (not {profile.hardware.arch})"


def memory_evidence(profile: DeviceProfile, lab: LabResult) -> Evidence:
    """Return whether a model keeps to the profile's RAM budget, by what it took and by running within it."""
    budget = profile.budget.ram_bytes
    held = "; ran under that limit" if lab.within_budget else "; does not run under the limit"
    return Evidence(
        check="memory",
        holds=lab.ram_bytes <= budget and lab.within_budget,
        verdict="measured",
        found=f"{lab.ram_bytes:,} bytes at the peak of the first run{held}",
        wanted=f"at most {budget:,} bytes",
        environment=environment_of(profile, lab),
        value=float(lab.ram_bytes),
    )


def _check_similarity(
    findings: _Findings, parities: tuple[Parity, ...], lab: LabResult, *, limits: str, judged: frozenset[str]
) -> None:
    """Hold each output against the source's; `judged` are those that a metric decides on."""
    kind, limit = SIMILARITY[limits]
    for parity in parities:
        agreement = "" if parity.agreement is None else f", same decision on {parity.agreement:.2%}"
        close = parity.relative_error <= limit if kind == "error" else parity.correlation >= limit
        # A metric is the better judge of the output it reads, and says nothing about the others;
        # float32 has no excuse either way.
        binding = kind == "error" or parity.output not in judged
        holds = close or not binding
        wanted = f"error at most {limit:.1%} of the range" if kind == "error" else f"correlation at least {limit}"
        evidence = Evidence(
            check=f"like the float source: {parity.output}",
            holds=holds,
            verdict="measured",
            found=f"error {parity.relative_error:.2%} of the range, correlation {parity.correlation:.4f}{agreement}",
            wanted=wanted if binding else f"{wanted} (the metric decides)",
            environment=environment_of(findings.profile, lab),
            value=parity.relative_error if kind == "error" else parity.correlation,
        )
        findings.add(evidence, findings.remedy)
