"""Find code in a Keras file without loading it: Lambda layers and classes the file's author defined."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack._zips import DAMAGED, is_bounded
from edgepack.converters._hdf5_links import refuse_links
from edgepack.converters._saved_model_ops import reaches_out
from edgepack.errors import ConversionError, SourceModelError
from edgepack_runtime._fields import parse_json
from edgepack_runtime.errors import SchemaError

__all__ = ["refuse_code"]

_MAX_CONFIG = 64 << 20
# zlib packs 1,032 to one at most; weights of nothing but zeros come close, and nobody ships many of them.
_UNPACKED_FREELY, _RATIO = 64 << 20, 200
_TRUST = "--trust-source runs it in the child process"
# Layers that bring a program of their own: pickled, in a folder named in the file, or as functions.
_LEADING_ELSEWHERE = frozenset({"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"})
_BUILTIN_TYPES = frozenset({"bool", "bytes", "dict", "float", "int", "list", "slice", "str", "tuple"})
_PARTS_OF_MODELS = frozenset(
    {"activations", "applications", "backend", "constraints", "dtype_policies", "engine", "feature_column"}
    | {"initializers", "layers", "legacy", "losses", "metrics", "mixed_precision", "models", "ops", "optimizers"}
    | {"premade", "quantizers", "random", "regularizers"}
)
_CLASSES = frozenset({"RaggedTensor", "SparseTensor", "sparse.SparseTensor"})
_COMPUTATIONS = frozenset(
    {"__operators__", "bitwise", "experimental", "image", "linalg", "math", "nn", "quantization", "ragged", "random"}
    | {"signal", "sparse", "sets"}
)
_NO_COMPUTATION = frozenset({"load_library", "load_op_library", "numpy_function", "print", "py_func", "py_function"})
# What h5py makes of the HDF5 library's errors on damaged files.
_H5PY = (OSError, LookupError, RuntimeError, TypeError, ValueError)


def refuse_code(path: Path, *, trusted: bool = False) -> tuple[str, ...]:
    """Refuse a file that could only be loaded by executing code that came with it or that is not here.

    Args:
        path: the Keras file.
        trusted: let code in it be, and return what there is of it.

    Raises:
        SourceModelError: its description of the layers cannot be read.
        ConversionError: there is a Lambda layer, a custom layer or function, or one that reads other files; or the
            file is put together as Keras never does. The message names it.
    """
    _refuse_odd_parts(path)
    allowed = []
    for item in _serialized(_config(path)):
        try:
            _check(item)
        except ConversionError as error:
            if not trusted:
                raise
            allowed.append(f"--trust-source let this run: {error.message}")
    return tuple(allowed)


def _refuse_odd_parts(path: Path) -> None:
    """Refuse an archive or an HDF5 file that leads out of itself, or unpacks to far more than it is."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        if not zipped:
            refuse_links(path, path.name)
            return
        with zipfile.ZipFile(path) as archive:
            _refuse_odd_members(archive)
            names = [name for name in archive.namelist() if name.endswith(".h5")]
            for name in names:
                with archive.open(name) as member:
                    refuse_links(member, name)
    except (*DAMAGED, OSError) as error:
        raise SourceModelError(f"the Keras file cannot be read: {error}") from None


def _refuse_odd_members(archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    count = Counter(info.filename for info in infos)
    for info in infos:
        parts = info.filename.replace("\\", "/").split("/")
        if info.filename.startswith("/") or ".." in parts or count[info.filename] > 1:
            raise ConversionError(f"the Keras file holds a member {info.filename!r} that Keras never writes")
        if not is_bounded(archive, info):
            raise SourceModelError(
                f"member {info.filename!r} of the Keras file is packed in a way Keras never writes"
            )
        if info.file_size > max(_UNPACKED_FREELY, _RATIO * info.compress_size):
            raise ConversionError(
                f"member {info.filename!r} of the Keras file unpacks from {info.compress_size} bytes "
                f"to {info.file_size}"
            )


def _config(path: Path) -> object:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
    except OSError as error:
        raise SourceModelError(f"the Keras file cannot be read: {error}") from None
    text = _from_zip(path) if zipped else _from_hdf5(path)
    try:
        return parse_json(text, "model config")
    except SchemaError as error:
        raise SourceModelError(f"the Keras file cannot be read: {error}") from None


def _from_zip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > _MAX_CONFIG:
                raise SourceModelError(f"the Keras file's config.json unpacks to {info.file_size} bytes")
            if not is_bounded(archive, info):
                raise SourceModelError("the Keras file's config.json is packed in a way Keras never writes")
            return archive.read(info)
    except (*DAMAGED, OSError) as error:
        raise SourceModelError(f"the Keras file cannot be read: {error}") from None


def _from_hdf5(path: Path) -> bytes:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except _H5PY as error:
        raise SourceModelError(f"the HDF5 file cannot be read: {error}") from None
    if config is None:
        raise SourceModelError("the HDF5 file holds no Keras model (no attribute 'model_config')")
    if not isinstance(config, (str, bytes)):
        raise SourceModelError(f"the HDF5 file's attribute 'model_config' is no text but {type(config).__name__}")
    # h5py reads text that is no UTF-8 into surrogates; as the bytes it was, it is refused with the rest.
    return config.encode("utf-8", "surrogateescape") if isinstance(config, str) else config


def _serialized(value: object) -> Iterator[dict[str, Any]]:
    """Yield every serialized object in the config: a table with ``class_name``."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value
        for item in value.values():
            yield from _serialized(item)
    elif isinstance(value, list):
        for item in value:
            yield from _serialized(item)


def _layer_name(item: dict[str, Any]) -> str:
    config = item.get("config")
    return str(config.get("name", "")) if isinstance(config, dict) else str(config)


def _check(item: dict[str, Any]) -> None:
    whole, name, module = item["class_name"], _layer_name(item), item.get("module")
    # Keras looks "layers.Lambda" of "keras" up as it does "Lambda" of "keras.layers".
    kind = whole.rpartition(".")[2]
    if kind in ("Lambda", "__lambda__"):
        raise ConversionError(
            f"layer {name!r} is a Lambda: loading it would execute code from the file",
            hint=f"rebuild it with standard layers, or export it as a SavedModel: model.export('folder'); {_TRUST}",
        )
    if kind in _LEADING_ELSEWHERE:
        raise ConversionError(
            f"layer {name!r} is a {kind}: it loads another program than the Keras file",
            hint=f"convert that model itself, or export this one: model.export('folder'); {_TRUST}",
        )
    config = item.get("config")
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        raise ConversionError(
            f"layer {name!r} reads its vocabulary from the file {config['vocabulary']!r}",
            hint="save the model with the vocabulary in it",
        )
    if kind == "TensorFlowOpLayer" and (does := _does(config)):
        raise ConversionError(f"layer {name!r} {does}", hint=f"take it out of the model; {_TRUST}")
    if kind == "ClassMethod" and not (isinstance(config, dict) and config.get("cls_symbol") in _CLASSES):
        raise ConversionError(
            f"layer {name!r} calls a function of a class of TensorFlow's, which is no computation on tensors",
            hint=f"take it out of the model; {_TRUST}",
        )
    if kind == "TFOpLambda" and isinstance(config, dict) and not _is_computation(str(config.get("function"))):
        raise ConversionError(
            f"layer {name!r} calls tf.{config.get('function')}, which is no computation on tensors",
            hint=f"take it out of the model; {_TRUST}",
        )
    registered = item.get("registered_name")
    custom = ">" in kind or (isinstance(registered, str) and ">" in registered)
    called = config if kind == "function" and isinstance(config, str) else whole
    ours = _is_of_keras(module, called) and (module != "builtins" or kind in _BUILTIN_TYPES)
    if not ours or custom:
        raise ConversionError(
            f"layer or function {name!r} is of the custom kind {registered or kind!r}, whose code is not in the file",
            hint="export it where that code is: model.export('folder') gives a SavedModel edgepack reads",
        )


def _does(config: object) -> str:
    """Return what a layer that is one of TensorFlow's operators does beside computing, '' for nothing."""
    node = config.get("node_def") if isinstance(config, dict) else None
    if not isinstance(node, dict):
        return "is an operator that is not described as Keras does"
    operator = str(node.get("op"))
    does = reaches_out(operator) or ("prints" if operator == "PrintV2" else "")
    return f"is the operator {operator}, which {does}" if does else ""


def _is_of_keras(module: object, name: str) -> bool:
    """Return whether a class or function of this module is a part of models; Keras's tools fetch and load files."""
    if module is None or module == "builtins":
        return True
    parts = [*str(module).split("."), *name.split(".")[:-1]]
    if parts[:3] == ["tensorflow", "python", "keras"]:
        parts = parts[2:]
    elif parts[:2] == ["tensorflow", "keras"] or parts[:2] == ["tensorflow", "compat"]:
        parts = ["keras", *parts[-1:]]
    if parts[0] not in ("keras", "tf_keras", "keras_core"):
        return False
    inner = parts[2:] if parts[1:2] == ["src"] else parts[1:]
    return not inner or inner[0] in _PARTS_OF_MODELS


def _is_computation(function: str) -> bool:
    """Return whether a function of TensorFlow, as Keras 2 names it, computes and does nothing else."""
    *modules, name = function.removeprefix("compat.v1.").split(".")
    return name not in _NO_COMPUTATION and (not modules or modules[0] in _COMPUTATIONS)
