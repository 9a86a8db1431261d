"""Magnitude pruning: the smallest weights become zero, the others learn to do without them.

::

    kernel [0.9, -0.01, 0.4, 0.02]   =>   kernel [0.9, 0, 0.4, 0]      (pattern "unstructured", sparsity 0.5)

The share of zeros grows along a cubic curve while the model learns (Zhu and Gupta, 2017); from then on the masks are
held. No engine here computes fewer products for it: what is won is a bundle that packs better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from edgepack.errors import RecipeError, TrainingError
from edgepack.model import TrainRequest, TrainResult
from edgepack.training._fit import Held, Plan, fit, held_in
from edgepack.training._maths import mask_of, polynomial
from edgepack.training._opened import all_kernels, kernels
from edgepack.training._settings import Settings, check_range
from edgepack.training._step import begin, finish, objective_of, plan_of, read_options

__all__ = ["HAS_TEACHER", "SHRINKS", "Options", "run"]

HAS_TEACHER, SHRINKS = False, True

_UNSTRUCTURED = "unstructured"
_GROUP, _BLOCK = re.compile(r"([1-9]):([1-9][0-9]?)"), re.compile(r"([1-9][0-9]?)x([1-9][0-9]?)")
# How many times the masks are drawn anew on the way.
_UPDATES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Settings):
    """What can be chosen beside `Settings`.

    `sparsity` is the share of zeros at the end. `pattern` is ``unstructured``, ``N:M`` (the N largest of M neighbours
    stay, which is its own sparsity) or a block ``AxB`` that goes as a whole: A of what the layer gives, B of what it
    takes, as ``1x4``. It is reached after the share `ramp` of the training.

    Raises:
        RecipeError: a value is out of its range.
    """

    sparsity: float = 0.5
    pattern: str = _UNSTRUCTURED
    ramp: float = 0.5

    def __post_init__(self) -> None:
        # No super(): a dataclass with slots is another class than the one the compiler knew.
        Settings.__post_init__(self)
        check_range("sparsity", self.sparsity, 0.01, 0.99)
        check_range("ramp", self.ramp, 0.0, 0.9)
        _shapes(self.pattern)


def _shapes(pattern: str) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Return the block and the group that a pattern means."""
    if pattern == _UNSTRUCTURED:
        return (1, 1), None
    if (found := _GROUP.fullmatch(pattern)) and int(found[1]) < int(found[2]):
        return (1, 1), (int(found[1]), int(found[2]))
    if found := _BLOCK.fullmatch(pattern):
        return (int(found[1]), int(found[2])), None
    raise RecipeError(
        f"pattern is {pattern!r}, known are {_UNSTRUCTURED}, N:M with N below M (2:4), and blocks AxB (1x4)"
    )


def run(request: TrainRequest) -> TrainResult:
    """Return the model with its smallest weights at zero.

    Raises:
        ConversionError: the model holds code, or cannot be loaded.
        DatasetError: the training data does not fit it.
        RecipeError: an option is out of its range.
        SchemaError: an option is unknown or of another type.
        SourceModelError: its description of the layers cannot be read.
        TrainingError: it cannot be trained here, or training it went wrong.
    """
    options = read_options(Options, request.options)
    bench = begin(request, options)
    taken, left = kernels(bench.opened, options)
    objective = objective_of(bench, options)
    block, group = _shapes(options.pattern)
    alive = [Held.masked(kernel, np.ones(kernel.value.shape, bool)) for kernel in taken]
    others = [held for held in held_in(taken) if held.index is not None]
    if others:
        names = ", ".join(held.kernel.name for held in others)
        raise TrainingError(f"{names}: clustered already, and pruning would draw clusters apart", hint="prune first")
    plan = plan_of(bench, objective, alive)
    ramp = 0.0 if group is not None else options.ramp
    # What was frozen, or is not to be changed, holds what it has.
    mine = {id(kernel.value) for kernel in taken}
    plan.held = [*alive, *held_in([k for k in all_kernels(bench.opened) if id(k.value) not in mine])]
    _draw_along(plan, alive, (block, group), (options.sparsity, ramp))
    outcome = fit(plan, options)
    notes = [f"pruned {len(taken)} kernels by the pattern {options.pattern}"]
    if left:
        notes.append(f"not pruned: {', '.join(left)}")
    return finish(bench, objective, outcome, notes)


def _draw_along(
    plan: Plan,
    alive: list[Held],
    shapes: tuple[tuple[int, int], tuple[int, int] | None],
    goal: tuple[float, float],
) -> None:
    """Have the masks drawn anew on the way to the goal: a sparsity, and the share of the training it takes."""
    (block, group), (sparsity, ramp) = shapes, goal

    def draw(done: int, steps: int) -> None:
        end = int(steps * ramp)
        plan.keeps_from = end
        every = max(1, end // _UPDATES)
        if done > end or (done % every and done != end):
            return
        share = polynomial(done, end, sparsity)
        for held in alive:
            held.mask.assign(mask_of(held.kernel.numpy(), share, block, group).astype("float32"))
            held.hold()

    plan.before = draw
