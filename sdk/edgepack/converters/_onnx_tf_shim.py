"""What onnx-tf 1.10, of 2022, needs to be imported and to be of use beside today's TensorFlow and ONNX.

Run in the child only, before onnx_tf is imported: `fitted` puts in place what it imports and is no more, and lets its
handlers serve operator versions that came after it. A handler that serves a version it does not know may compute
something else; the outputs are compared with onnxruntime's anyway.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
from types import ModuleType
from typing import Any

__all__ = ["Refused", "fitted", "lacking"]

# Operators whose attribute became an input, and which one.
_ATTRIBUTE_INPUTS = {
    "Squeeze": (1, "axes"),
    "Unsqueeze": (1, "axes"),
    **{f"Reduce{kind}": (1, "axes") for kind in ("Max", "Min", "Mean", "Prod", "L1", "L2", "LogSum", "LogSumExp")},
    "ReduceSumSquare": (1, "axes"),
}


class Refused(Exception):
    """A handler of onnx-tf gives up; the text names operator and node."""


def fitted() -> Any:
    """Return the module ``onnx_tf.backend``, ready to be used."""
    # Recurrent cells and keras.backend are what Keras 2 had.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import onnx.helper

    mapping = _mapping()
    onnx.mapping = onnx.helper.mapping = sys.modules["onnx.mapping"] = mapping
    _stand_in("tensorflow_addons", seq2seq=_stand_in("tensorflow_addons.seq2seq", hardmax=_hardmax))
    _stand_in("tensorflow_probability", distributions=_stand_in("tensorflow_probability.distributions"))
    import onnx_tf.backend
    import tensorflow as tf
    from onnx_tf.handlers.backend.sum import Sum
    from onnx_tf.handlers.handler import Handler

    Handler.handle = classmethod(_handle)
    tf.saturate_cast = _saturate_cast
    Sum.version_8 = Sum.version_13 = classmethod(_sum)
    return onnx_tf.backend


def lacking() -> frozenset[str]:
    """Return the standard operators that onnx-tf has no handler for; after `fitted`."""
    import onnx.defs
    from onnx_tf.handlers.backend_handler import BackendHandler

    known = {handler.ONNX_OP for handler in BackendHandler.__subclasses__()}
    return frozenset(schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain) - known


def _stand_in(name: str, **content: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
    return module


def _mapping() -> ModuleType:
    """Return what ``onnx.mapping`` was until onnx 1.19."""
    from onnx import TensorProto, helper

    types = [number for name, number in TensorProto.DataType.items() if name != "UNDEFINED"]
    module = ModuleType("onnx.mapping")
    to_numpy = {t: helper.tensor_dtype_to_np_dtype(t) for t in types}
    vars(module).update(
        TENSOR_TYPE_TO_NP_TYPE=to_numpy,
        NP_TYPE_TO_TENSOR_TYPE={v: k for k, v in to_numpy.items()},
        TENSOR_TYPE_TO_STORAGE_TENSOR_TYPE={t: helper.tensor_dtype_to_storage_tensor_dtype(t) for t in types},
        STORAGE_TENSOR_TYPE_TO_FIELD={
            helper.tensor_dtype_to_storage_tensor_dtype(t): helper.tensor_dtype_to_field(t) for t in types
        },
    )
    return module


def _hardmax(logits: Any) -> Any:
    import tensorflow as tf

    return tf.one_hot(tf.argmax(logits, -1), tf.shape(logits)[-1], dtype=logits.dtype)


def _sum(_: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """Add with broadcasting, as the standard says from version 8 on; TensorFlow's add_n does not."""
    return [functools.reduce(operator.add, (kwargs["tensor_dict"][name] for name in node.inputs))]


def _saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Any:
    """Do what tf.saturate_cast does, with operators that TFLite has."""
    import tensorflow as tf

    to = tf.as_dtype(dtype)
    low, high = (tf.cast(limit, value.dtype) for limit in (to.min, to.max))
    return tf.cast(tf.minimum(tf.maximum(value, low), high), to, name=name)


def _handle(cls: Any, /, node: Any, **kwargs: Any) -> Any:
    """Do what ``Handler.handle`` does, with the newest version it has where it lacks the one asked for."""
    try:
        return _handled(cls, node, kwargs)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"onnx-tf cannot convert operator {node.op_type!r} (node {node.name!r}): {error}") from error


def _handled(cls: Any, node: Any, kwargs: Any) -> Any:
    versions = [v for v in cls.get_versions() if v <= cls.SINCE_VERSION]
    if not versions:
        raise LookupError(f"it knows no version up to {cls.SINCE_VERSION}")
    newest = max(versions)
    place, attribute = _ATTRIBUTE_INPUTS.get(node.op_type, (0, ""))
    if attribute and newest < cls.SINCE_VERSION and len(node.inputs) > place:
        _as_attribute(node, place, attribute, kwargs["tensor_dict"])
    cls.args_check(node, **kwargs)
    return getattr(cls, f"version_{newest}")(node, **kwargs)


def _as_attribute(node: Any, place: int, attribute: str, tensors: Any) -> None:
    """Turn the input at `place` into the attribute it was in earlier versions."""
    import tensorflow as tf

    name = node.inputs[place]
    del node.inputs[place:]
    if name:
        value = tf.get_static_value(tensors[name])
        if value is None:
            raise ValueError(f"its {attribute} must be constant")
        node.attrs[attribute] = [int(axis) for axis in value]
