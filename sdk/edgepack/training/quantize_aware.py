"""Quantization-aware fine-tuning: the model learns with the rounding errors it will have.

::

    x -> Conv(kernel) -> ReLU -> y    trained as    fq(x) -> Conv(fq(kernel)) -> ReLU -> fq(y)

What `fq` rounds is what a quantizing pass rounds: weights to one symmetric scale a channel without the lowest value,
results of layers to 256 steps of their range. Batch normalization is folded first, as the converter does. The ranges
follow the batches. What comes out is a float model again: its weights have moved to where rounding hurts least, and
the pass rounds them as for any other model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.errors import TrainingError
from edgepack.model import TrainRequest, TrainResult
from edgepack.training._fakequant import Quantized
from edgepack.training._fit import fit, held_in, split
from edgepack.training._graph import fold, forward, graph_of
from edgepack.training._opened import all_kernels, kernels
from edgepack.training._settings import SOURCE, Settings, check_choice, check_range
from edgepack.training._step import begin, finish, objective_of, plan_of, read_options

__all__ = ["HAS_TEACHER", "SHRINKS", "Options", "run"]

HAS_TEACHER, SHRINKS = False, False

_CALIBRATING = 256
_BITS = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Settings):
    """What can be chosen beside `Settings`.

    `loss` is to be like the float model unless labels are asked for. Weights are rounded to `weight_bits`, results of
    layers to `activation_bits` (0: not at all, as in dynamic_range). Dense layers get a scale a channel
    (``per_channel``) or one (``per_tensor``, as dynamic_range on tflite-runtime has it).

    Raises:
        RecipeError: a value is out of its range.
    """

    learning_rate: float = 1e-4
    loss: str = SOURCE
    weight_bits: int = 8
    activation_bits: int = 8
    dense: str = "per_channel"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        check_range("weight_bits", self.weight_bits, min(_BITS), max(_BITS))
        check_range("activation_bits", self.activation_bits, 0, 16)
        check_choice("dense", self.dense, ("per_channel", "per_tensor"))


def run(request: TrainRequest) -> TrainResult:
    """Return the model with weights that bear being rounded.

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
    opened = bench.opened
    graph = graph_of(opened.model)
    _refuse_nested(graph)
    objective = objective_of(bench, options)
    norms = fold(graph)
    _, left = kernels(opened, options)
    quantized = Quantized(
        graph,
        (options.weight_bits, options.activation_bits),
        per_channel=options.dense == "per_channel",
    )
    train, _ = split(len(bench.feeds[0]), options)
    quantized.calibrate([array[train[:_CALIBRATING]] for array in bench.feeds])
    plan = plan_of(bench, objective, held_in(all_kernels(opened)))
    plan.forward = _rounded(graph, quantized)
    with quantized.activations_apart():
        outcome = fit(plan, options)
    notes = [
        f"weights of {len(quantized.layers)} layers rounded to {options.weight_bits} bits, "
        f"results in {len(quantized.ranges)} places to {options.activation_bits}",
        "the figures of this step are of the rounded model",
    ]
    if norms:
        notes.append(f"folded {len(norms)} batch normalizations into the weights before them")
    if quantized.float_layers:
        notes.append(f"trained as float: {', '.join(quantized.float_layers)}")
    if frozen := [name for name in left if name.endswith("(frozen)")]:
        notes.append(f"not trained: {', '.join(frozen)}")
    return finish(bench, objective, outcome, notes)


def _rounded(graph: Any, quantized: Quantized) -> Callable[[Sequence[Any], bool], list[Any]]:
    def run_rounded(values: Sequence[Any], training: bool) -> list[Any]:
        rounded = [quantized.entering(i, value, training=training) for i, value in enumerate(values)]
        return forward(graph, rounded, quantized.special(training=training), training=training)

    return run_rounded


def _refuse_nested(graph: Any) -> None:
    for layer in graph.layers:
        if hasattr(layer, "_nodes_by_depth") or type(layer).__name__ in (
            "Sequential",
            "Bidirectional",
            "TimeDistributed",
        ):
            raise TrainingError(
                f"layer {layer.name!r} has other layers inside, and quantization-aware training takes flat models",
                hint="build the model without it, its layers in its place, and load the weights",
            )
