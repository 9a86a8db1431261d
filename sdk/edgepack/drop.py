"""What a metric loses from the float source to a candidate, with its interval and the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepack.boxmetric import BoxPair
from edgepack.decisions import doubt, fitting_outputs
from edgepack.gate import LABELS, SOURCE, Drop, Gate, Verdict, verdict_on
from edgepack.intervals import Measured, bootstrap, count_discordant
from edgepack.pairing import Paired, at_least_2d, decided, paired_outputs
from edgepack.scoring import ClassPair, HitPair
from edgepack.truth import Labels, labels_for
from edgepack_runtime.manifest import Evidence
from edgepack_runtime.tensors import Array

__all__ = ["drop_evidence", "drop_of", "measure_drop", "point_drops", "source_doubts"]

# More classes than this are counted, but not told one by one.
_MANY_CLASSES = 20


def measure_drop(
    gate: Gate,
    source: Mapping[str, Array],
    candidate: Mapping[str, Array],
    labels: Labels | None,
) -> tuple[Drop, ...]:
    """Return what the gate's metrics lose from `source` to `candidate`, one `Drop` for each output each is judged on.

    A pure function of its arguments (the seed is fixed), for any candidate: nothing of a build is needed. All of the
    verdicts must be `Verdict.HOLDS` for the candidate to pass.

    Args:
        gate: the metrics, their budgets, outputs and thresholds.
        source: the float source's outputs on the evaluation samples, [n, *output shape] by output name, in float.
        candidate: the same of the candidate, on the same samples in the same order.
        labels: what is right, [n, ...], or that by output; None lets the source's outputs stand for it, and every
            `Drop` says so.

    Raises:
        DatasetError: there are no samples, an output holds NaN or infinity, or outputs and labels do not fit.
        RecipeError: a metric is a function of the user's own, which `edgepack.ownmetric` runs.
    """
    return tuple(_drop(paired) for paired in paired_outputs(gate, source, candidate, labels))


def point_drops(
    gate: Gate,
    source: Mapping[str, Array],
    candidate: Mapping[str, Array],
    labels: Labels | None,
) -> tuple[float, ...]:
    """Return the drops of `measure_drop` without their intervals: fast, and no ground for shipping anything.

    Raises:
        DatasetError: as `measure_drop`.
        RecipeError: as `measure_drop`.
    """
    found = []
    for paired in paired_outputs(gate, source, candidate, labels):
        before, after = paired.pair.scores(np.ones((1, paired.pair.count)))
        found.append(paired.pair.sign * float(before[0] - after[0]))
    return tuple(found)


def drop_evidence(drop: Drop, environment: str, *, excuse: str = "") -> Evidence:
    """Return what is signed of a drop; only `Verdict.HOLDS` holds.

    Args:
        drop: what was measured.
        environment: where.
        excuse: why a candidate is no worse for want of samples, in words, such as that it is the float source's own
            model. Only a drop that is above the budget refuses it then.
    """
    spared = bool(excuse) and drop.verdict is Verdict.UNCLEAR
    return Evidence(
        check=drop.check,
        holds=drop.verdict is Verdict.HOLDS or spared,
        verdict="measured",
        found=f"{drop.found}; shipped, for {excuse}" if spared else drop.found,
        wanted=drop.wanted,
        environment=environment,
        value=drop.drop.value,
        low=drop.drop.low,
        high=drop.drop.high,
    )


def _drop(paired: Paired) -> Drop:
    gate, pair = paired.gate, paired.pair
    if isinstance(pair, HitPair):
        measured = count_discordant(pair.source, pair.candidate, gate.confidence)
    else:
        measured = bootstrap(pair, gate.confidence)
    classes = pair.per_class() if isinstance(pair, ClassPair | BoxPair) else ()
    return drop_of(gate, paired.output, measured, (pair.count, paired.labelled), classes)


def drop_of(
    gate: Gate,
    output: str,
    measured: Measured,
    known: tuple[int, bool],
    classes: tuple[tuple[int, float, float], ...] = (),
) -> Drop:
    """Return what was measured, with the gate's verdict.

    Args:
        gate: the metric and its budget.
        output: what it was measured on.
        measured: the metric before and after.
        known: on how many samples, and whether labels told what is right.
        classes: (class, source, candidate) of an average over classes.
    """
    count, labelled = known
    verdict = verdict_on(measured.drop, gate.max_drop)
    return Drop(
        metric=gate.judged.name if gate.threshold is None else f"{gate.judged.name} at {gate.threshold:g}",
        output=output,
        samples=count,
        against=LABELS if labelled else SOURCE,
        source=measured.source,
        candidate=measured.candidate,
        drop=measured.drop,
        budget=gate.max_drop,
        confidence=gate.confidence,
        verdict=verdict,
        needed=measured.needed(gate.max_drop) if verdict.unclear else None,
        classes=classes if len(classes) <= _MANY_CLASSES else (),
    )


def source_doubts(gate: Gate, source: Mapping[str, Array], labels: Labels | None) -> tuple[str, ...]:
    """Return what makes one doubt that the float source, the labels and the data belong together.

    Raises:
        DatasetError: outputs and labels do not fit.
    """
    if labels is None:
        return ()
    source = at_least_2d(source)
    found = []
    for one in (gate, *gate.also):
        if one.judged.kind != "classes" or one.against != LABELS:
            continue
        for name in fitting_outputs(source, one, labels):
            _, said, _, truth = decided(one, name, (source[name], source[name]), labels_for(labels, name))
            # Of many positions a sample the commonest class is no measure: most of them are nothing.
            found += [doubt(said[:, 0], truth[:, 0])] if truth.shape[1] == 1 else []
    return tuple(dict.fromkeys(text for text in found if text))
