"""The search for a mixed precision: its layers and orders on a real model, its course on figures that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest
from tinymodels import LITERT, request, tiny

from edgepack.errors import SourceModelError
from edgepack.flatbuffer import read_model
from edgepack.layers import Layer
from edgepack.mixing import Family, Group, Searching, _sharing, families, mixed_order, search_family
from edgepack.passes import mixed
from edgepack.passoptions import PassOrder
from edgepack.trials import Harm, Loss, Trial

BYTES = {"float32": 4.0, "float16": 2.0, "dynamic_range": 1.0, "full_integer": 1.0, "int16x8": 1.0}
# What int8 does to each of six layers; float16 does a hundredth of it. The third is what ruins the model.
HARMS = (0.001, 0.004, 0.2, 0.002, 0.008, 0.001)
ELEMENTS = (1000, 20_000, 5_000, 8_000, 30_000, 4_000)
BUDGET = 0.0121
PRECISIONS = ("float32", "float16", "dynamic_range")
LAYERS = tuple(
    Layer(index=i, name=f"l{i}", operator="FULLY_CONNECTED", elements=count) for i, count in enumerate(ELEMENTS)
)
GROUPS = tuple(Group(layers=(layer,), elements=layer.elements, work=layer.elements) for layer in LAYERS)
FAMILY = Family(name="weights", groups=GROUPS, precisions=("float16", "dynamic_range"))


def weighed(assignment: dict[int, str]) -> tuple[float, int]:
    """Return what an assignment loses in truth, and its size."""
    part = {"float32": 0.0, "float16": 0.01, "dynamic_range": 1.0, "full_integer": 1.0, "int16x8": 0.1}
    given = [assignment.get(i, "float32") for i in range(len(LAYERS))]
    lost = sum(part[p] * harm for p, harm in zip(given, HARMS, strict=True))
    return lost, sum(round(BYTES[p] * count) for p, count in zip(given, ELEMENTS, strict=True))


class World:
    """A machine on which candidates can be measured, so many of them."""

    def __init__(self, most: int = 100, *, blind: bool = False, budget: float = BUDGET) -> None:
        self.most, self.blind, self.budget = most, blind, budget
        self.trials: dict[str, Trial] = {}
        self.said: list[str] = []

    def measure(self, order: PassOrder, title: str) -> Trial | None:
        if order.options not in self.trials:
            if len(self.trials) == self.most:
                return None
            lost, size = weighed(assignment_of(order))
            loss = Loss(check="drop", value=lost, low=lost, high=lost, budget=self.budget)
            self.trials[order.options] = Trial(
                title=title, scheme="mixed", options=order.options, digest="d", size=size, losses=(loss,)
            )
        return self.trials[order.options]

    def harms(self, order: PassOrder) -> tuple[Harm, ...]:
        if self.blind:
            raise SourceModelError("nothing to be seen")
        return tuple(Harm(layer=i, share=weighed({i: precision})[0]) for i, precision in assignment_of(order).items())

    def search(self) -> Trial | None:
        asked = Searching(engine=LITERT, objective="size", scale=1.0, measure=self.measure, harms=self.harms)
        return search_family(FAMILY, asked, self.said.append)


def assignment_of(order: PassOrder) -> dict[int, str]:
    rules = json.loads(order.options)["rules"]
    return {int(text[1:]): rule["precision"] for rule in rules for text in rule["layers"]}


def smallest() -> int:
    found = (weighed(dict(enumerate(choice))) for choice in product(PRECISIONS, repeat=len(LAYERS)))
    return min(size for lost, size in found if lost <= BUDGET)


def test_the_search_comes_near_the_smallest_of_all_729_assignments_by_measuring_few() -> None:
    world = World()
    found = world.search()
    assert found is not None
    assert found.size <= 1.1 * smallest()
    assert len(world.trials) <= 14


def test_a_bounded_search_ends_in_time_with_a_candidate_that_is_good() -> None:
    world = World(most=6)
    found = world.search()
    assert found is not None
    assert found.losses[0].value <= BUDGET
    assert len(world.trials) == 6


def test_a_precision_whose_harm_cannot_be_measured_is_not_mixed_and_that_is_said() -> None:
    world = World(blind=True)
    assert world.search() is not None
    assert "nothing to be seen" in world.said[0]
    orders = [PassOrder(scheme="mixed", engine=LITERT, options=options) for options in world.trials]
    assert all(len(set(assignment_of(order).values())) == 1 for order in orders)


@pytest.mark.parametrize("allowed", [("dynamic_range",), ("float16", "dynamic_range", "float32")])
def test_only_precisions_the_profile_has_are_mixed(allowed: tuple[str, ...]) -> None:
    (family,) = families(read_model(tiny("digits")), LITERT, allowed)
    assert set(family.precisions) == set(allowed) - {"float32"}
    assert all(group.elements for group in family.groups)


def test_layers_that_share_weights_get_one_precision() -> None:
    layers = [
        Layer(index=i, name=f"l{i}", operator="FULLY_CONNECTED", elements=10, stored=stored)
        for i, stored in enumerate([(1,), (2,), (1,), (3, 2)])
    ]
    assert [[layer.index for layer in group] for group in _sharing(layers)] == [[0, 2], [1, 3]]


def test_integers_are_a_family_of_all_operators() -> None:
    (family,) = families(read_model(tiny("digits")), LITERT, ("full_integer",))
    assert family.name == "integers"
    assert any(not group.elements for group in family.groups)


def test_an_order_gives_layers_of_a_real_model_what_it_says() -> None:
    (family,) = families(read_model(tiny("digits")), LITERT, ("float16", "dynamic_range"))
    places = [group.layers[0].index for group in family.groups]
    largest = max(family.groups, key=lambda group: group.elements).layers[0].index
    given = dict.fromkeys(places, "dynamic_range") | {largest: "float16"}
    order = mixed_order(family, given, LITERT)
    notes = mixed.run(request("digits", LITERT, order.options)).notes
    assert f"layers with weights: {len(places) - 1} dynamic_range, 1 float16" in notes


def test_an_operator_without_weights_is_no_candidate_of_its_own() -> None:
    # Nothing but that operator is within this budget.
    world = World(budget=0.0005)
    weightless = Layer(index=9, name="relu", operator="RELU", elements=0)
    groups = (*GROUPS, Group(layers=(weightless,), elements=0, work=0))
    family = Family(name="integers", groups=groups, precisions=("full_integer",))
    asked = Searching(engine=LITERT, objective="size", scale=1.0, measure=world.measure, harms=world.harms)
    search_family(family, asked, world.said.append)
    assert all(set(assignment_of(PassOrder(scheme="", engine="", options=o))) - {9} for o in world.trials)


def test_a_precision_that_is_slower_than_float_is_not_mixed_for_latency() -> None:
    world, ratios = World(), {"float32": 1.0, "full_integer": 0.5, "int16x8": 20.0}

    def measure(order: PassOrder, title: str) -> Trial | None:
        trial = world.measure(order, title)
        return trial and replace(trial, ratio=max(ratios[p] for p in assignment_of(order).values()))

    def harms(order: PassOrder) -> tuple[Harm, ...]:
        found = world.harms(order)
        # An operator without weights, too, is harmed the less by more bits.
        return tuple(replace(x, share=found[0].share) if x.layer == weightless.index else x for x in found)

    weightless = Layer(index=9, name="relu", operator="RELU", elements=0)
    family = Family(
        name="integers",
        groups=(*GROUPS, Group(layers=(weightless,), elements=0, work=0)),
        precisions=("full_integer", "int16x8"),
    )
    asked = Searching(engine=LITERT, objective="latency", scale=1.0, measure=measure, harms=harms)
    search_family(family, asked, world.said.append)
    mixes = [set(assignment_of(PassOrder(scheme="", engine="", options=o)).values()) for o in world.trials]
    assert len(mixes) > 4
    assert [mix for mix in mixes if "int16x8" in mix] == [{"int16x8"}]
