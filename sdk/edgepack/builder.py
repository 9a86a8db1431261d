"""The fold: convert, quantize, compare with the source, check against each profile, and only then pack and sign.

Everything is found out first, for all profiles; a bundle is written only when every profile has a candidate that
passed, and then all of them are written or none.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from edgepack.auto import search_for
from edgepack.budgets import worse_than_float
from edgepack.candidate import Bench, Candidate, apply_pass, environment_of, examine
from edgepack.conversion import host_place
from edgepack.errors import GateError, PassError
from edgepack.foreseen import check_asked, check_converted, doubts_of
from edgepack.holdout import check_enough
from edgepack.inputs import BuildInputs, check_output, read_inputs
from edgepack.model import Refusal, TFLiteModel
from edgepack.offline import refuse_missing
from edgepack.passoptions import PassOrder, option_items
from edgepack.recipe import AUTO, Recipe
from edgepack.release import Chosen, Work, pack_chosen
from edgepack.reporter import Reporter
from edgepack.schemes import scheme_of
from edgepack.shrunk import with_bytes_saved
from edgepack.toolchain import engine_toolchain, ensure
from edgepack.trained import convert_trained
from edgepack.training_steps import train_text
from edgepack.trials import Search
from edgepack.userland import Userland, userland_for
from edgepack.variance import Halves, variance_evidence
from edgepack.worker import Workplace
from edgepack_runtime._files import write_all_whole
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.keyfiles import PassphraseSource
from edgepack_runtime.manifest import AS_IS, Manifest
from edgepack_runtime.profile import SCHEMES, DeviceProfile
from edgepack_runtime.protection import Protection, protection_of

__all__ = ["BuildResult", "build"]

_FLOAT_SCHEMES = ("float32", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """One bundle that was written, and the candidates it was chosen from (the last one is the one shipped).

    `search` is the report of a search (``--optimize auto``), None without one.
    """

    profile: DeviceProfile
    path: Path
    bundle_bytes: int
    model_bytes: int
    manifest: Manifest
    candidates: tuple[Candidate, ...]
    recipients: int
    search: Search | None = None

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
    if recipe.optimize.search:
        check_enough(0 if inputs.evaluation is None else inputs.evaluation.count, recipe.optimize)
    work = _prepare(recipe, inputs, offline, reporter)
    chosen, refusals = _choose(work, reporter)
    if refusals:
        raise GateError(
            f"no bundle was written: {', '.join(sorted({r.profile for r in refusals}))} refused {recipe.model.name}",
            refusals=refusals,
            hint="; ".join(text for text in (_way_out(work, refusals), _to_blame(work, refusals)) if text) or None,
        )
    chosen = [_shrunk(item, work, reporter) for item in chosen]
    with reporter.step(
        "proving on the emulated boards, packing and signing" if work.boards else "packing and signing"
    ):
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
            search=item.search,
        )
        for item, bundle in zip(chosen, packed, strict=True)
    )


def _prepare(recipe: Recipe, inputs: BuildInputs, offline: bool, reporter: Reporter) -> Work:
    """Return the converted model, proven equal to its source, and everything the candidates need."""
    if offline:
        refuse_missing(inputs.source.format, recipe.via, inputs.profiles)
    place = host_place(reporter)
    check_asked(recipe, inputs.source.format, place)
    bench = _bench(recipe, inputs.profiles, offline, reporter)
    boards = _boards(recipe, inputs.profiles, offline, reporter)
    converted = convert_trained(
        recipe,
        inputs,
        offline=offline,
        reporter=reporter,
        check=lambda found: check_converted(recipe, inputs, found, place),
    )
    notes = (*converted.notes, *doubts_of(recipe, inputs, converted.samples, place))
    for note in notes:
        reporter.say(note)
    return Work(
        recipe=recipe,
        inputs=inputs,
        model=converted.model,
        samples=converted.samples,
        bench=replace(bench, beside=converted.model.data),
        parity=converted.parity,
        notes=notes,
        boards=boards,
        before=converted.before,
    )


def _bench(recipe: Recipe, profiles: tuple[DeviceProfile, ...], offline: bool, reporter: Reporter) -> Bench:
    engines = {}
    for name, version in dict.fromkeys((p.engine.name, v) for p in profiles for v in p.engine.versions):
        python = ensure(engine_toolchain(name, version), offline=offline, say=reporter.say)
        engines[f"{name}=={version}"] = Workplace(python=python, log=reporter.log, say=reporter.say)
    return Bench(engines=engines, gate=recipe.gate, optimize=recipe.optimize, host=host_place(reporter))


def _boards(
    recipe: Recipe, profiles: tuple[DeviceProfile, ...], offline: bool, reporter: Reporter
) -> dict[str, Userland]:
    """Return the emulated userlands to prove bundles in, by profile; this machine's own architecture needs none."""
    if not recipe.emulate:
        return {}
    found = {profile.name: userland_for(profile, offline=offline, say=reporter.say) for profile in profiles}
    return {name: board for name, board in found.items() if board is not None}


def _schemes(recipe: Recipe, profile: DeviceProfile, source: str) -> tuple[str, ...]:
    if recipe.schemes not in ((), (AUTO,)):
        return recipe.schemes
    if source != "float32":
        return (AS_IS,)
    return profile.quantization if recipe.schemes == (AUTO,) else profile.quantization[:1]


def _choose(work: Work, reporter: Reporter) -> tuple[list[Chosen], tuple[Refusal, ...]]:
    """Return the first good candidate of each profile, or the refusals of the profiles that have none."""
    quantized: dict[PassOrder, TFLiteModel | PassError] = {}
    chosen: list[Chosen] = []
    refusals: list[Refusal] = []
    calibration = work.samples.calibration_feeds()
    source_scheme = scheme_of(work.model.data)
    for profile in work.inputs.profiles:
        if work.recipe.optimize.search and source_scheme in _FLOAT_SCHEMES:
            found, refused = search_for(work, profile, reporter)
            refusals += refused
            if found is not None:
                chosen.append(_told(found, work, reporter))
            continue
        engine = f"{profile.engine.name}=={profile.engine.version}"
        tried: list[Candidate] = []
        for scheme in _schemes(work.recipe, profile, source_scheme):
            if scheme == AS_IS:
                reporter.say(f"the source is a {source_scheme} model already: shipped as it is")
            order = work.recipe.passes.order(scheme, engine)
            if order not in quantized:
                with reporter.step(f"making the {scheme} model for {engine}"):
                    try:
                        quantized[order] = apply_pass(
                            work.model,
                            order,
                            calibration,
                            host_place(reporter),
                            keep_names=work.recipe.keep_names,
                        )
                    except PassError as error:
                        quantized[order] = error
            with reporter.step(f"running the {scheme} model under {engine} for {profile.name}"):
                candidate = examine(quantized[order], scheme, profile, work.samples, work.bench)
            if not candidate.refusals:
                found = Chosen(profile=profile, candidate=candidate, tried=tuple(tried))
                chosen.append(_told(found, work, reporter))
                break
            tried.append(candidate)
        else:
            refusals += [refusal for candidate in tried for refusal in candidate.refusals]
    return chosen, tuple(refusals)


def _told(item: Chosen, work: Work, reporter: Reporter) -> Chosen:
    """Return what was chosen with what is to be signed of it, once it was told."""
    doubts = _worse(item.candidate, item.profile, work)
    candidate, halves = item.candidate, work.recipe.calibration_halves
    if halves:
        made = Halves(
            count=halves,
            model=work.model,
            place=host_place(reporter),
            keep_names=work.recipe.keep_names,
            digest=work.inputs.calibration.digest,
        )
        with reporter.step(f"making the {candidate.scheme} model again from halves of the calibration samples"):
            spread = variance_evidence(candidate, item.profile, work.samples, work.bench, made)
        candidate = replace(candidate, evidence=(*candidate.evidence, *spread))
        doubts += tuple(f"calibration variance: {evidence.found}" for evidence in spread)
    for text in (*item.notes, *doubts):
        reporter.say(text)
    return replace(item, candidate=candidate, notes=(*item.notes, *doubts))


def _shrunk(item: Chosen, work: Work, reporter: Reporter) -> Chosen:
    """Return it with the bytes that training saved, and say so; as it is where nothing was trained."""
    shrunk = with_bytes_saved(item, work)
    for text in (*(e.found for e in shrunk.evidence[len(item.evidence) :]), *shrunk.notes[len(item.notes) :]):
        reporter.say(f"{item.profile.name} after training: {text}")
    return shrunk


def _worse(candidate: Candidate, profile: DeviceProfile, work: Work) -> tuple[str, ...]:
    """Return what is told, and signed, of a candidate that is larger or slower than the float model."""
    model, lab = candidate.model, candidate.lab
    if model is None or lab is None or candidate.scheme == AS_IS:
        return ()
    where = environment_of(profile, lab)
    return worse_than_float(model.data, work.model.data, lab.timing, candidate.scheme, where)


def _way_out(work: Work, refusals: tuple[Refusal, ...]) -> str | None:
    """Return which other precisions could be tried; None where all were, or would not help."""
    if all(refusal.unclear for refusal in refusals):
        return None
    recipe, profiles = work.recipe, work.inputs.profiles
    if recipe.schemes == (AUTO,) or recipe.optimize.search or scheme_of(work.model.data) not in _FLOAT_SCHEMES:
        return None
    tried = set(recipe.schemes) or {p.quantization[0] for p in profiles}
    left = [s for s in SCHEMES if s not in tried and all(s in p.quantization for p in profiles)]
    return f"try --precision {' or '.join([AUTO, *left])}" if left else None


def _to_blame(work: Work, refusals: tuple[Refusal, ...]) -> str:
    """Return the command that names the layers in which a candidate goes wrong, '' where none ran and was wrong."""
    recipe = work.recipe
    for refusal in refusals:
        unlike = refusal.check.startswith("like the float source") or " drop" in refusal.check
        if (
            refusal.unclear
            or not unlike
            or refusal.scheme not in SCHEMES
            or refusal.scheme == "float32"
            or scheme_of(work.model.data) not in _FLOAT_SCHEMES
        ):
            continue
        return f"which layers are to blame: {shlex.join(_diagnose_command(recipe, refusal))}"
    return ""


def _diagnose_command(recipe: Recipe, refusal: Refusal) -> list[str]:
    command = ["edgepack", "diagnose", "--precision", refusal.scheme, "--profile", refusal.profile]
    if recipe.processing is not None:
        # Only edgepack.toml declares it, and has the rest too.
        return command
    command[2:2] = [str(recipe.model)]
    command += ["--data", str(recipe.evaluation or recipe.calibration)]
    command += ["--calibration", str(recipe.calibration)] if recipe.evaluation else []
    command += [] if recipe.training_set is None else ["--training-set", str(recipe.training_set)]
    command += [word for step in recipe.training for word in ("--train", train_text(step))]
    for key, value in option_items(recipe.passes, refusal.scheme):
        command += ["--pass-option", f"{refusal.scheme}.{key}={value}"]
    return command + [word for road in recipe.via for word in ("--via", road)]
