"""The first operation of a TensorFlow graph that TFLite computes otherwise: its output becomes the function's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgepack.converters._bisect import EQUAL, Layer, first_differing, said_by
from edgepack.converters._parity import difference
from edgepack.converters._tensorflow import Function, frozen_function, plain_tflite
from edgepack.dataset import take_samples
from edgepack.errors import ConversionError
from edgepack.model import Divergence
from edgepack_runtime.tensors import DTYPES, Array

__all__ = ["first_wrong_operation"]

_SAMPLES = 6
# What moves values and computes nothing.
_PLUMBING = frozenset({"Const", "Identity", "IdentityN", "NoOp", "Placeholder"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What is the same for every piece: the frozen function, samples by its inputs' names, and what converts."""

    frozen: Any
    feeds: Mapping[str, Array]
    limit: float
    convert: Callable[[Any], bytes]


def first_wrong_operation(
    function: Function,
    feeds: Mapping[str, Array],
    limit: float,
    *,
    edges: int = 0,
    convert: Callable[[Any], bytes] | None = None,
) -> Divergence:
    """Return which operation differs first, on a few samples, and if those agree on the edge cases.

    Args:
        function: the model.
        feeds: samples by input name, [n, *shape], the last `edges` of them made up, half of them shaken.
        limit: from which share of its range on a tensor differs.
        edges: how many samples are made up.
        convert: gives TFLite for a concrete function; TensorFlow's own converter unless it is said.

    Raises:
        ConversionError: the function cannot be run or frozen.
    """
    frozen = frozen_function(function)
    count = len(next(iter(feeds.values())))
    samples = [np.unique(np.linspace(0, count - edges - 1, min(count - edges, _SAMPLES)).astype(int))]
    if edges:
        samples.append(np.arange(count - edges, count - edges // 2))
    for index in samples:
        taken = take_samples(feeds, index)
        search = _Search(
            frozen=frozen,
            feeds={t.op.name: taken[spec.name] for t, spec in zip(frozen.inputs, function.inputs, strict=True)},
            limit=limit,
            convert=convert or plain_tflite,
        )
        for output in frozen.outputs:
            operations = _ancestors(frozen, output.op)
            layers = [Layer(name=o.name, operator=o.type) for o in operations]
            found = first_differing(layers, partial(_said_at, search, operations))
            if found is not None:
                return found
    return EQUAL


def _ancestors(frozen: Any, last: Any) -> list[Any]:
    """Return the operations from the inputs to `last` that compute something, in the graph's order."""
    wanted, todo = set(), [last]
    while todo:
        operation = todo.pop()
        if operation.name not in wanted:
            wanted.add(operation.name)
            todo += [tensor.op for tensor in operation.inputs]
    reached = {tensor.op.name for tensor in frozen.inputs}
    found = []
    for operation in frozen.graph.get_operations():
        if operation.name not in wanted or not any(t.op.name in reached for t in operation.inputs):
            continue
        reached.add(operation.name)
        if operation.type not in _PLUMBING and _outputs(operation):
            found.append(operation)
    return found


def _outputs(operation: Any) -> list[Any]:
    return [t for t in operation.outputs if t.dtype.name in DTYPES and t.shape.is_fully_defined()]


def _said_at(search: _Search, operations: Sequence[Any], i: int) -> str:
    """Return how far the function up to an operation is off once converted; '' if it is equal."""
    import tensorflow as tf

    fetches = _outputs(operations[i])
    piece = search.frozen.prune(search.frozen.inputs, fetches)
    try:
        runner = tf.lite.Interpreter(model_content=search.convert(piece), num_threads=2).get_signature_runner()
    except ConversionError as error:
        return said_by(error)
    except (ValueError, RuntimeError) as error:
        return f"it cannot be run alone: {error}"
    # What a piece does not read, its converter may leave out.
    given = [name for name in search.feeds if name in runner.get_input_details()]
    wanted: list[list[Array]] = [[] for _ in fetches]
    found: list[list[Array]] = [[] for _ in fetches]
    for row in range(len(next(iter(search.feeds.values())))):
        source = piece(*(tf.constant(array[row]) for array in search.feeds.values()))
        result = runner(**{name: search.feeds[name][row] for name in given})
        for k in range(len(fetches)):
            wanted[k].append(source[k].numpy())
            found[k].append(result[f"output_{k}"])
    worst = max(difference(np.stack(a), np.stack(b)) for a, b in zip(wanted, found, strict=True))
    return "" if worst <= search.limit else f"{worst:.2g} of its range"
