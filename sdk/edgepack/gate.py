"""What a candidate may lose against the float source: the budget, and the verdict on what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from edgepack.detector import Detector
from edgepack.errors import RecipeError
from edgepack.intervals import CONFIDENCE, Interval
from edgepack.metrics import METRICS, Metric, metric_named
from edgepack_runtime._fields import Fields

__all__ = ["FLOAT", "LABELS", "SOURCE", "Drop", "Gate", "MetricFunction", "Verdict", "take_gate", "verdict_on"]

LABELS, FLOAT, SOURCE = "labels", "float", "float source"
_LEAST, _MOST = 0.8, 0.9999
# So wide is the interval of too few samples to have one.
_NO_END = 1e8


class Verdict(StrEnum):
    """What an interval says of a budget."""

    HOLDS = "holds"
    WORSE = "worse than allowed"
    UNCLEAR = "not enough samples to tell"

    @property
    def unclear(self) -> bool:
        """Whether more samples might tell."""
        return self is Verdict.UNCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFunction:
    """A metric of the user's own: the file, and the function's name in it."""

    path: Path
    entry: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.entry}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What may be lost: `metric` may get worse by at most `max_drop` against the float source (0.01 is one point).

    The upper end of the drop's interval is held against it, two-sided at `confidence`. `metric` None is accuracy
    where there are labels, and agreement where there are none. `outputs` are those it is judged on, each for itself;
    () means all that fit, of which there must be one where labels tell what is right. With a `threshold` every value
    of an output is a yes or a no of its own. `also` are further metrics, all of which must hold too. `function` takes
    the metric's place; it cannot stand in a file, which may come from a stranger. `against` is `LABELS`, where there
    are any, or `FLOAT`, which asks for no labels: of the outputs of a model, labels often tell of one only.
    `detector` is what the recipe declares of boxes.

    Raises:
        RecipeError: the metric is not known, or a figure makes no sense.
    """

    metric: str | None = None
    max_drop: float = 0.01
    outputs: tuple[str, ...] = ()
    threshold: float | None = None
    confidence: float = CONFIDENCE
    also: tuple[Gate, ...] = ()
    function: MetricFunction | None = None
    against: str = LABELS
    detector: Detector | None = None

    def __post_init__(self) -> None:
        metric = self.judged
        if not math.isfinite(self.max_drop) or self.max_drop < 0 or (metric.share and self.max_drop > 1):
            wanted = "share from 0 to 1 (0.01 is one percentage point)" if metric.share else "number from 0 on"
            raise RecipeError(f"max_drop {self.max_drop:g} is no {wanted}")
        if not _LEAST <= self.confidence <= _MOST:
            raise RecipeError(f"confidence {self.confidence:g} is not from {_LEAST} to {_MOST}")
        if len(set(self.outputs)) != len(self.outputs):
            raise RecipeError(f"an output is named twice for the metric: {', '.join(self.outputs)}")
        for other in self.also:
            if other.metric is None or other.also or other.function is not None:
                raise RecipeError("each further gate names one metric")
        if self.against not in (LABELS, FLOAT):
            raise RecipeError(f"a metric is measured against {LABELS!r} or {FLOAT!r}, not {self.against!r}")
        if metric.kind == "boxes" and self.outputs:
            raise RecipeError(
                f"metric {metric.name} is of the outputs that processing.boxes names, and takes no others"
            )
        if self.threshold is None:
            return
        if not math.isfinite(self.threshold):
            raise RecipeError(f"metric threshold {self.threshold:g} is no number")
        if self.function is not None or metric.kind not in ("classes", "agreement") or metric.count > 1:
            raise RecipeError(f"metric {metric.name} decides nothing, and takes no threshold")

    @property
    def asked(self) -> bool:
        """Whether a metric was named, so that there must be something to measure it on."""
        return self.metric is not None or self.function is not None or bool(self.also)

    def with_detector(self, detector: Detector | None) -> Gate:
        """Return the gate with what is declared of boxes.

        Raises:
            RecipeError: a metric is of boxes, and nothing is declared of them.
        """
        if detector is None and self.judged.kind == "boxes":
            raise RecipeError(
                f"metric {self.judged.name} is of boxes, and nothing says how outputs become boxes",
                hint="declare it in edgepack.toml, [processing.boxes] (docs/processing.md)",
            )
        return replace(self, detector=detector, also=tuple(other.with_detector(detector) for other in self.also))

    @property
    def judged(self) -> Metric:
        """The metric that is measured."""
        if self.function is not None:
            return Metric(name=str(self.function), kind="own", per_sample=False, share=False)
        return METRICS["accuracy"] if self.metric is None else metric_named(self.metric)


def take_gate(fields: Fields) -> Gate:
    """Return the ``[gate]`` table, with the ``[[gate.also]]`` in it.

    Raises:
        SchemaError: a field is unknown or of another type.
        RecipeError: its figures make no sense.
    """
    also = tuple(take_gate(other) for other in fields.take_tables("also", ()))
    gate = Gate(
        metric=fields.take("metric", str, None),
        max_drop=fields.take("max_drop", float, 0.01),
        outputs=_outputs(fields),
        threshold=fields.take("threshold", float, None),
        confidence=fields.take("confidence", float, CONFIDENCE),
        against=fields.take("against", str, LABELS),
        also=also,
    )
    fields.finish()
    return gate


def _outputs(fields: Fields) -> tuple[str, ...]:
    value = fields.take("output", object, ())
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        fields.refuse("output", 'expected the name of an output, or a list of names like ["onset", "note"]')
    return tuple(str(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A metric before and after on one output, and the verdict.

    `drop` is how much worse the candidate is, positive is worse whichever way the metric points. `against` is what
    was held to be right: ``labels``, or ``float source`` where its outputs stand for them, which is agreement and
    not accuracy. `needed` is about how many samples would tell, None where that is not the question. `classes` are
    (class, source, candidate) of a metric that averages over few of them.
    """

    metric: str
    output: str
    samples: int
    against: str
    source: Interval
    candidate: Interval
    drop: Interval
    budget: float
    confidence: float
    verdict: Verdict
    needed: int | None = None
    classes: tuple[tuple[int, float, float], ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether labels told what is right."""
        return self.against == LABELS

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs it was measured on: a metric of several at once names all of them."""
        return (self.output, *self.output.split(", "))

    @property
    def check(self) -> str:
        """What was checked, in a few words; agreement is called so."""
        kind = "drop" if self.labelled else "drop against float"
        return f"{self.metric} {kind}: {self.output}"

    @property
    def figures(self) -> str:
        """The metric before and after, and the drop with its interval."""
        source = f", float source {self.source.value:.4f}" if self.labelled else " with the float source"
        return (
            f"{self.metric} {self.candidate.value:.4f}{source}: "
            f"drop {self.drop.value:.4f} [{_end(self.drop.low)}, {_end(self.drop.high)}] on {self.samples} samples"
        )

    @property
    def found(self) -> str:
        """What was found, in one line."""
        text = self.figures + self._worst_class()
        if not self.labelled:
            text += "; without labels how far it agrees with the float source is all that is known"
        return text if self.verdict is Verdict.HOLDS else f"{text}; {self.why}"

    def _worst_class(self) -> str:
        if not self.classes:
            return ""
        name, before, after = max(self.classes, key=lambda each: each[1] - each[2])
        return f"; class {name} lost most, {before:.4f} to {after:.4f}" if after < before else ""

    @property
    def wanted(self) -> str:
        """What was wanted, in one line."""
        return f"drop at most {self.budget:g}, by the upper end of its {100 * self.confidence:g} % interval"

    @property
    def why(self) -> str:
        """What the verdict rests on."""
        if self.verdict is Verdict.HOLDS:
            return f"even the upper end of the interval is within {self.budget:g}"
        if self.verdict is Verdict.WORSE:
            end = "even the lower end" if self.drop.low > self.budget else "the drop, though not its lower end,"
            return f"{self.verdict}: {end} is above {self.budget:g}"
        if self.needed is None:
            return f"{self.verdict}: no number of samples tells a drop of {self.drop.value:.4f} from {self.budget:g}"
        return f"{self.verdict}: about {self.needed:,} are needed if the drop stays so"

    def remedy(self, otherwise: str) -> str:
        """Return what to do; `otherwise` is for a candidate that is really worse."""
        if self.verdict is not Verdict.UNCLEAR:
            return otherwise
        if self.needed is None:
            return "a wider --max-drop"
        return f"about {self.needed:,} evaluation samples, or a wider --max-drop"


def _end(value: float) -> str:
    return f"{value:.4f}" if abs(value) < _NO_END else "no end"


def verdict_on(drop: Interval, budget: float) -> Verdict:
    """Return what the interval of a drop says of the budget: it holds only if its upper end is within."""
    if drop.high <= budget:
        return Verdict.HOLDS
    return Verdict.WORSE if drop.value > budget else Verdict.UNCLEAR
