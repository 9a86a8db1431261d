"""A Keras model opened to be trained, with its training set, and how it becomes a file again."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.converters._keras_config import refuse_code
from edgepack.converters._keras_load import as_the_model_takes, edge_names, flat, load_keras, unique
from edgepack.dataset import UNNAMED
from edgepack.errors import DatasetError, TrainingError
from edgepack.training._settings import Settings
from edgepack_runtime.tensors import Array

__all__ = [
    "Kernel",
    "Opened",
    "all_kernels",
    "bound",
    "call",
    "kernels",
    "open_model",
    "outputs_on",
    "saved",
    "start",
]

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel")
_BATCH = 64
# What Keras writes into a file beside the model; the same model shall be the same bytes.
_EPOCH, _SAVED = (1980, 1, 1, 0, 0, 0), "1980-01-01@00:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The model as it was loaded, the names of its outputs, and what there is to say."""

    model: Any
    names: tuple[str, ...]
    tool: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A layer's weights that can be pruned and clustered; `value` is the Keras variable."""

    layer: Any
    value: Any
    depthwise: bool

    @property
    def name(self) -> str:
        """The layer's name and the variable's."""
        return str(self.value.path)

    def numpy(self) -> Array:
        """Return the weights."""
        array: Array = np.asarray(self.value.numpy())
        return array


def start(seed: int) -> None:
    """Make everything that is drawn, and the order of every sum, a matter of the seed.

    It comes before TensorFlow is imported.
    """
    # oneDNN's kernels write where they must not while separable convolutions learn (TensorFlow 2.19): it crashes, or
    # worse.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def open_model(path: Path, *, trusted: bool, stem: str = "source") -> Opened:
    """Return the model, ready to be trained.

    Raises:
        ConversionError: it holds code, or cannot be loaded.
        SourceModelError: its description of the layers cannot be read.
        TrainingError: it is one that cannot be trained here.
    """
    import keras

    allowed = refuse_code(path, trusted=trusted)
    model, tool, notes = load_keras(path, safe=not allowed, stem=stem)
    if not tool.startswith("keras "):
        raise TrainingError(
            f"{path.name}: only Keras 2 loads it, and what is trained here is saved by Keras 3 ({'; '.join(notes)})",
            hint="load it where it was made and save it as .keras with Keras 3",
        )
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_nodes_by_depth"):
        raise TrainingError(
            f"{path.name} is no graph of layers but a class of its own, whose code is not in the file"
        )
    _refuse_unfit(model)
    names = unique(edge_names(model, "outputs"))
    return Opened(model=model, names=names, tool=tool, notes=allowed)


def _refuse_unfit(model: Any) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise TrainingError(
                f"layer {layer.name!r} keeps state from batch to batch; shuffled samples would teach it nonsense",
                hint="build it with stateful=False for training",
            )
        compute = str(getattr(layer, "compute_dtype", "float32"))
        if "float" in compute and compute != "float32":
            raise TrainingError(
                f"layer {layer.name!r} computes in {compute}; training steps take float32 models",
                hint='build the model under the policy "float32" and load its weights',
            )
    for tensor in model.inputs:
        if tensor.shape and tensor.shape[0] is not None:
            raise TrainingError(
                f"input {tensor.name!r} has the batch size {tensor.shape[0]} built in",
                hint="build the model with an open batch, keras.Input(shape=...), and load its weights",
            )


def bound(opened: Opened, feeds: Mapping[str, Array], what: str) -> list[Array]:
    """Return the arrays in the order of the model's inputs, each [n, *input shape].

    Raises:
        DatasetError: a name, shape or dtype does not fit; nothing is cast.
    """
    names = edge_names(opened.model, "inputs")
    if len(names) == 1 and tuple(feeds) == (UNNAMED,):
        feeds = {names[0]: feeds[UNNAMED]}
    if sorted(feeds) != sorted(names):
        raise DatasetError(f"{what}: has the arrays {sorted(feeds)}, the model's inputs are {sorted(names)}")
    arrays = []
    for name, tensor in zip(names, opened.model.inputs, strict=True):
        array, wanted = feeds[name], list(tensor.shape[1:])
        if array.ndim == len(wanted) + 2 and array.shape[1] == 1:
            array = array[:, 0]
        fits = array.ndim == len(wanted) + 1 and all(
            size in (None, found) for size, found in zip(wanted, array.shape[1:], strict=True)
        )
        dtype = getattr(tensor.dtype, "name", tensor.dtype)
        if not fits or str(array.dtype) != dtype:
            shown = ", ".join("?" if size is None else str(size) for size in wanted)
            raise DatasetError(
                f"{what}: array {name!r} is {array.dtype}{list(array.shape[1:])} a sample, the model takes "
                f"{dtype}[{shown}]",
                hint="apply the model's preprocessing when you save it, as for the calibration data",
            )
        arrays.append(array)
    return arrays


def outputs_on(opened: Opened, arrays: Sequence[Array]) -> list[Array]:
    """Return what the model computes, one array [n, ...] an output."""
    import tensorflow as tf

    run = tf.function(lambda values: call(opened, values, training=False), reduce_retracing=True)
    rows = [
        [value.numpy() for value in run([tf.constant(array[i : i + _BATCH]) for array in arrays])]
        for i in range(0, len(arrays[0]), _BATCH)
    ]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def call(opened: Opened, values: Sequence[Any], *, training: bool) -> list[Any]:
    """Return the model's outputs in order, on tensors in the order of its inputs."""
    return flat(opened.model(as_the_model_takes(opened.model, values), training=training))


def kernels(opened: Opened, settings: Settings) -> tuple[list[Kernel], list[str]]:
    """Return the kernels a step changes, and the names of the others.

    A depthwise one is changed only if the user names its layer: it is small, and each weight of it counts.

    Raises:
        TrainingError: a pattern fits no layer.
    """
    found = all_kernels(opened)
    for pattern in (*settings.layers, *settings.skip):
        if not any(fnmatchcase(kernel.layer.name, pattern) for kernel in found):
            raise TrainingError(
                f"no layer with weights is named {pattern!r}",
                hint=f"there are {', '.join(dict.fromkeys(kernel.layer.name for kernel in found))}",
            )
    taken, left = [], []
    for kernel in found:
        named = any(fnmatchcase(kernel.layer.name, pattern) for pattern in settings.layers)
        wanted = named if settings.layers else not kernel.depthwise
        skipped = any(fnmatchcase(kernel.layer.name, pattern) for pattern in settings.skip)
        if not kernel.layer.trainable:
            left.append(f"{kernel.name} (frozen)")
        elif wanted and not skipped:
            taken.append(kernel)
        else:
            left.append(f"{kernel.name} (depthwise)" if kernel.depthwise and not skipped else kernel.name)
    if not taken:
        raise TrainingError(
            f"no layer is left to change; there are {', '.join(left) or 'none with a kernel'}",
            hint="name them with layers=, or set their trainable to True before saving the model",
        )
    return taken, left


def all_kernels(opened: Opened) -> list[Kernel]:
    """Return every kernel of the model, each once, in the order of the layers."""
    found, seen = [], set()
    for layer in opened.model._flatten_layers():
        for value in getattr(layer, "_trainable_variables", ()):
            if value.name in _KERNELS and id(value) not in seen and len(value.shape) > 1:
                seen.add(id(value))
                depthwise = type(layer).__name__.startswith("Depthwise") or value.name == "depthwise_kernel"
                found.append(Kernel(layer=layer, value=value, depthwise=depthwise))
    return found


def saved(model: Any, scratch: Path) -> bytes:
    """Return the model as a .keras file; the same model is the same bytes."""
    path = scratch / "trained.keras"
    model.save(path)
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w") as target:
        for name in sorted(source.namelist()):
            data = source.read(name)
            if name == "metadata.json":
                data = json.dumps(json.loads(data) | {"date_saved": _SAVED}, sort_keys=True).encode()
            target.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    path.unlink()
    return packed.getvalue()
