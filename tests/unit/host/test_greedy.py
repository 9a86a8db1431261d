"""Greedy descent on made-up layers whose harms are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgepack.greedy import Assignment, Choice, Outcome, chain, descend
from edgepack.pareto import dominates, front

PRECISIONS = (32.0, 16.0, 8.0, 4.0)


class Net:
    """Layers whose harms add up: `sizes` in elements, `harms` of each at each further precision."""

    def __init__(self, sizes: Sequence[int], harms: Sequence[Sequence[float]], budget: float, limit: int = 1000):
        self.sizes, self.harms, self.budget, self.limit = sizes, harms, budget, limit
        self.measured: dict[Assignment, Outcome] = {}

    def cost(self, assignment: Assignment) -> float:
        return sum(size * PRECISIONS[p] / 8 for size, p in zip(self.sizes, assignment, strict=True))

    def harm(self, assignment: Assignment) -> float:
        return sum(self.harms[layer][p - 1] for layer, p in enumerate(assignment) if p)

    def choices(self) -> list[list[Choice]]:
        return [
            [
                Choice(precision=p, saves=size * (32 - PRECISIONS[p]) / 8, harm=harms[p - 1])
                for p in range(1, len(PRECISIONS))
            ]
            for size, harms in zip(self.sizes, self.harms, strict=True)
        ]

    def measure(self, assignment: Assignment) -> Outcome | None:
        if assignment not in self.measured:
            if len(self.measured) >= self.limit:
                return None
            self.measured[assignment] = Outcome(good=self.harm(assignment) <= self.budget, cost=self.cost(assignment))
        return self.measured[assignment]

    def best(self) -> float:
        """The least cost of all good assignments, by trying them all."""
        grid = np.stack(np.meshgrid(*[np.arange(4)] * len(self.sizes)), -1).reshape(-1, len(self.sizes))
        return min(self.cost(tuple(a)) for a in grid.tolist() if self.harm(tuple(a)) <= self.budget)


def seeded(seed: int, layers: int = 5, budget: float = 1.0, limit: int = 1000) -> Net:
    rng = np.random.default_rng(seed)
    harms = np.cumsum(rng.lognormal(-2, 1.5, (layers, 3)), axis=1)
    return Net(rng.integers(100, 10_000, layers).tolist(), harms.tolist(), budget, limit)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_found_is_good_and_near_the_best_of_all_assignments(seed):
    net = seeded(seed)
    found = descend(net.choices(), net.measure)
    assert found is not None
    assert net.harm(found) <= net.budget
    # Greedy fills a knapsack up to about one item: the largest layer's largest step.
    assert net.cost(found) <= net.best() + max(net.sizes) * 3.5


def test_two_planted_bad_layers_stay_safe_and_all_others_give_way():
    harms = [[0.0, 0.001, 0.01]] * 10
    harms[3] = harms[7] = [0.0, 5.0, 9.0]
    net = Net([1000] * 10, harms, budget=1.0)
    assert descend(net.choices(), net.measure) == (3, 3, 3, 1, 3, 3, 3, 1, 3, 3)


def test_a_layer_that_harms_only_in_company_is_left_out_and_the_rest_goes_on():
    class Company(Net):
        def harm(self, assignment: Assignment) -> float:
            return super().harm(assignment) + (100.0 if assignment[0] and assignment[1] else 0.0)

    net = Company([1000] * 6, [[0.0, 0.0, 0.001 * layer] for layer in range(6)], budget=1.0)
    found = descend(net.choices(), net.measure)
    assert found is not None
    assert sorted(found) == [0, 3, 3, 3, 3, 3]


def test_nothing_is_found_where_not_even_the_safest_is_good():
    assert descend(seeded(1, budget=-1.0).choices(), seeded(1, budget=-1.0).measure) is None


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8])
def test_no_more_is_measured_than_may_be_and_what_is_found_is_good_all_the_same(limit):
    net = seeded(7, layers=12, limit=limit)
    found = descend(net.choices(), net.measure)
    assert len(net.measured) <= limit
    assert found is None or net.measured[found].good


def test_it_takes_about_as_many_measurements_as_there_are_layers():
    net = seeded(3, layers=40, budget=4.0)
    descend(net.choices(), net.measure)
    assert len(net.measured) <= 40 * 3 + 10


def test_the_same_layers_are_searched_in_the_same_order():
    first, second = seeded(5), seeded(5)
    descend(first.choices(), first.measure)
    descend(second.choices(), second.measure)
    assert list(first.measured) == list(second.measured)


def test_a_chain_takes_the_least_harm_per_byte_first_and_leaves_needless_precisions_out():
    cheap = [Choice(precision=1, saves=10, harm=1), Choice(precision=2, saves=30, harm=1.5)]
    dear = [Choice(precision=1, saves=10, harm=2)]
    assert [(step.layer, step.precision) for step in chain([dear, cheap])] == [(1, 2), (0, 1)]


def test_the_front_holds_what_no_other_beats_by_the_first_cost():
    points = [(3, 1), (1, 3), (2, 2), (3, 3), (2, 2), (float("nan"), 0)]
    assert front(points, lambda p: p) == ((1, 3), (2, 2), (3, 1), points[-1])


def test_equal_points_do_not_dominate_each_other():
    assert not dominates((1, 2), (1, 2))
    assert dominates((1, 2), (1, 3))
