"""Frozen dataclasses across a process boundary: JSON for structure, raw blobs for bytes and arrays.

Decoding is driven by the *expected* type's annotations, never by what the other side says it sent: a child process
that ran a hostile model can send wrong values, but can not make the parent construct anything else.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from edgepack_runtime._fields import canonical_json, parse_json
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.tensors import DTYPES, Array

__all__ = ["Message", "decode", "encode", "read_message", "write_message"]

T = TypeVar("T")
_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"EPKW"
_MAX_JSON = 64 << 20
_MAX_BLOBS = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One framed message: a JSON value whose blob references point into `blobs`."""

    value: object
    blobs: tuple[bytes, ...]


def encode(value: object) -> Message:
    """Return `value` (dataclasses, tuples, mappings with text keys, scalars, bytes, arrays, paths) as a message.

    Raises:
        TypeError: something else is in it, a programming error.
    """
    blobs: list[bytes] = []

    def walk(item: Any) -> object:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return {f.name: walk(getattr(item, f.name)) for f in dataclasses.fields(item)}
        if isinstance(item, np.ndarray):
            blobs.append(np.ascontiguousarray(item).tobytes())
            return {"blob": len(blobs) - 1, "dtype": str(item.dtype), "shape": list(item.shape)}
        if isinstance(item, (bytes, bytearray, memoryview)):
            blobs.append(bytes(item))
            return {"blob": len(blobs) - 1}
        if isinstance(item, Path):
            return str(item)
        if isinstance(item, Mapping):
            # Pairs, not an object: the order of inputs and outputs must survive sorted keys.
            return [[str(k), walk(v)] for k, v in item.items()]
        if isinstance(item, (list, tuple)):
            return [walk(v) for v in item]
        if item is None or isinstance(item, (str, int, float, bool)):
            return item
        raise TypeError(f"cannot be sent to another process: {type(item).__name__}")

    return Message(walk(value), tuple(blobs))


def decode(kind: type[T], message: Message, path: str = "message") -> T:
    """Return the message's value as a `kind`, checked field by field.

    Raises:
        SchemaError: anything in it is not what `kind`'s annotations say.
    """
    return typing.cast(T, _Decoder(message.blobs).walk(kind, message.value, path))


class _Decoder:
    def __init__(self, blobs: tuple[bytes, ...]) -> None:
        self.blobs = blobs

    def walk(self, kind: Any, value: Any, path: str) -> Any:
        origin = typing.get_origin(kind)
        if origin in (typing.Union, types.UnionType):
            return self._optional(kind, value, path)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind, value, path)
        if kind is bytes:
            return self._blob(value, path)
        if origin is np.ndarray or kind is np.ndarray:
            return self._array(value, path)
        if origin in (tuple, list, Sequence):
            self._expect(isinstance(value, list), "a list", value, path)
            (item, *_) = typing.get_args(kind)
            return tuple(self.walk(item, v, f"{path}[{i}]") for i, v in enumerate(value))
        if origin in (dict, Mapping):
            return self._mapping(typing.get_args(kind)[1], value, path)
        if kind is Path:
            self._expect(isinstance(value, str), "text", value, path)
            return Path(value)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        self._expect(
            isinstance(value, kind) and (kind is bool or not isinstance(value, bool)),
            kind.__name__,
            value,
            path,
        )
        return value

    @staticmethod
    def _expect(holds: bool, wanted: str, value: object, path: str) -> None:
        if not holds:
            raise SchemaError(f"{path}: expected {wanted}, got {type(value).__name__}")

    def _optional(self, kind: Any, value: Any, path: str) -> Any:
        choices = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None and len(choices) < len(typing.get_args(kind)):
            return None
        return self.walk(choices[0], value, path)

    def _dataclass(self, kind: Any, value: Any, path: str) -> Any:
        self._expect(isinstance(value, dict), f"a {kind.__name__}", value, path)
        hints = typing.get_type_hints(kind)
        names = [f.name for f in dataclasses.fields(kind)]
        if set(value) != set(names):
            raise SchemaError(f"{path}: a {kind.__name__} has the fields {names}, got {sorted(value)}")
        return kind(**{n: self.walk(hints[n], value[n], f"{path}.{n}") for n in names})

    def _mapping(self, item: Any, value: Any, path: str) -> dict[str, Any]:
        pairs_ok = isinstance(value, list) and all(
            isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in value
        )
        self._expect(pairs_ok, "a mapping", value, path)
        if len({k for k, _ in value}) != len(value):
            raise SchemaError(f"{path}: a key is there twice")
        return {k: self.walk(item, v, f"{path}.{k}") for k, v in value}

    def _blob(self, value: Any, path: str) -> bytes:
        self._expect(isinstance(value, dict) and isinstance(value.get("blob"), int), "bytes", value, path)
        if not 0 <= value["blob"] < len(self.blobs):
            raise SchemaError(f"{path}: blob {value['blob']} of {len(self.blobs)}")
        blob: bytes = self.blobs[value["blob"]]
        return blob

    def _array(self, value: Any, path: str) -> Array:
        data = self._blob(value, path)
        dtype, shape = value.get("dtype"), value.get("shape")
        # A negative length would be for numpy to work out; a reply says what it means.
        known = isinstance(shape, list) and all(isinstance(d, int) and d >= 0 for d in shape)
        if dtype not in DTYPES or not known:
            raise SchemaError(f"{path}: an array of dtype {dtype!r} and shape {shape!r}")
        try:
            return np.frombuffer(data, np.dtype(dtype)).reshape(shape)
        except (ValueError, OverflowError):
            raise SchemaError(f"{path}: {len(data)} bytes are no {dtype}{shape}") from None


def write_message(stream: BinaryIO, message: Message) -> None:
    """Write one frame: magic, counts, JSON, then each blob with its length."""
    text = canonical_json(message.value)
    stream.write(_HEAD.pack(_MAGIC, len(message.blobs), len(text)))
    stream.write(text)
    for blob in message.blobs:
        stream.write(len(blob).to_bytes(8, "little"))
        stream.write(blob)
    stream.flush()


def _exactly(stream: BinaryIO, size: int) -> bytes:
    # A length that no buffer can have would be an OverflowError, not a short read.
    data = stream.read(min(size, sys.maxsize))
    if len(data) != size:
        raise SchemaError(f"message: ended after {len(data)} of {size} bytes")
    return data


def read_message(stream: BinaryIO) -> Message:
    """Return the next frame.

    Raises:
        SchemaError: the stream ended early or is no frame.
    """
    magic, count, size = _HEAD.unpack(_exactly(stream, _HEAD.size))
    if magic != _MAGIC or size > _MAX_JSON or count > _MAX_BLOBS:
        raise SchemaError("message: not a worker frame")
    value = parse_json(_exactly(stream, size), "message")
    blobs = [_exactly(stream, int.from_bytes(_exactly(stream, 8), "little")) for _ in range(count)]
    return Message(value, tuple(blobs))
