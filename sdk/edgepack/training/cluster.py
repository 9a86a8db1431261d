"""Weight clustering: each kernel gets a codebook of few values, which go on learning together.

::

    kernel [0.51, 0.48, -0.2, -0.22]   =>   kernel [0.5, 0.5, -0.21, -0.21]      (clusters 2)

The codebook is k-means of the kernel's weights, begun by k-means++. While it is fine-tuned the gradients of a cluster
are summed, so that its weights stay one value. Batch normalization is folded first, for otherwise the converter would
multiply each channel of a kernel by another number. What an earlier pruning made zero stays zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.model import TrainRequest, TrainResult
from edgepack.training._fit import Held, fit, held_in
from edgepack.training._graph import fold, graph_of
from edgepack.training._maths import distinct, with_codes, zeros
from edgepack.training._opened import all_kernels, kernels
from edgepack.training._settings import Settings, check_range
from edgepack.training._step import begin, finish, objective_of, plan_of, read_options

__all__ = ["HAS_TEACHER", "SHRINKS", "Options", "run"]

HAS_TEACHER, SHRINKS = False, True

# From so many zeros on they get a place of their own in the codebook.
_SPARSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Settings):
    """What can be chosen beside `Settings`: `clusters` is how many different values a kernel may have.

    Raises:
        RecipeError: a value is out of its range.
    """

    learning_rate: float = 3e-4
    clusters: int = 16

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        check_range("clusters", self.clusters, 2, 256)


def run(request: TrainRequest) -> TrainResult:
    """Return the model with few different weights in each kernel.

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
    objective = objective_of(bench, options)
    norms = fold(graph_of(bench.opened.model))
    taken, left = kernels(bench.opened, options)
    shared = []
    for kernel in taken:
        values = kernel.numpy()
        if distinct(values) <= options.clusters:
            left.append(f"{kernel.name} (it has no more than {options.clusters} values)")
            continue
        codes, index = with_codes(values, options.clusters, options.seed, keep_zeros=zeros(values) >= _SPARSE)
        zero = next((i for i, code in enumerate(codes) if code == 0), None)
        shared.append((Held.clustered(kernel, index, len(codes), zero), codes[index]))
    mine = {id(held.kernel.value) for held, _ in shared}
    others = held_in([kernel for kernel in all_kernels(bench.opened) if id(kernel.value) not in mine])
    plan = plan_of(bench, objective, [*(held for held, _ in shared), *others])

    def gather(done: int, _: int) -> None:
        if done == 0:
            for held, values in shared:
                held.kernel.value.assign(values)

    plan.before = gather
    outcome = fit(plan, options)
    notes = [f"clustered {len(shared)} kernels into {options.clusters} values each"]
    if norms:
        notes.append(f"folded {len(norms)} batch normalizations into the weights before them")
    if left:
        notes.append(f"not clustered: {', '.join(left)}")
    return finish(bench, objective, outcome, notes)
