"""Int8 weights and int8 activations: the smallest and, where there is no fast float unit, the fastest form.

::

    x(f32) -> CONV_2D(f32) -> y(f32)   =>   x(f32) -> QUANTIZE -> CONV_2D(int8) -> DEQUANTIZE -> y(f32)

Ranges of activations come from the calibration samples: the smallest and largest value each tensor takes. Operators
that have no int8 kernel, or that ai-edge-quantizer does not know, stay float between DEQUANTIZE and QUANTIZE, and
the notes name them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.passes._biases import with_biases
from edgepack.passes._quantizer import (
    Calibration,
    Rule,
    Source,
    check_signature,
    describe_weights,
    evenly,
    load_source,
    quantize,
    read_options,
    tool,
)
from edgepack_runtime.tensors import Array

__all__ = ["SCHEME", "Options", "run"]

SCHEME = "full_integer"
_IO = ("float32", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What can be chosen.

    `io` is the type of inputs and outputs; at most `samples` samples calibrate, of which the share `outliers` may
    lie outside a tensor's range where they alone would stretch it; operators named in `keep_float` stay float.
    """

    io: str = "float32"
    samples: int = 200
    outliers: float = 0.05
    keep_float: tuple[str, ...] = ()


def run(request: PassRequest) -> PassResult:
    """Return the model computing in int8.

    Raises:
        PassError: an option is wrong, calibration data is missing or does not fit, the model is quantized already, or
            nothing could be quantized.
        SourceModelError: the bytes are no TFLite model.
    """
    options = read_options(Options, request.options)
    if options.io not in _IO or options.samples < 1 or not 0 <= options.outliers < 0.5:
        raise PassError(
            f"options: io {options.io!r}, samples {options.samples}, outliers {options.outliers}; wanted is io "
            f"{' or '.join(_IO)}, samples at least 1, outliers from 0 to below 0.5"
        )
    source = _ready(request)
    rules = [
        Rule(operator="*", activations=8),
        Rule(operator="BATCH_MATMUL", weights="TENSORWISE", activations=8),
    ]
    kept = (*options.keep_float, *(("INPUT", "OUTPUT") if options.io == "float32" else ()))
    rules.extend(Rule(operator=name, weights=None) for name in kept)
    chosen = tuple(_samples(request, source, options.samples))
    calibration = Calibration(samples=chosen, outliers=options.outliers)
    model, lacking = quantize(source, rules, calibration, request.engine)
    count, notes = describe_weights(model, "int8")
    if not count:
        raise PassError(f"no weights were quantized: {'; '.join(notes[1:])}", hint="try dynamic_range or float16")
    return PassResult(
        model=model,
        tool=tool("ai-edge-quantizer"),
        notes=(
            *source.notes,
            f"calibrated on {len(chosen)} samples",
            *lacking,
            *notes,
            *_float_operators(model),
        ),
    )


def _ready(request: PassRequest) -> Source:
    source = load_source(request)
    if not request.engine.startswith("tflite-runtime"):
        return source
    data, count = with_biases(source.data)
    view = read_model(data)
    notes = (f"{count} dense layers got a bias of zeros: the engine crashes without one on ARM",) if count else ()
    return Source(data=data, view=view, signature=check_signature(view), notes=(*source.notes, *notes))


def _samples(request: PassRequest, source: Source, limit: int) -> Iterator[dict[str, Array]]:
    names = [name for name, _ in source.signature.inputs]
    given = request.calibration
    if sorted(given) != sorted(names):
        raise PassError(f"calibration data is named {sorted(given)}, the model takes {sorted(names)}")
    counts = {len(array) for array in given.values()}
    if len(counts) != 1 or counts == {0}:
        raise PassError(f"calibration data has {sorted(counts)} samples; the same number of each input is wanted")
    tensors = source.view.subgraphs[source.signature.subgraph].tensors
    specs = {name: tensors[index] for name, index in source.signature.inputs}
    for name, array in given.items():
        if array.shape[1:] != specs[name].shape or str(array.dtype) != specs[name].dtype:
            raise PassError(
                f"calibration data {name!r} is {array.dtype}{list(array.shape)}, "
                f"wanted is {specs[name].dtype}[n, {', '.join(map(str, specs[name].shape))}]"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise PassError(f"calibration data {name!r} holds NaN or infinity")
    for i in evenly(counts.pop(), limit):
        yield {name: given[name][i] for name in names}


def _float_operators(model: bytes) -> tuple[str, ...]:
    """Return a note that counts the operators which still compute in float, if there are any."""
    view = read_model(model)
    computing = [
        (operator.name, {t.dtype for t in graph.operands(operator.outputs) if t is not None})
        for graph, operator in view.operators()
        if operator.name not in ("QUANTIZE", "DEQUANTIZE")
    ]
    left = Counter(name for name, types in computing if "float32" in types)
    if not left:
        return (f"all {len(computing)} operators compute in int8",)
    named = ", ".join(f"{count} {name}" for name, count in left.most_common())
    return (f"{sum(left.values())} of {len(computing)} operators still compute in float32: {named}",)
