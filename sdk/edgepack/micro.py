"""Build for microcontrollers: a folder with the model, the same as C, and signed evidence, or a table that says why.

There is no bundle, because nothing on such a board opens one: the model becomes part of its firmware.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgepack import __version__
from edgepack.c_source import CModel, c_files
from edgepack.candidate import apply_pass
from edgepack.conversion import Converted, host_place
from edgepack.errors import GateError, PassError, ProfileError, RecipeError
from edgepack.foreseen import check_asked, check_converted, doubts_of
from edgepack.inputs import BuildInputs, check_output, read_inputs
from edgepack.micro_judge import Judged, MicroBench, judge
from edgepack.micro_profile import Micro, find_micro
from edgepack.model import Refusal, StepRecord
from edgepack.passoptions import PassOptions
from edgepack.recipe import AUTO, Recipe
from edgepack.reporter import Reporter
from edgepack.schemes import is_stateful, scheme_of
from edgepack.statement import STATEMENT_FILE, sign_statement
from edgepack.toolchain import Toolchain, ensure, locate
from edgepack.trained import convert_trained
from edgepack.worker import Workplace
from edgepack_runtime._files import write_all_whole
from edgepack_runtime.errors import InputError
from edgepack_runtime.keyfiles import PassphraseSource
from edgepack_runtime.manifest import AS_IS, Evidence

__all__ = ["MicroResult", "build_micro", "micros_of"]

_INTERPRETER, _COMPILER = "tflite-micro", "ethos-u-vela"
# No table of tflite-micro's operators is known. What a pass makes is tried in the interpreter itself, so the pass may
# use all that the newest engine has.
_OPERATORS_OF = "ai-edge-litert==2.3.0"
_AS_LARGE = "pruned and clustered weights take as much flash as others: nothing unpacks them on a microcontroller"
# Integers go in and come out, as a board's sensors have them.
_INTEGERS = PassOptions(by_pass={"full_integer": '{"io":"int8"}'})


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroResult:
    """One folder that was written: its files with their sizes, and what was found out."""

    profile: Micro
    folder: Path
    files: Mapping[str, int]
    scheme: str
    evidence: tuple[Evidence, ...]


def micros_of(names: tuple[str, ...]) -> tuple[Micro, ...]:
    """Return the microcontroller profiles of these names; empty if all of them are devices'.

    Raises:
        RecipeError: some are the one and some the other, or one is there twice.
        ProfileError: a file cannot be read.
        SchemaError: a field of one is wrong.
        FileError: a file cannot be read.
    """
    found = [find_micro(name) for name in names]
    micros = tuple(micro for micro in found if micro is not None)
    if micros and len(micros) < len(names):
        others = ", ".join(name for name, micro in zip(names, found, strict=True) if micro is None)
        raise RecipeError(
            f"{', '.join(m.name for m in micros)} gets firmware files, {others} a bundle",
            hint="build for devices and for microcontrollers in two builds",
        )
    if len({micro.name for micro in micros}) != len(micros):
        raise RecipeError(f"one profile is named twice, by an alias: {', '.join(names)}")
    return micros


def build_micro(
    recipe: Recipe,
    profiles: tuple[Micro, ...],
    *,
    offline: bool = False,
    reporter: Reporter | None = None,
    passphrase: PassphraseSource | None = None,
) -> tuple[MicroResult, ...]:
    """Return the folders that were written, one a profile.

    Args:
        recipe: what to build.
        profiles: what its profiles are, from `micros_of`.
        offline: refuse rather than install a missing toolchain.
        reporter: told what goes on.
        passphrase: asked, before anything slow starts, if the signing key is encrypted.

    Raises:
        GateError: a profile has no candidate good enough; nothing was written.
        EdgepackError: something given is wrong, or a step failed; nothing was written.
    """
    reporter = reporter or Reporter()
    _refuse_what_bundles_have(recipe)
    if recipe.processing is not None:
        reporter.say(
            "[processing] prepares the data here; a microcontroller gets no bundle, its firmware has to do the same"
        )
    inputs = read_inputs(recipe, reporter, passphrase, for_devices=False)
    check_output(recipe.output)
    place = host_place(reporter)
    check_asked(recipe, inputs.source.format, place)
    bench = _bench(recipe, profiles, offline, reporter)
    converted = convert_trained(
        recipe,
        inputs,
        offline=offline,
        reporter=reporter,
        check=lambda found: check_converted(recipe, inputs, found, place),
    )
    if is_stateful(converted.model.data):
        raise InputError(
            "the model keeps state from run to run, which is not proven for microcontrollers",
            hint="give the state to it as an input, and take it back as an output",
        )
    notes = (*converted.notes, *doubts_of(recipe, inputs, converted.samples, place))
    if any(step.shrinks for step in recipe.training):
        notes += (_AS_LARGE,)
    for note in notes:
        reporter.say(note)
    converted = replace(converted, notes=notes)
    chosen = [_choose(recipe, profile, converted, bench, reporter) for profile in profiles]
    refused = tuple(refusal for _, refusals in chosen for refusal in refusals)
    if refused:
        raise GateError(
            f"nothing was written: {', '.join(sorted({r.profile for r in refused}))} refused {recipe.model.name}",
            refusals=refused,
        )
    files: dict[Path, bytes] = {}
    results = []
    for profile, (found, _) in zip(profiles, chosen, strict=True):
        if found is None:
            raise AssertionError("a profile without refusals has a candidate")
        folder = recipe.output / f"{recipe.product}-{recipe.version}-{profile.name}"
        contents = _files(recipe, profile, inputs, converted, found)
        files |= {folder / name: data for name, data in contents.items()}
        results.append(
            MicroResult(
                profile=profile,
                folder=folder,
                files={name: len(data) for name, data in contents.items()},
                scheme=found.judged.scheme,
                evidence=(*converted.parity, *found.judged.evidence),
            )
        )
    with reporter.step("signing and writing"):
        write_all_whole(files)
    return tuple(results)


def _refuse_what_bundles_have(recipe: Recipe) -> None:
    given = {
        "--recipient": recipe.recipients,
        "--compress": recipe.compress,
        "--emulate": recipe.emulate,
        "--expires": recipe.expires,
        "--requires": recipe.requires,
        "--security-version": recipe.security_version != 1,
    }
    if recipe.optimize.search:
        raise RecipeError(
            "--optimize auto times candidates under a device's engine, which a microcontroller does not have",
            hint="name precisions with --precision; the first that passes is taken",
        )
    if named := [option for option, value in given.items() if value]:
        raise RecipeError(
            f"{', '.join(named)}: said of bundles, and a microcontroller gets none",
            hint="its firmware is what is encrypted, and what has versions",
        )


def _bench(recipe: Recipe, profiles: tuple[Micro, ...], offline: bool, reporter: Reporter) -> MicroBench:
    interpreter, compiler = locate(_INTERPRETER), locate(_COMPILER)
    for profile in profiles:
        _check_version(interpreter, profile.engine_version, profile.name)
        if profile.npu is not None:
            _check_version(compiler, profile.npu.compiler_version, profile.name)

    def place(toolchain: Toolchain) -> Workplace:
        python = ensure(toolchain, offline=offline, say=reporter.say)
        return Workplace(python=python, log=reporter.log, say=reporter.say)

    return MicroBench(
        host=host_place(reporter),
        interpreter=place(interpreter),
        compiler=place(compiler) if any(profile.npu is not None for profile in profiles) else None,
        gate=recipe.gate,
        keep_names=recipe.keep_names,
    )


def _check_version(toolchain: Toolchain, version: str, profile: str) -> None:
    """Refuse a version for which there is no lock file before anything slow starts."""
    pinned = re.search(rf"^{toolchain.name}==(\S+)", toolchain.requirements, re.MULTILINE)
    if pinned is None or pinned[1] != version:
        has = "none" if pinned is None else pinned[1]
        raise ProfileError(
            f"{profile}: {toolchain.name} {version} is asked for, and edgepack has {has}",
            hint=f"name {has} in the profile, and build the firmware with the sources of that day",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An accepted candidate, and the steps that made it."""

    judged: Judged
    history: tuple[StepRecord, ...]


def _choose(
    recipe: Recipe, profile: Micro, converted: Converted, bench: MicroBench, reporter: Reporter
) -> tuple[_Found | None, tuple[Refusal, ...]]:
    """Return the first good candidate, or the refusals of all of them."""
    source = scheme_of(converted.model.data)
    schemes = profile.quantization if recipe.schemes == (AUTO,) else recipe.schemes or profile.quantization[:1]
    if source != "float32" and recipe.schemes in ((), (AUTO,)):
        schemes = (AS_IS,)
    refusals: list[Refusal] = []
    for scheme in schemes:
        with reporter.step(f"making the {scheme} model and running it under {profile.engine} for {profile.name}"):
            try:
                order = _INTEGERS.changed(recipe.passes).order(scheme, _OPERATORS_OF)
                feeds = converted.samples.calibration_feeds()
                made = apply_pass(converted.model, order, feeds, bench.host, keep_names=bench.keep_names)
                judged = judge(made.data, scheme, profile, converted.samples, bench)
            except PassError as error:
                refusals.append(
                    Refusal(
                        profile=profile.name,
                        scheme=scheme,
                        check="quantization",
                        found=error.message,
                        wanted=f"a {scheme} model",
                        remedy=error.hint or "try another precision",
                    )
                )
                continue
        if not judged.refusals:
            return _Found(judged=judged, history=made.history), ()
        refusals += judged.refusals
    return None, tuple(refusals)


def _files(
    recipe: Recipe, profile: Micro, inputs: BuildInputs, converted: Converted, found: _Found
) -> Mapping[str, bytes]:
    """Return what a folder holds, by name: the model, the C files, and the signed evidence of them all."""
    judged = found.judged
    contents = {"model.tflite": judged.model}
    contents |= c_files(
        CModel(
            name=recipe.product,
            model=judged.model,
            compiled=profile.npu is not None,
            arena_bytes=profile.budget.arena_bytes,
            arena_used_bytes=judged.arena_used_bytes,
            inputs=judged.inputs,
            outputs=judged.outputs,
            golden=judged.golden,
        )
    )
    steps = [asdict(step) for step in found.history]
    statement = {
        "statement": 1,
        "tool": f"edgepack {__version__}",
        "product": recipe.product,
        "version": recipe.version,
        "licence": recipe.licence,
        "created": inputs.release.created,
        "profile": profile.to_json(),
        "profile_digest": profile.digest(),
        "scheme": judged.scheme,
        "inputs": [spec.to_json() for spec in judged.inputs],
        "outputs": [spec.to_json() for spec in judged.outputs],
        "labels": list(inputs.labels),
        "source": {"format": inputs.source.format, "sha256": inputs.source.digest},
        "calibration_sha256": inputs.calibration.digest,
        "evaluation_sha256": "" if inputs.evaluation is None else inputs.evaluation.digest,
        "steps": [{name: value for name, value in step.items() if name != "seconds"} for step in steps],
        "notes": list(converted.notes),
        "evidence": [
            {name: value for name, value in asdict(item).items() if value is not None}
            for item in (*converted.parity, *judged.evidence)
        ],
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(contents.items())
        ],
    }
    return contents | {STATEMENT_FILE: sign_statement(statement, inputs.release.signing_key)}
