"""What passes with integer activations share: samples to calibrate on, what their engine needs, what stayed float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.model import PassRequest, PassResult
from edgepack.passes._biases import with_biases
from edgepack.passes._forms import STATIC, Rule, rule_for
from edgepack.passes._quantizer import (
    Calibration,
    Source,
    check_signature,
    describe_weights,
    evenly,
    load_source,
    quantize,
    tool,
)
from edgepack.passes._ranks import with_full_ranks
from edgepack.schemes import WEIGHT_INPUTS
from edgepack_runtime.tensors import Array

__all__ = ["Sampling", "float_operators", "in_integers", "made_ready", "samples_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """At most how many samples calibrate, and what share of them may lie outside a tensor's range.

    Raises:
        PassError: there are none, or half of them may.
    """

    samples: int
    outliers: float

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 <= self.outliers < 0.5:
            raise PassError(
                f"options: samples {self.samples}, outliers {self.outliers}; wanted is samples at least 1, "
                "outliers from 0 to below 0.5"
            )


def in_integers(request: PassRequest, scheme: str, *, sampling: Sampling, kept: tuple[str, ...]) -> PassResult:
    """Return the model computing in integers but for the operators `kept`.

    Raises:
        PassError: calibration data is missing or does not fit, the model is quantized already, or nothing could be
            quantized.
        SourceModelError: the bytes are no TFLite model.
    """
    source = made_ready(load_source(request), request.engine)
    rules = [
        Rule(operator="*", activations=STATIC[scheme]),
        *(rule for name in sorted(WEIGHT_INPUTS) if (rule := rule_for(name, scheme, request.engine)) is not None),
        *(Rule(operator=name, weights=None) for name in kept),
    ]
    chosen = tuple(samples_of(request, source, sampling.samples))
    calibration = Calibration(samples=chosen, outliers=sampling.outliers)
    model, lacking = quantize(source, rules, calibration, request.engine)
    count, notes = describe_weights(model, "int8")
    if not count:
        raise PassError(f"no weights were quantized: {'; '.join(notes[1:])}", hint="try dynamic_range or float16")
    told = (*lacking, *notes, *float_operators(model))
    notes = (*source.notes, f"calibrated on {len(chosen)} samples", *told)
    return PassResult(model=model, tool=tool("ai-edge-quantizer"), notes=notes)


def made_ready(source: Source, engine: str) -> Source:
    """Return the source as the quantizer and an engine's integer kernels need it.

    Raises:
        SourceModelError: it is no TFLite model.
    """
    data, count = with_full_ranks(source.data), 0
    if engine.startswith("tflite-runtime"):
        data, count = with_biases(data)
    view = read_model(data)
    notes = (f"{count} dense layers got a bias of zeros: the engine crashes without one on ARM",) if count else ()
    return Source(data=data, view=view, signature=check_signature(view), notes=(*source.notes, *notes))


def samples_of(request: PassRequest, source: Source, limit: int) -> Iterator[dict[str, Array]]:
    """Yield at most `limit` samples, spread evenly over the calibration data, by the signature's input names.

    Raises:
        PassError: the data is missing, does not fit the model, or holds NaN.
    """
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


def float_operators(model: bytes) -> tuple[str, ...]:
    """Return a note that counts the operators which still compute in float, or says that there are none.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view = read_model(model)
    computing = [
        (operator.name, {t.dtype for t in graph.operands(operator.outputs) if t is not None})
        for graph, operator in view.operators()
        if operator.name not in ("QUANTIZE", "DEQUANTIZE")
    ]
    left = Counter(name for name, types in computing if "float32" in types)
    if not left:
        return (f"all {len(computing)} operators compute in integers",)
    named = ", ".join(f"{count} {name}" for name, count in left.most_common())
    return (f"{sum(left.values())} of {len(computing)} operators still compute in float32: {named}",)
