"""Make the bundle of an accepted candidate: golden tensors, a second replay, the manifest, the signed bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgepack import __version__
from edgepack.candidate import Bench, Candidate, Samples, environment_of, judged_as, under
from edgepack.errors import GateError
from edgepack.inputs import BuildInputs
from edgepack.lab import LabResult
from edgepack.model import Refusal, TFLiteModel
from edgepack.pack import GOLDEN_ENTRY, MODEL_ENTRY, Contents, pack
from edgepack.proof import prove_on_board
from edgepack.recipe import Recipe, parse_requires
from edgepack.schemes import is_stateful
from edgepack.tolerances import REPEATED, SIGNED
from edgepack.trials import Search
from edgepack.userland import Userland
from edgepack_runtime.golden import GoldenSample, compare_golden, pack_golden
from edgepack_runtime.manifest import Evidence, Golden, Manifest, ModelDescription, Provenance, Step
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.tensors import Array

__all__ = ["Chosen", "Packed", "Work", "pack_chosen"]

_MAX_GOLDEN_SAMPLES = 8
# Golden tensors cost storage on every device: at most a quarter of the model, or this much where that is more.
_MIN_GOLDEN_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all profiles of one build share: the recipe, what it named, the samples, the engines, the notes.

    `parity` is how close the converted float model is to its source; `boards` are the emulated userlands, by
    profile, that bundles have to run in before they are signed; `before` is the source as it came as float TFLite,
    where it was trained further.
    """

    recipe: Recipe
    inputs: BuildInputs
    model: TFLiteModel
    samples: Samples
    bench: Bench
    parity: tuple[Evidence, ...]
    notes: tuple[str, ...]
    boards: Mapping[str, Userland]
    before: TFLiteModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The candidate shipped for a profile, those that were refused before it, and what to sign of the choice.

    `search` is the report of the search that found it, None where the candidates were given.
    `evidence` is what was found out about it after it was chosen.
    """

    profile: DeviceProfile
    candidate: Candidate
    tried: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    search: Search | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A finished bundle in memory and the name its file will have."""

    name: str
    data: bytes
    manifest: Manifest


def _golden(samples: Samples, lab: LabResult, model: bytes) -> tuple[GoldenSample, ...]:
    """Return calibration samples with what the accepted candidate gave for them, two at least where there are two."""
    size = sum(array[0].nbytes for array in (*samples.feeds.values(), *lab.outputs.values()))
    room = max(_MIN_GOLDEN_BYTES, len(model) // 4) // max(1, size)
    count = min(max(2, min(_MAX_GOLDEN_SAMPLES, room)), samples.calibration)
    return tuple(
        GoldenSample(
            inputs={n: a[i] for n, a in samples.feeds.items()}, outputs={n: a[i] for n, a in lab.outputs.items()}
        )
        for i in (range(count) if is_stateful(model) else _diverse(samples.calibration, lab.outputs, count))
    )


def _diverse(samples: int, outputs: Mapping[str, Array], count: int) -> list[int]:
    """Return `count` of the first `samples`: where each output is lowest and highest on average, then evenly spaced.

    The extremes give an output its range, of which the tolerance of a replay is a share. A stateful model takes its
    first samples instead, because each depends on all before it.
    """
    extremes = []
    for output in outputs.values():
        level = output[:samples].reshape(samples, -1).astype(np.float64).mean(axis=1)
        extremes += [int(level.argmin()), int(level.argmax())]
    spaced = np.linspace(0, samples - 1, count).round().astype(int).tolist()
    return list(dict.fromkeys([*extremes, *spaced, *range(samples)]))[:count]


def _replays(
    item: Chosen, model: TFLiteModel, golden: tuple[GoldenSample, ...], kind: str, bench: Bench
) -> tuple[Evidence, ...]:
    """Return the evidence of `_replay` under each version of the engine that the profile accepts.

    `kind` is the scheme whose tolerances apply.

    Raises:
        GateError: the engine gives other numbers the second time, or in another version.
    """
    profile = item.profile
    again = "the engine is not deterministic on this model; use another precision"
    found = [_replay(item, model, golden, (REPEATED, again), bench)]
    for version in profile.engine.also:
        other = replace(item, profile=under(profile, version))
        remedy = f"take {version} out of the profile's engine.also, or use another precision"
        found.append(_replay(other, model, golden, (SIGNED[kind], remedy), bench))
    return tuple(found)


def _replay(
    item: Chosen, model: TFLiteModel, golden: tuple[GoldenSample, ...], limit: tuple[float, str], bench: Bench
) -> Evidence:
    """Return the evidence of a second replay, in a fresh process: what the device will repeat.

    Raises:
        GateError: it gives other numbers than the first; what to do about it stands beside the tolerance in `limit`.
    """
    tolerance, remedy = limit
    feeds = {n: np.stack([g.inputs[n] for g in golden]) for n in golden[0].inputs}
    lab = bench.replay(model, item.profile, feeds)
    replay = compare_golden(lab.outputs, golden, tolerance)
    found = f"{replay.samples} golden samples, largest difference {replay.error:.2g} of the range"
    wanted = f"at most {tolerance:g}"
    if not replay.holds:
        refusal = Refusal(
            profile=item.profile.name,
            scheme=item.candidate.scheme,
            check="golden outputs",
            found=found,
            wanted=wanted,
            remedy=remedy,
        )
        where = environment_of(item.profile, lab)
        raise GateError(f"no bundle was written: golden outputs do not repeat under {where}", refusals=(refusal,))
    return Evidence(
        check="golden outputs",
        holds=True,
        verdict="measured",
        found=found,
        wanted=wanted,
        environment=environment_of(item.profile, lab),
        value=replay.error,
    )


def _proven(
    item: Chosen, contents: Contents, manifest: Manifest, golden: tuple[GoldenSample, ...], where: Userland
) -> Manifest:
    """Return the manifest with the evidence of a run on the emulated board.

    Raises:
        GateError: the outputs there are others, or it does not run there.
    """
    evidence = prove_on_board(contents, manifest, golden, where, None)
    if not evidence.holds:
        refusal = Refusal(
            profile=item.profile.name,
            scheme=item.candidate.scheme,
            check=evidence.check,
            found=f"{evidence.found} ({evidence.environment})",
            wanted=evidence.wanted,
            remedy="another precision; this model runs otherwise on that processor",
        )
        raise GateError(
            f"no bundle was written: {item.profile.name} would compute something else", refusals=(refusal,)
        )
    return replace(manifest, evidence=(*manifest.evidence, evidence))


def pack_chosen(item: Chosen, work: Work) -> Packed:
    """Return the bundle of an accepted candidate, signed.

    Raises:
        GateError: its engine does not give the same outputs twice, or gives others on the emulated board.
        EngineError: the engine failed the second time.
        WorkerError: it crashed or hung.
    """
    candidate = item.candidate
    model, lab = candidate.model, candidate.lab
    if model is None or lab is None:
        raise AssertionError("a candidate without refusals has a model that ran")
    golden = _golden(work.samples, lab, model.data)
    kind = judged_as(candidate.scheme, model.data)
    evidence = _replays(item, model, golden, kind, work.bench)
    declared = work.recipe.processing
    manifest = Manifest(
        name=work.recipe.product,
        version=work.recipe.version,
        licence=work.recipe.licence,
        profile=item.profile,
        model=ModelDescription(
            entry=MODEL_ENTRY,
            scheme=candidate.scheme,
            inputs=model.inputs,
            outputs=model.outputs,
            stateful=is_stateful(model.data),
        ),
        golden=Golden(entry=GOLDEN_ENTRY, samples=len(golden), tolerance=SIGNED[kind]),
        labels=work.inputs.labels,
        provenance=_provenance(work.inputs, model, (*work.notes, *item.notes)),
        evidence=(*work.parity, *candidate.evidence, *item.evidence, *evidence),
        requires=parse_requires(work.recipe.requires, work.recipe.product),
        processing=None if declared is None else declared.for_model(model.inputs, model.outputs, work.inputs.labels),
    )
    contents = Contents(model=model.data, golden=pack_golden(golden, model.inputs, model.outputs))
    if item.profile.name in work.boards:
        manifest = _proven(item, contents, manifest, golden, work.boards[item.profile.name])
    name = f"{manifest.name}-{manifest.version}-{item.profile.name}.edgepack"
    return Packed(name=name, data=pack(contents, manifest, work.inputs.release), manifest=manifest)


def _provenance(inputs: BuildInputs, model: TFLiteModel, notes: tuple[str, ...]) -> Provenance:
    return Provenance(
        tool=f"edgepack {__version__}",
        source_format=inputs.source.format,
        source_digest=inputs.source.digest,
        calibration_digest=inputs.calibration.digest,
        evaluation_digest="" if inputs.evaluation is None else inputs.evaluation.digest,
        steps=tuple(
            Step(
                use=s.use,
                tool=s.tool,
                options=s.options,
                input_digest=s.input_digest,
                output_digest=s.output_digest,
            )
            for s in model.history
        ),
        notes=notes,
    )
