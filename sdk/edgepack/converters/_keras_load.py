"""Load a Keras file, and name its inputs and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepack.converters._options import first_line
from edgepack.errors import ConversionError

__all__ = ["as_the_model_takes", "edge_names", "flat", "load_keras", "unique"]


def load_keras(path: Path, *, safe: bool, stem: str = "source") -> tuple[Any, str, tuple[str, ...]]:
    """Return the model, what loaded it, and what there is to say of that.

    Keras 3 loads it; tf_keras (Keras 2) is asked where Keras 3 cannot, as with some old .h5 files.

    Args:
        path: the file; a link to it is made in the working folder.
        safe: whether code in it is refused.
        stem: the link's name, one for each model.

    Raises:
        ConversionError: it cannot be loaded, or has no shapes.
    """
    import keras

    # Keras goes by the suffix; the content was told apart before.
    named = Path(f"{stem}{'.keras' if path.open('rb').read(2) == b'PK' else '.h5'}").absolute()
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


def edge_names(model: Any, which: str) -> list[str]:
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


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, made different where one layer gives several outputs: ``out``, ``out_1``."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        result.append(name if not seen[name] else f"{name}_{seen[name]}")
        seen[name] += 1
    return tuple(result)


def as_the_model_takes(model: Any, values: Sequence[Any]) -> Any:
    """Return the values in the structure that the model is called with."""
    import tensorflow as tf

    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, (dict, list, tuple)):
        return tf.nest.pack_sequence_as(structure, list(values))
    return values[0] if len(values) == 1 else list(values)


def flat(result: Any) -> list[Any]:
    """Return a model's outputs in their order, whatever structure it gives them in."""
    import tensorflow as tf

    return list(tf.nest.flatten(result))
