"""Keras models, .keras and .h5, by TensorFlow's converter.

Layers that would execute code from the file are refused before the file is loaded, by reading its JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepack.converters._keras_config import refuse_code
from edgepack.converters._options import check_dtypes, check_shape_names, fixed_shape, named_shapes, read_options
from edgepack.converters._tensorflow import Function, first_line, through_tensorflow
from edgepack.converters._tf_bisect import first_wrong_operation
from edgepack.dataset import bind_feeds
from edgepack.errors import ConversionError
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
    model, loader, notes = _load(request.source, safe=not allowed)
    inputs = _input_specs(model, options.inputs)
    feeds = bind_feeds(request.feeds, inputs, "calibration data")
    names = _unique(_edge_names(model, "outputs"))

    def call(*values: Any) -> list[Any]:
        result = model(_as_the_model_takes(model, values), training=False)
        return _flat(result)

    batched = all(len(tensor.shape) > 0 and tensor.shape[0] is None for tensor in model.inputs)
    function = Function(call=call, inputs=inputs, output_names=names, batched=batched)
    return _Opened(function=function, feeds=feeds, limit=options.max_difference, loader=loader, notes=allowed + notes)


def _load(path: Path, *, safe: bool) -> tuple[Any, str, tuple[str, ...]]:
    import keras

    # Keras goes by the suffix; the content was told apart before.
    named = Path(f"source{'.keras' if path.open('rb').read(2) == b'PK' else '.h5'}").absolute()
    named.symlink_to(path.resolve())
    try:
        model = keras.saving.load_model(named, compile=False, safe_mode=safe)
    except Exception as error:  # noqa: BLE001 - whatever Keras raises, the older one may know the file
        said = first_line(error)
    else:
        return _checked(model), f"keras {keras.__version__}", ()
    import tf_keras

    try:
        model = tf_keras.models.load_model(named, compile=False, safe_mode=safe)
    except Exception as error:
        raise ConversionError(
            f"neither Keras {keras.__version__} ({said}) nor tf_keras {tf_keras.__version__} "
            f"({first_line(error)}) can load the model"
        ) from error
    return _checked(model), f"tf_keras {tf_keras.__version__}", (f"Keras 3 cannot load the model: {said}",)


def _checked(model: Any) -> Any:
    if not getattr(model, "inputs", None):
        raise ConversionError(
            "the Keras model was saved without input shapes",
            hint="call it once on a sample, or give it a keras.Input, before model.save()",
        )
    return model


def _edge_names(model: Any, which: str) -> list[str]:
    """Return the names of the model's ``inputs`` or ``outputs`` in its order.

    A dictionary's keys where the model was built with one, else the layers' names as in ``model.summary()``.
    """
    tensors = getattr(model, which)
    structure = getattr(model, f"_{which}_struct", None)
    if isinstance(structure, dict) and len(structure) == len(tensors):
        return sorted(structure)
    names = getattr(model, f"{which[:-1]}_names", None)
    if names and len(names) == len(tensors):
        return list(names)
    return [_layer_name(tensor) for tensor in tensors]


def _layer_name(tensor: Any) -> str:
    history: Any = getattr(tensor, "_keras_history", None)
    # Keras 3 names tensors of a Sequential keras_tensor_7; the layer's name is the one its author knows.
    return str(history.operation.name) if hasattr(history, "operation") else str(tensor.name).split(":")[0]


def _input_specs(model: Any, shapes: Sequence[str]) -> tuple[TensorSpec, ...]:
    names, wanted = _edge_names(model, "inputs"), named_shapes(shapes)
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


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, made different where one layer gives several outputs: ``out``, ``out_1``."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        result.append(name if not seen[name] else f"{name}_{seen[name]}")
        seen[name] += 1
    return tuple(result)


def _as_the_model_takes(model: Any, values: Sequence[Any]) -> Any:
    import tensorflow as tf

    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, (dict, list, tuple)):
        return tf.nest.pack_sequence_as(structure, list(values))
    return values[0] if len(values) == 1 else list(values)


def _flat(result: Any) -> list[Any]:
    import tensorflow as tf

    return list(tf.nest.flatten(result))
