"""Keras models, .keras and .h5, by TensorFlow's converter.

Layers that would execute code from the file are refused before the file is loaded, by reading its JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgepack.converters._keras_config import refuse_code
from edgepack.converters._keras_load import as_the_model_takes, edge_names, flat, load_keras, unique
from edgepack.converters._options import check_dtypes, check_shape_names, fixed_shape, named_shapes, read_options
from edgepack.converters._tensorflow import Function, through_tensorflow
from edgepack.converters._tf_bisect import first_wrong_operation
from edgepack.dataset import bind_feeds
from edgepack.model import Conversion, ConversionRequest, Divergence
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert", "first_difference"]

FORMATS = ("keras",)
ROAD = "tensorflow"
TOOLCHAIN = "tensorflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`inputs` fix open shapes, as ``NAME:1,16000``; `max_difference` is as a share of an output's range."""

    inputs: tuple[str, ...] = ()
    max_difference: float = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """The model as a function, its samples, who loaded it, and what there is to say of that."""

    function: Function
    feeds: Mapping[str, Array]
    limit: float
    loader: str
    notes: tuple[str, ...]


def convert(request: ConversionRequest) -> Conversion:
    """Return the model as float TFLite, and its own outputs on the samples.

    Keras 3 loads it; tf_keras (Keras 2) is asked where Keras 3 cannot, as with some old .h5 files.

    Raises:
        ConversionError: it holds code, cannot be loaded, has an open dimension, or an operator TFLite lacks.
        ParityError: what the converter made of it computes something else.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    opened = _opened(request)
    conversion = through_tensorflow(opened.function, opened.feeds, opened.limit, edges=request.edges)
    return replace(conversion, tool=f"{conversion.tool}, {opened.loader}", notes=opened.notes + conversion.notes)


def first_difference(request: ConversionRequest) -> Divergence:
    """Return the first operation that a refused conversion gets wrong.

    Raises:
        ConversionError: as from `convert`.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    opened = _opened(request)
    return first_wrong_operation(opened.function, opened.feeds, opened.limit, edges=request.edges)


def _opened(request: ConversionRequest) -> _Opened:
    options = read_options(Options, request.options)
    allowed = refuse_code(request.source, trusted=request.trusted)
    model, loader, notes = load_keras(request.source, safe=not allowed)
    inputs = _input_specs(model, options.inputs)
    feeds = bind_feeds(request.feeds, inputs, "calibration data")
    names = unique(edge_names(model, "outputs"))

    def call(*values: Any) -> list[Any]:
        result = model(as_the_model_takes(model, values), training=False)
        return flat(result)

    batched = all(len(tensor.shape) > 0 and tensor.shape[0] is None for tensor in model.inputs)
    function = Function(call=call, inputs=inputs, output_names=names, batched=batched)
    return _Opened(function=function, feeds=feeds, limit=options.max_difference, loader=loader, notes=allowed + notes)


def _input_specs(model: Any, shapes: Sequence[str]) -> tuple[TensorSpec, ...]:
    names, wanted = edge_names(model, "inputs"), named_shapes(shapes)
    check_shape_names(wanted, names)
    inputs = tuple(
        TensorSpec(
            name=name,
            dtype=getattr(tensor.dtype, "name", tensor.dtype),
            shape=fixed_shape(name, list(tensor.shape), wanted),
        )
        for name, tensor in zip(names, model.inputs, strict=True)
    )
    check_dtypes(shapes, inputs)
    return inputs
