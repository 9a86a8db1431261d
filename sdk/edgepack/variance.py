"""How much a model depends on which calibration samples it happened to get: made again from random halves of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.candidate import Bench, Candidate, Samples, apply_pass, environment_of
from edgepack.errors import PassError, WorkerError
from edgepack.evaluate import Parity, compare
from edgepack.gate import Drop
from edgepack.model import TFLiteModel
from edgepack.passoptions import PassOrder
from edgepack.worker import Workplace
from edgepack_runtime.errors import EngineError
from edgepack_runtime.manifest import AS_IS, Evidence
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.tensors import Array

__all__ = ["CHECK", "Halves", "random_half", "variance_evidence"]

_FEWEST = 4
CHECK = "calibration variance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """How often a model is made again, from which float model, where, and the digest of the calibration data."""

    count: int
    model: TFLiteModel
    place: Workplace
    digest: str
    keep_names: bool = False


def random_half(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Return half of the samples, drawn at random without putting any back; the same for the same seed."""
    count = len(next(iter(feeds.values())))
    picks = np.sort(np.random.default_rng(seed).choice(count, (count + 1) // 2, replace=False))
    return {name: array[picks] for name, array in feeds.items()}


def variance_evidence(
    candidate: Candidate, profile: DeviceProfile, samples: Samples, bench: Bench, halves: Halves
) -> tuple[Evidence, ...]:
    """Return how the candidate's figures spread over models calibrated with halves of the samples; () if no pass ran.

    It refuses nothing: half of the samples is fewer than what is shipped had. A spread as wide as the budget says
    that the next calibration set may make another model.

    Args:
        candidate: what passed, made by a pass that was told in its history.
        profile: whose engine the models run under.
        samples: all of the build's.
        bench: where models run, and the gate.
        halves: how often, and from what.

    Raises:
        DatasetError: outputs, labels and the gate's metrics do not fit each other.
        RecipeError: the user's own metric cannot be used.
    """
    if candidate.model is None or candidate.lab is None or len(candidate.model.history) <= len(halves.model.history):
        return ()
    step, where = candidate.model.history[-1], environment_of(profile, candidate.lab)
    if step.use == AS_IS:
        return ()
    said = f"{halves.count} random halves of the {samples.calibration} calibration samples (SHA-256 {halves.digest})"
    if samples.calibration < _FEWEST:
        return (_evidence("", f"{said} would be too few to calibrate with", where),)
    order = PassOrder(
        scheme=step.use, engine=f"{profile.engine.name}=={profile.engine.version}", options=step.options
    )
    found: list[dict[str, float]] = []
    same = 0
    for seed in range(halves.count):
        feeds = random_half(samples.calibration_feeds(), seed)
        try:
            model = apply_pass(halves.model, order, feeds, halves.place, keep_names=halves.keep_names)
            same += model.data == candidate.model.data
            outputs = bench.replay(model, profile, samples.feeds).outputs
        except (PassError, EngineError, WorkerError) as error:
            return (_evidence("", f"with one of {said} there is no model: {error.message}", where),)
        found.append(_losses(samples.drops(outputs, bench.gate, bench.host), compare(samples.reference, outputs)))
    if same == halves.count:
        return (_evidence("", f"none: with {said} the {step.use} model is the same", where),)
    return tuple(
        _evidence(f": {name}", f"{name} {shipped:.4f}, with {said}", where, [losses[name] for losses in found])
        for name, shipped in _losses(candidate.drops, candidate.parities).items()
    )


def _losses(drops: Sequence[Drop], parities: Sequence[Parity]) -> dict[str, float]:
    """Return what is lost by what it is called: of each metric, or of likeness where there is no metric."""
    if drops:
        return {f"{drop.metric} drop of {drop.output}": drop.drop.value for drop in drops}
    return {f"lack of correlation of {parity.output}": 1 - parity.correlation for parity in parities}


def _evidence(name: str, text: str, where: str, losses: Sequence[float] = ()) -> Evidence:
    ends = (min(losses), max(losses)) if losses else (0.0, 0.0)
    return Evidence(
        check=f"{CHECK}{name}",
        holds=True,
        verdict="measured" if losses or text.startswith("none") else "unknown",
        found=f"{text}: {ends[0]:.4f} to {ends[1]:.4f}" if losses else text,
        wanted="told, and judged by you",
        environment=where,
        value=ends[1] - ends[0],
        low=ends[0],
        high=ends[1],
    )
