"""The fold: convert, quantize, compare with the source, check against each profile, and only then pack and sign.

Everything is found out first, for all profiles; a bundle is written only when every profile has a candidate that
passed, and then all of them are written or none.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edgepack.candidate import Bench, Candidate, Samples, apply_pass, examine
from edgepack.dataset import bind_feeds, join_feeds
from edgepack.errors import ConversionError, GateError, PassError, RecipeError
from edgepack.evaluate import compare, doubt, predictions
from edgepack.inputs import BuildInputs, check_output, read_inputs
from edgepack.lab import LabRequest, run_in_lab
from edgepack.model import Conversion, ConversionRequest, Refusal, StepRecord, TFLiteModel
from edgepack.recipe import AUTO, Recipe
from edgepack.release import Chosen, Work, pack_chosen
from edgepack.reporter import Reporter
from edgepack.schemes import scheme_of
from edgepack.toolchain import HOST, engine_toolchain, ensure, locate
from edgepack.worker import Workplace, run_task, scratch_folder
from edgepack_runtime._fields import parse_json
from edgepack_runtime._files import write_all_whole
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.keyfiles import PassphraseSource
from edgepack_runtime.manifest import AS_IS, Evidence, Manifest
from edgepack_runtime.profile import SCHEMES, DeviceProfile
from edgepack_runtime.protection import Protection, protection_of
from edgepack_runtime.tensors import Array

__all__ = ["PARITY_TOLERANCE", "BuildResult", "build"]

# Largest difference between the converted float model and its source framework, as a share of the output's range.
PARITY_TOLERANCE = 1e-4
_REFERENCE_ENGINE = "ai-edge-litert"
# What a recipe's max_difference may raise it to.
_LARGEST_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """One bundle that was written, and the candidates it was chosen from (the last one is the one shipped)."""

    profile: DeviceProfile
    path: Path
    bundle_bytes: int
    model_bytes: int
    manifest: Manifest
    candidates: tuple[Candidate, ...]
    recipients: int

    @property
    def protection(self) -> Protection:
        """How well the bundle protects the model."""
        suite = PayloadSuite.COBBLESTONE_256 if self.recipients else PayloadSuite.PLAIN
        return protection_of(suite, self.recipients)


def build(
    recipe: Recipe,
    *,
    offline: bool = False,
    reporter: Reporter | None = None,
    passphrase: PassphraseSource | None = None,
) -> tuple[BuildResult, ...]:
    """Return the bundles that were written, one a profile.

    Args:
        recipe: what to build.
        offline: refuse rather than install a missing toolchain.
        reporter: told what goes on.
        passphrase: asked, before anything slow starts, if the signing key is encrypted.

    Raises:
        GateError: a profile has no candidate good enough; nothing was written.
        EdgepackError: something given is wrong, or a step failed; nothing was written.
    """
    reporter = reporter or Reporter()
    inputs = read_inputs(recipe, reporter, passphrase)
    check_output(recipe.output)
    work = _prepare(recipe, inputs, offline, reporter)
    chosen, refusals = _choose(work, reporter)
    if refusals:
        raise GateError(
            f"no bundle was written: {', '.join(sorted({r.profile for r in refusals}))} refused {recipe.model.name}",
            refusals=refusals,
            hint=_way_out(work),
        )
    with reporter.step("packing and signing"):
        packed = [pack_chosen(item, work) for item in chosen]
        write_all_whole({recipe.output / item.name: item.data for item in packed})
    return tuple(
        BuildResult(
            profile=item.profile,
            path=recipe.output / bundle.name,
            bundle_bytes=len(bundle.data),
            model_bytes=len(item.candidate.model.data) if item.candidate.model else 0,
            manifest=bundle.manifest,
            candidates=(*item.tried, item.candidate),
            recipients=len(inputs.release.recipients),
        )
        for item, bundle in zip(chosen, packed, strict=True)
    )


def _prepare(recipe: Recipe, inputs: BuildInputs, offline: bool, reporter: Reporter) -> Work:
    """Return the converted model, proven equal to its source, and everything the candidates need."""
    converter = importlib.import_module(f"edgepack.converters.{inputs.source.format}")
    place = _place(converter.TOOLCHAIN, offline, reporter)
    bench = _bench(recipe, inputs.profiles, offline, reporter)
    model, samples, notes = _convert(recipe, inputs, place, reporter)
    with reporter.step("comparing the converted model with its source"):
        parity = _check_parity(model, samples, _parity_tolerance(recipe), _host_place(reporter))
    notes += _doubts(recipe, inputs, samples)
    for note in notes:
        reporter.say(note)
    return Work(recipe=recipe, inputs=inputs, model=model, samples=samples, bench=bench, parity=parity, notes=notes)


def _doubts(recipe: Recipe, inputs: BuildInputs, samples: Samples) -> tuple[str, ...]:
    """Return what makes the evaluation worth less than it looks; it is told, and signed with the other notes."""
    if inputs.evaluation is None or samples.labels is None:
        return ()
    source = {name: array[samples.calibration :] for name, array in samples.reference.items()}
    doubts = [doubt(*predictions(source, samples.labels, recipe.gate.output))]
    if inputs.evaluation.digest == inputs.calibration.digest:
        doubts.append("calibration and evaluation data are one and the same file: the drop says little of other data")
    return tuple(text for text in doubts if text)


def _convert(
    recipe: Recipe, inputs: BuildInputs, place: Workplace, reporter: Reporter
) -> tuple[TFLiteModel, Samples, tuple[str, ...]]:
    """Return the float model, the samples with the source's own outputs, and the converter's notes."""
    source = inputs.source
    evaluation = inputs.evaluation
    feeds = join_feeds(inputs.calibration.feeds, None if evaluation is None else evaluation.feeds)
    start = time.monotonic()
    with reporter.step(f"converting {source.path.name} ({source.format})"), scratch_folder() as scratch:
        request = ConversionRequest(
            source=source.path.resolve(), options=recipe.converter, feeds=feeds, scratch=scratch
        )
        conversion = run_task(f"edgepack.converters.{source.format}:convert", request, Conversion, place)
    step = StepRecord(
        use=f"convert {source.format}",
        tool=conversion.tool,
        options=recipe.converter,
        input_digest=source.digest,
        output_digest=hashlib.sha256(conversion.tflite).hexdigest(),
        seconds=time.monotonic() - start,
    )
    model = TFLiteModel(data=conversion.tflite, inputs=conversion.inputs, outputs=conversion.outputs, history=(step,))
    samples = Samples(
        feeds=bind_feeds(feeds, conversion.inputs, "the data"),
        reference=_reference(conversion),
        calibration=inputs.calibration.count,
        labels=None if evaluation is None else evaluation.labels,
    )
    return model, samples, conversion.notes


def _reference(conversion: Conversion) -> dict[str, Array]:
    """Return the source's outputs as [n, *output shape], the batch dimension of 1 put back."""
    reference = {}
    for spec in conversion.outputs:
        array = conversion.reference.get(spec.name)
        if array is None or array.size != len(array) * math.prod(spec.shape):
            raise ConversionError(f"the converter gave no reference for output {spec}")
        reference[spec.name] = array.reshape(len(array), *spec.shape)
    return reference


def _host_place(reporter: Reporter) -> Workplace:
    return Workplace(python=Path(sys.executable), log=reporter.log, say=reporter.say)


def _place(toolchain: str, offline: bool, reporter: Reporter) -> Workplace:
    if toolchain == HOST:
        return _host_place(reporter)
    python = ensure(locate(toolchain), offline=offline, say=reporter.say)
    return Workplace(python=python, log=reporter.log, say=reporter.say)


def _parity_tolerance(recipe: Recipe) -> float:
    """Return how far the conversion may be off: what the converter was told to accept, else `PARITY_TOLERANCE`."""
    options = parse_json(recipe.converter.encode(), "converter options")
    told = options.get("max_difference") if isinstance(options, dict) else None
    tolerance = float(told) if isinstance(told, (int, float)) else PARITY_TOLERANCE
    if not 0 <= tolerance <= _LARGEST_TOLERANCE:
        raise RecipeError(
            f"max_difference {tolerance:g} is not from 0 to {_LARGEST_TOLERANCE}: that is no conversion"
        )
    return tolerance


def _check_parity(model: TFLiteModel, samples: Samples, tolerance: float, place: Workplace) -> tuple[Evidence, ...]:
    """Return the evidence that the converted float model computes what its source does, an item an output.

    Raises:
        ConversionError: an output differs by more than `tolerance`.
    """
    request = LabRequest(model=model.data, engine=_REFERENCE_ENGINE, num_threads=2, feeds=samples.feeds)
    result = run_in_lab(request, place)
    evidence = []
    for parity in compare(samples.reference, result.outputs):
        if not parity.relative_error <= tolerance:
            raise ConversionError(
                f"the converted model is not the source: output {parity.output!r} differs by "
                f"{parity.relative_error:.2%} of its range, at most {tolerance:.2%} is accepted",
                hint="this is the conversion, not quantization; if that much is known to be harmless, "
                "set max_difference in [converter] of edgepack.toml",
            )
        evidence.append(
            Evidence(
                check=f"conversion: {parity.output}",
                holds=True,
                verdict="measured",
                found=f"largest difference {parity.relative_error:.2g} of the range, before quantization",
                wanted=f"at most {tolerance:g}",
                environment=f"{_REFERENCE_ENGINE} {result.engine_version} on {result.machine}",
                value=parity.relative_error,
            )
        )
    return tuple(evidence)


def _bench(recipe: Recipe, profiles: tuple[DeviceProfile, ...], offline: bool, reporter: Reporter) -> Bench:
    engines = {}
    for profile in profiles:
        name, version = profile.engine.name, profile.engine.version
        python = ensure(engine_toolchain(name, version), offline=offline, say=reporter.say)
        engines[f"{name}=={version}"] = Workplace(python=python, log=reporter.log, say=reporter.say)
    return Bench(engines=engines, gate=recipe.gate)


def _schemes(recipe: Recipe, profile: DeviceProfile, source: str) -> tuple[str, ...]:
    if recipe.schemes not in ((), (AUTO,)):
        return recipe.schemes
    if source != "float32":
        return (AS_IS,)
    return profile.quantization if recipe.schemes == (AUTO,) else profile.quantization[:1]


def _choose(work: Work, reporter: Reporter) -> tuple[list[Chosen], tuple[Refusal, ...]]:
    """Return the first good candidate of each profile, or the refusals of the profiles that have none."""
    quantized: dict[tuple[str, str], TFLiteModel | PassError] = {}
    chosen: list[Chosen] = []
    refusals: list[Refusal] = []
    calibration = work.samples.calibration_feeds()
    source_scheme = scheme_of(work.model.data)
    for profile in work.inputs.profiles:
        engine = f"{profile.engine.name}=={profile.engine.version}"
        tried: list[Candidate] = []
        for scheme in _schemes(work.recipe, profile, source_scheme):
            if scheme == AS_IS:
                reporter.say(f"the source is a {source_scheme} model already: shipped as it is")
            if (scheme, engine) not in quantized:
                with reporter.step(f"making the {scheme} model for {engine}"):
                    try:
                        quantized[scheme, engine] = apply_pass(
                            work.model, scheme, calibration, _host_place(reporter), engine
                        )
                    except PassError as error:
                        quantized[scheme, engine] = error
            with reporter.step(f"running the {scheme} model under {engine} for {profile.name}"):
                candidate = examine(quantized[scheme, engine], scheme, profile, work.samples, work.bench)
            if not candidate.refusals:
                chosen.append(Chosen(profile=profile, candidate=candidate, tried=tuple(tried)))
                break
            tried.append(candidate)
        else:
            refusals += [refusal for candidate in tried for refusal in candidate.refusals]
    return chosen, tuple(refusals)


def _way_out(work: Work) -> str | None:
    """Return which other precisions could be tried; None where all were, or the source has no float weights."""
    recipe, profiles = work.recipe, work.inputs.profiles
    if recipe.schemes == (AUTO,) or scheme_of(work.model.data) not in ("float32", "float16"):
        return None
    tried = set(recipe.schemes) or {p.quantization[0] for p in profiles}
    left = [s for s in SCHEMES if s not in tried and all(s in p.quantization for p in profiles)]
    return f"try --precision {' or '.join([AUTO, *left])}" if left else None
