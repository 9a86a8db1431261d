"""From a TensorFlow function to TFLite: batch 1, variables frozen, judged beside TensorFlow itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.converters._interface import (
    Port,
    fitted_ports,
    in_order,
    refuse_foreign_operators,
    signature_entries,
    with_signature,
)
from edgepack.converters._options import first_line
from edgepack.converters._parity import (
    allowed_error,
    batch_notes,
    check_interface,
    difference,
    judged_samples,
    run_graph,
    without_batch,
)
from edgepack.converters._tf_float32 import in_float32
from edgepack.dataset import take_samples
from edgepack.errors import ConversionError, ParityError
from edgepack.model import Conversion
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec

__all__ = ["Function", "first_line", "frozen_function", "plain_tflite", "tflite_of", "through_tensorflow"]

# What the converter's log says about operators TFLite lacks, in its two wordings.
_UNSUPPORTED = (
    re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op"),
    re.compile(r"(?:Flex|Custom) ops: ([\w, ]+)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What is converted: `call` takes tensors in the order of `inputs` and gives a list in that of `output_names`.

    `keep` is held on to: TensorFlow drops a model's variables when nothing refers to it. One that is `batched` leaves
    the first dimension of every input open.
    """

    call: Callable[..., list[Any]]
    inputs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    keep: Any = None
    batched: bool = False


def through_tensorflow(function: Function, feeds: Mapping[str, Array], limit: float, *, edges: int = 0) -> Conversion:
    """Return the function as float TFLite and TensorFlow's outputs on `feeds`.

    Args:
        function: the model.
        feeds: samples by input name, [n, *shape].
        limit: how far TFLite's outputs may be from TensorFlow's, as a share of an output's range.
        edges: how many of the last samples are made up, and not judged here.

    Raises:
        ConversionError: an operator is missing in TFLite, state is kept, or shapes vary.
        ParityError: the outputs differ.
    """
    import tensorflow as tf

    concrete = _concrete(function)
    outputs, reference = _reference(function, concrete, feeds)
    frozen = _frozen(concrete)
    narrow = in_float32(frozen)
    tflite = _fitted(_converted(narrow), function, outputs)
    interpreter = tf.lite.Interpreter(model_content=tflite, num_threads=2)
    interpreter.allocate_tensors()
    check_interface(interpreter, function.inputs)
    index = judged_samples(len(next(iter(feeds.values()))) - edges)
    rows = run_graph(interpreter, take_samples(feeds, index), function.inputs)
    worst = _worst([np.stack(row) for row in rows], outputs, take_samples(reference, index), limit)
    return Conversion(
        tflite=tflite,
        inputs=function.inputs,
        outputs=outputs,
        reference={name: np.stack([without_batch(v) for v in values]) for name, values in reference.items()},
        tool=f"tensorflow {tf.__version__}",
        notes=(
            f"TFLiteConverter: largest difference from TensorFlow {worst:.1e} of the range",
            *(() if narrow is frozen else ("the source computes in float64, the bundle in float32",)),
            *_together(function, feeds, reference),
        ),
    )


def _together(function: Function, feeds: Mapping[str, Array], reference: Mapping[str, Array]) -> tuple[str, ...]:
    """Return what to say of several samples in one batch, where the source takes that."""
    import tensorflow as tf

    if not function.batched:
        return ()

    def run(batch: Mapping[str, Array]) -> dict[str, Array]:
        results = function.call(*(tf.constant(array) for array in batch.values()))
        return {name: value.numpy() for name, value in zip(function.output_names, results, strict=True)}

    return batch_notes(run, feeds, reference)


def tflite_of(function: Function) -> bytes:
    """Return the function as float TFLite with its interface, not compared with anything.

    Raises:
        ConversionError: an operator is missing in TFLite, or state is kept.
    """
    return _named(_converted(_frozen(_concrete(function))), function)


def frozen_function(function: Function) -> Any:
    """Return the function of one sample, its variables constants.

    Raises:
        ConversionError: it cannot be run, or keeps state.
    """
    return _frozen(_concrete(function))


def plain_tflite(frozen: Any) -> bytes:
    """Return what TensorFlow's converter makes of a frozen function, under names of its own.

    Raises:
        ConversionError: an operator is missing in TFLite.
    """
    return _converted(frozen)


def _concrete(function: Function) -> Any:
    import tensorflow as tf

    for spec in function.inputs:
        if spec.dtype not in DTYPES:
            raise ConversionError(f"input {spec.name!r} is of type {spec.dtype}; known are {', '.join(DTYPES)}")
    shapes = [
        tf.TensorSpec(spec.shape, spec.dtype, name=f"edgepack_in_{i}") for i, spec in enumerate(function.inputs)
    ]

    def call(*values: Any) -> list[Any]:
        # Identities, so that one tensor given twice stays two outputs.
        return [tf.identity(value) for value in function.call(*values)]

    try:
        return tf.function(call, autograph=False).get_concrete_function(*shapes)
    except Exception as error:
        shown = ", ".join(str(spec) for spec in function.inputs)
        raise ConversionError(f"the model cannot be run with {shown}: {first_line(error)}") from error


def _reference(
    function: Function, concrete: Any, feeds: Mapping[str, Array]
) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """Return the outputs' specs and TensorFlow's values [n, *shape], one sample at a time as on the device."""
    import tensorflow as tf

    rows: list[list[Array]] = [[] for _ in function.output_names]
    try:
        for i in range(len(feeds[function.inputs[0].name])):
            results = concrete(*(tf.constant(feeds[spec.name][i]) for spec in function.inputs))
            for row, value in zip(rows, results, strict=True):
                row.append(value.numpy())
    except tf.errors.OpError as error:
        raise ConversionError(f"TensorFlow cannot run the model: {first_line(error)}") from error
    specs, values = [], {}
    for name, row in zip(function.output_names, rows, strict=True):
        if str(row[0].dtype) not in DTYPES:
            raise ConversionError(f"output {name!r} is of type {row[0].dtype}; known are {', '.join(DTYPES)}")
        if any(value.shape != row[0].shape for value in row):
            raise ConversionError(f"output {name!r} changes its shape from sample to sample: a device needs it fixed")
        specs.append(TensorSpec(name=name, dtype=str(row[0].dtype), shape=row[0].shape))
        values[name] = np.stack(row)
    return tuple(specs), values


def _frozen(concrete: Any) -> Any:
    """Return the function with its variables as constants.

    Left to itself the converter may write a file of VAR_HANDLE operators without any weight in it.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    except Exception as error:
        raise ConversionError(
            _state(concrete) or f"the model's variables cannot be frozen: {first_line(error)}"
        ) from error
    if any(tensor.dtype.name == "resource" for tensor in frozen.inputs):
        raise ConversionError(
            _state(concrete) or "the model holds a resource that is no variable, which TFLite lacks"
        )
    return frozen


def _nodes(function: Any) -> Iterator[Any]:
    """Yield every node of a function's graph and of the functions it calls."""
    graph = function.graph.as_graph_def()
    yield from graph.node
    for inner in graph.library.function:
        yield from inner.node_def


def _state(concrete: Any) -> str:
    """Return what to say about a model that changes variables or looks things up in tables; '' for any other."""
    for node in _nodes(concrete):
        if "Assign" in node.op or "HashTable" in node.op:
            return f"the model keeps state between calls ({node.op} {node.name!r}), which a conversion would lose"
    return ""


def _converted(frozen: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    try:
        return bytes(converter.convert())
    except Exception as error:
        operators = [name for pattern in _UNSUPPORTED for name in pattern.findall(str(error))]
        if not operators:
            raise ConversionError(f"TensorFlow's converter gives up: {first_line(error)}") from error
        first = re.split(r"[ ,]+", operators[0])[0].removeprefix("Flex")
        places = [node.name for node in _nodes(frozen) if node.op == first]
        raise ConversionError(
            f"the model needs the operator {first!r} ({places[0]!r}), which TFLite lacks"
            if places
            else f"the model needs the operator {first!r}, which TFLite lacks",
            hint="replace it by standard operators in the source model",
        ) from error


def _named(data: bytes, function: Function) -> bytes:
    refuse_foreign_operators(data)
    return with_signature(data, *_ports(data, function))


def _fitted(data: bytes, function: Function, outputs: Sequence[TensorSpec]) -> bytes:
    """Return the file with the source's interface, also where it computes in another type."""
    refuse_foreign_operators(data)
    inputs, results = signature_entries(data)
    named = [(f"edgepack_in_{i}", spec) for i, spec in enumerate(function.inputs)]
    wanted = [(f"output_{i}", spec) for i, spec in enumerate(outputs)]
    in_order([(ours, spec.name) for ours, spec in wanted], results, "output")
    return with_signature(data, fitted_ports(data, named, inputs), fitted_ports(data, wanted, results))


def _ports(data: bytes, function: Function) -> tuple[list[Port], list[Port]]:
    """Return which tensor is which input and output, by the signature the converter wrote: it reorders both."""
    inputs, outputs = signature_entries(data)
    return (
        in_order([(f"edgepack_in_{i}", spec.name) for i, spec in enumerate(function.inputs)], inputs, "input"),
        in_order([(f"output_{i}", name) for i, name in enumerate(function.output_names)], outputs, "output"),
    )


def _worst(
    values: Sequence[Array], specs: Sequence[TensorSpec], reference: Mapping[str, Array], limit: float
) -> float:
    worst = 0.0
    for spec, value in zip(specs, values, strict=True):
        if (str(value.dtype), value.shape[1:]) != (spec.dtype, spec.shape):
            raise ConversionError(
                f"output {spec.name!r} became {value.dtype}{list(value.shape[1:])}, the source gives "
                f"{spec.dtype}{list(spec.shape)}"
            )
        distance = difference(reference[spec.name], value)
        if not distance <= allowed_error(spec, 1.0, limit):
            raise ParityError(
                f"output {spec.name!r} differs from TensorFlow by {distance:.2g} of its range (at most {limit:g})"
            )
        worst = max(worst, distance)
    return worst
