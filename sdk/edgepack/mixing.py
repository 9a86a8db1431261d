"""The search for a mixed precision: what each layer's precision harms, then greedily down, with back-off.

Two families are searched. In one, weights are stored smaller layer by layer and activations stay float; in the other
the model computes in integers but for some layers. Harm is what the layer's own error does to the model's outputs
(`edgepack.layer_error`), measured once a precision; it orders the steps. Whether a whole assignment is good enough is
measured like any other candidate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgepack.errors import SourceModelError, WorkerError
from edgepack.flatbuffer import ModelView
from edgepack.greedy import Assignment, Choice, Outcome, descend
from edgepack.layer_error import LayerErrors, LayerRequest, Places, layer_errors
from edgepack.layers import Layer, layers_of
from edgepack.passoptions import PassOrder
from edgepack.trials import Harm, Trial, cost_of, margin
from edgepack_runtime._fields import canonical_json
from edgepack_runtime.errors import EngineError

__all__ = ["Family", "Group", "Searching", "families", "harms_of", "mixed_order", "search_family"]

MIXED = "mixed"
_FLOAT = "float32"
_STORED = ("float16", "weight_only_int8", "dynamic_range", "weight_only_int4", "dynamic_int4", "dynamic_int2")
_COMPUTED = ("full_integer", "int16x8")
_BITS = {"float16": 16, "weight_only_int4": 4, "dynamic_int4": 4, "dynamic_int2": 2}
# Scales, and an operator that unpacks, take about so many bytes beside a layer's smaller weights.
_BESIDE = 150
# A step that gains less than this share of all layers is not worth a candidate.
_WORTH = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that get one precision; `elements` are stored once, `work` are the multiplications of all of them."""

    layers: tuple[Layer, ...]
    elements: int
    work: int

    def precisions(self, engine: str) -> tuple[str, ...]:
        """Return what all of the layers can be."""
        first, *others = (layer.precisions(engine) for layer in self.layers)
        return tuple(p for p in first if all(p in other for other in others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What there is to choose for: layers, and what they can be beside float32.

    Layers that share weights are in one group, and get one precision: with two, the weights would be stored twice.
    """

    name: str
    groups: tuple[Group, ...]
    precisions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Searching:
    """What a search of one family asks of its surroundings.

    `measure` gives the trial of an order, None when no more may be measured; `harms` those of a family's precision,
    given to all its layers that can have it.
    """

    engine: str
    objective: str
    scale: float
    measure: Callable[[PassOrder, str], Trial | None]
    harms: Callable[[PassOrder], tuple[Harm, ...]]


def families(model: ModelView, engine: str, allowed: Sequence[str]) -> tuple[Family, ...]:
    """Return what there is to search in a float model, for an engine (``name==version``) and these precisions."""
    graph = model.subgraphs[0]
    layers = layers_of(model)

    def work(layer: Layer) -> int:
        outputs = graph.operators[layer.index].outputs
        shape = graph.tensors[outputs[0]].shape if outputs else ()
        return layer.elements * math.prod(max(1, size) for size in shape[:-1])

    def family(name: str, chosen: Sequence[Layer], precisions: Sequence[str]) -> Family:
        groups = tuple(
            Group(layers=shared, elements=_elements(shared), work=sum(work(layer) for layer in shared))
            for shared in _sharing(chosen)
        )
        known = tuple(p for p in precisions if p in allowed and any(p in g.precisions(engine) for g in groups))
        return Family(name=name, groups=groups, precisions=known)

    stored = family("weights", [layer for layer in layers if layer.elements], _STORED)
    computed = family("integers", layers, _COMPUTED)
    return tuple(found for found in (stored, computed) if found.precisions)


def _sharing(layers: Sequence[Layer]) -> list[tuple[Layer, ...]]:
    """Return the layers in groups that have weights in common, in the file's order."""
    groups: list[list[Layer]] = []
    for layer in layers:
        mine = [g for g in groups if any(set(layer.stored) & set(other.stored) for other in g)]
        joined = sorted([*(x for g in mine for x in g), layer], key=lambda x: x.index)
        groups = [*(g for g in groups if g not in mine), joined]
    return [tuple(g) for g in sorted(groups, key=lambda g: g[0].index)]


def _elements(layers: Sequence[Layer]) -> int:
    """Return how many weights the layers have, shared ones once; those of one layer go by its sum."""
    seen: set[tuple[int, ...]] = set()
    total = 0
    for layer in layers:
        if not layer.stored or layer.stored not in seen:
            total += layer.elements
            seen.add(layer.stored)
    return total


def mixed_order(family: Family, assignment: Mapping[int, str], engine: str) -> PassOrder:
    """Return the order for the model whose layers, by their places in the file, have these precisions."""
    groups: dict[str, list[str]] = {}
    for index, precision in sorted(assignment.items()):
        if precision != _FLOAT:
            groups.setdefault(precision, []).append(f"#{index}")
    rules = [{"layers": groups[precision], "precision": precision} for precision in sorted(groups)]
    options = canonical_json({"base": _FLOAT, "rules": rules}).decode()
    return PassOrder(scheme=MIXED, engine=engine, options=options)


def harms_of(request: LayerRequest, places: Places) -> tuple[Harm, ...]:
    """Return what each layer's own error does to the outputs.

    Raises:
        EngineError: the engine cannot run the float model's layers.
        SourceModelError: the model cannot be looked into.
        WorkerError: that crashed or hung.
    """
    shares = _shares(layer_errors(request, places))
    return tuple(Harm(layer=layer, share=share) for layer, share in sorted(shares.items()))


def _shares(errors: LayerErrors) -> dict[int, float]:
    shares: dict[int, float] = {}
    for error in errors.layers:
        # Without a measured effect its own error is the nearest there is.
        ratio = error.effect if error.effect is not None else error.own_sqnr
        place = error.pair.twin
        if place >= 0 and ratio is not None:
            shares[place] = max(shares.get(place, 0.0), 10 ** (-ratio / 10))
    return shares


def search_family(family: Family, searching: Searching, say: Callable[[str], None]) -> Trial | None:
    """Return the cheapest good candidate of a family, measured with all others on the way; None if none is good."""
    harms: dict[str, dict[int, float]] = {}
    trials: dict[str, Trial] = {}
    for precision in family.precisions:
        order = mixed_order(family, dict(_uniform(family, precision, searching.engine)), searching.engine)
        trial = searching.measure(order, f"mixed: all that can be {precision}")
        if trial is None:
            break
        if not trial.digest:
            continue
        trials[precision] = trial
        if searching.objective == "latency" and trial.ratio >= 1:
            # Slower where all layers have it, it makes no model faster in which some of them do.
            continue
        if _is_good(trial, searching):
            # What all layers can have together harms no single one so that it would matter.
            harms[precision] = {}
            continue
        try:
            harms[precision] = {harm.layer: harm.share for harm in searching.harms(order)}
        except (EngineError, SourceModelError, WorkerError) as error:
            say(f"what {precision} does to single layers cannot be measured, and is not mixed: {error.message}")
    usable = tuple(precision for precision in family.precisions if precision in harms)
    if not usable:
        return None
    found: dict[Assignment, Trial] = {}

    def measure(assignment: Assignment) -> Outcome | None:
        chosen = [(_FLOAT, *usable)[place] for place in assignment]
        given = {x.index: p for g, p in zip(family.groups, chosen, strict=True) for x in g.layers}
        if not any(place for g, place in zip(family.groups, assignment, strict=True) if g.elements):
            # As good as the float model, which has nothing to lose; all others cost less.
            return Outcome(good=True, cost=math.inf)
        trial = searching.measure(mixed_order(family, given, searching.engine), _title(family, given))
        if trial is None:
            return None
        found[assignment] = trial
        return Outcome(good=_is_good(trial, searching), cost=cost_of(trial, searching.objective)[0])

    steps = _choices(family, usable, (harms, trials), searching)
    best = descend(steps, measure, lambda place: family.groups[place].elements > 0)
    return None if best is None else found.get(best)


def _is_good(trial: Trial, searching: Searching) -> bool:
    return bool(trial.digest) and not trial.refusals and margin(trial, searching.scale) >= 0


def _uniform(family: Family, precision: str, engine: str) -> Iterator[tuple[int, str]]:
    for group in family.groups:
        for layer in group.layers:
            yield layer.index, precision if precision in group.precisions(engine) else _FLOAT


def _choices(
    family: Family,
    precisions: Sequence[str],
    known: tuple[Mapping[str, Mapping[int, float]], Mapping[str, Trial]],
    searching: Searching,
) -> list[list[Choice]]:
    """Return what each layer's precisions save, by the objective, and harm."""
    harms, trials = known
    by_time = searching.objective == "latency"
    total = sum(g.work if by_time else 4 * g.elements for g in family.groups)
    found: list[list[Choice]] = []
    for group in family.groups:
        possible = group.precisions(searching.engine)
        choices = []
        for place, precision in enumerate(precisions, 1):
            if precision not in possible:
                continue
            if by_time:
                # All that could have it took so much less time; a layer's part in it is that in the work.
                saves = (1 - (trials[precision].ratio or 1.0)) * group.work
            else:
                saves = float(group.elements * (32 - _BITS.get(precision, 8)) // 8 - _BESIDE)
            if family.name == "integers" and not group.elements:
                # It saves nothing by itself, but each island of float costs two conversions.
                saves = max(saves, _WORTH * total)
            if saves >= _WORTH * total:
                harm = sum(harms[precision].get(layer.index, 0.0) for layer in group.layers)
                choices.append(Choice(precision=place, saves=saves, harm=harm))
        found.append(choices)
    return found


def _title(family: Family, given: Mapping[int, str]) -> str:
    counted = Counter(given[layer.index] for group in family.groups for layer in group.layers)
    return "mixed: " + ", ".join(f"{count} {precision}" for precision, count in sorted(counted.items()))
