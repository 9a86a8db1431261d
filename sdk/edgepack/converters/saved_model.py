"""TensorFlow SavedModel folders, by TensorFlow's converter: one signature, its variables frozen into constants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.converters._options import check_dtypes, check_shape_names, fixed_shape, named_shapes, read_options
from edgepack.converters._saved_model_ops import refuse_reaching_out
from edgepack.converters._tensorflow import Function, first_line, through_tensorflow
from edgepack.converters._tf_bisect import first_wrong_operation
from edgepack.dataset import bind_feeds
from edgepack.errors import ConversionError
from edgepack.model import Conversion, ConversionRequest, Divergence
from edgepack_runtime.tensors import Array, TensorSpec

__all__ = ["FORMATS", "ROAD", "TOOLCHAIN", "Options", "convert", "first_difference"]

FORMATS = ("saved_model",)
ROAD = "tensorflow"
TOOLCHAIN = "tensorflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which signature, and how.

    `inputs` fix open shapes, as ``NAME:1,16000``; `max_difference` is as a share of an output's range.
    """

    signature_key: str = "serving_default"
    inputs: tuple[str, ...] = ()
    max_difference: float = 1e-4


def convert(request: ConversionRequest) -> Conversion:
    """Return the signature as float TFLite, and TensorFlow's own outputs on the samples.

    Raises:
        ConversionError: it reaches out of itself, cannot be loaded, lacks the signature, has an open dimension, keeps
            state, or needs an operator TFLite lacks.
        ParityError: what the converter made of it computes something else.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    function, feeds, limit, allowed = _opened(request)
    conversion = through_tensorflow(function, feeds, limit, edges=request.edges)
    return replace(conversion, notes=allowed + conversion.notes)


def first_difference(request: ConversionRequest) -> Divergence:
    """Return the first operation that a refused conversion gets wrong.

    Raises:
        ConversionError: as from `convert`.
        DatasetError: the samples do not fit its inputs.
        RecipeError: an option is unknown.
    """
    function, feeds, limit, _ = _opened(request)
    return first_wrong_operation(function, feeds, limit, edges=request.edges)


def _opened(request: ConversionRequest) -> tuple[Function, dict[str, Array], float, tuple[str, ...]]:
    """Return the signature as a function, its samples, what it may be off, and what was allowed to it."""
    options = read_options(Options, request.options)
    allowed = refuse_reaching_out(request.source, trusted=request.trusted)
    model = _load(request.source)
    signature = _signature(model, options.signature_key)
    # A signature's names are a map without an order: sorted, every build gives the same interface.
    arguments = dict(sorted(signature.structured_input_signature[1].items()))
    shapes = named_shapes(options.inputs)
    check_shape_names(shapes, list(arguments))
    inputs = tuple(
        TensorSpec(
            name=name,
            dtype=spec.dtype.name,
            shape=fixed_shape(name, None if spec.shape.rank is None else spec.shape.as_list(), shapes),
        )
        for name, spec in arguments.items()
    )
    check_dtypes(options.inputs, inputs)
    feeds = bind_feeds(request.feeds, inputs, "calibration data")
    names = tuple(sorted(signature.structured_outputs))

    def call(*values: Any) -> list[Any]:
        results = signature(**dict(zip(arguments, values, strict=True)))
        return [results[name] for name in names]

    batched = all(bool(spec.shape.rank) and spec.shape[0] is None for spec in arguments.values())
    function = Function(call=call, inputs=inputs, output_names=names, keep=model, batched=batched)
    return function, feeds, options.max_difference, allowed


def _load(path: Path) -> Any:
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(path))
    except Exception as error:
        raise ConversionError(f"TensorFlow cannot load the SavedModel: {first_line(error)}") from error


def _signature(model: Any, key: str) -> Any:
    if key in model.signatures:
        return model.signatures[key]
    known = ", ".join(model.signatures) or "none"
    raise ConversionError(
        f"the SavedModel has no signature {key!r}; it has {known}",
        hint="choose one with --signature-key" if known != "none" else "save it with signatures=",
    )
