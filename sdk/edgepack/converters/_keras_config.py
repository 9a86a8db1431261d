"""Find code in a Keras file without loading it: Lambda layers and classes the file's author defined."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack._zips import DAMAGED, is_bounded
from edgepack.errors import ConversionError, SourceModelError
from edgepack_runtime._fields import parse_json
from edgepack_runtime.errors import SchemaError

__all__ = ["refuse_code"]

_MAX_CONFIG = 64 << 20
# What h5py makes of the HDF5 library's errors on damaged files.
_H5PY = (OSError, LookupError, RuntimeError, TypeError, ValueError)


def refuse_code(path: Path) -> None:
    """Refuse a file that could only be loaded by executing code that came with it or that is not here.

    Raises:
        SourceModelError: its description of the layers cannot be read.
        ConversionError: there is a Lambda layer, a custom layer or a custom function; the message names it.
    """
    for item in _serialized(_config(path)):
        _check(item)


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
    kind, name, module = item["class_name"], _layer_name(item), item.get("module")
    if kind in ("Lambda", "__lambda__"):
        raise ConversionError(
            f"layer {name!r} is a Lambda: loading it would execute code from the file",
            hint="rebuild the model with standard layers, or export it as a SavedModel: model.export('folder')",
        )
    known = (
        module is None
        or str(module).split(".")[0] in ("keras", "tf_keras", "builtins")
        or (str(module).startswith("tensorflow."))
    )
    registered = item.get("registered_name")
    custom = ">" in kind or (isinstance(registered, str) and ">" in registered)
    if not known or custom or (kind == "function" and module == "builtins"):
        raise ConversionError(
            f"layer or function {name!r} is of the custom kind {registered or kind!r}, whose code is not in the file",
            hint="export it where that code is: model.export('folder') gives a SavedModel edgepack reads",
        )
