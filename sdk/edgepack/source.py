"""What a model file is, told from its content: format, digest, and whether it is whole.

No framework is imported and nothing in the file is executed; big files are streamed. The converters look deeper, in a
child process: this module is what makes a wrong path, a PNG or half a download one clear line, at once.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from edgepack import _magic, _sklearnfile, _torchfile
from edgepack._onnx_external import external_files
from edgepack._zips import DAMAGED
from edgepack.errors import SourceModelError
from edgepack.model import SourceModel

__all__ = ["detect"]

_CHUNK = 1 << 20
_KERAS_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
_HINT = (
    "edgepack reads ONNX (.onnx), Keras (.keras, .h5), a TensorFlow SavedModel folder, "
    "PyTorch (TorchScript, .pt2, a state dict), scikit-learn (.joblib, .skops) and .tflite"
)


def detect(path: Path) -> SourceModel:
    r"""Return which model lies at `path`, with its SHA-256.

    A folder's digest is that of the text ``<SHA-256>  <relative name>\n`` of its files sorted by name, as
    ``sha256sum`` prints it; that of an ONNX model with weights in files beside it is the same, of it and of these.

    Raises:
        SourceModelError: it is missing, unreadable, empty, truncated, no model, or leads to files elsewhere; the
            message says what it is.
    """
    try:
        if path.is_dir():
            _check_saved_model(path)
            return SourceModel(path=path, format="saved_model", digest=_folder_digest(path))
        if path.exists() and not path.is_file():
            raise SourceModelError(f"{path}: neither a file nor a folder")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise SourceModelError(f"{path}: the file is empty")
            found = _detect_file(path, file)
            if found == "onnx" and (parts := _external_files(path, file)):
                return SourceModel(path=path, format=found, digest=_digest_with(path, parts), parts=parts)
            file.seek(0)
            return SourceModel(path=path, format=found, digest=hashlib.file_digest(file, "sha256").hexdigest())
    except FileNotFoundError:
        raise SourceModelError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise SourceModelError(f"{path}: cannot be read ({error.strerror or error})") from None


def _detect_file(path: Path, file: BinaryIO) -> str:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for recognise in (_tflite, _hdf5, _zip, _old_torch, _sklearn, _onnx):
            if found := recognise(path, data):
                return found
        head = bytes(data[:4096])
    if path.name == "saved_model.pb":
        raise SourceModelError(f"{path}: part of a SavedModel", hint=f"give its folder instead: {path.parent}")
    kind, hint = _magic.looks_like(head)
    raise SourceModelError(f"{path}: no model that edgepack reads; it looks like {kind}", hint=hint or _HINT)


def _refuse_truncated(path: Path, what: str, wanted: int, found: int) -> NoReturn:
    raise SourceModelError(
        f"{path}: truncated {what}: it needs {wanted} bytes, the file has {found}",
        hint="copy or download it again",
    )


def _tflite(path: Path, data: mmap.mmap) -> str | None:
    if data[4:8] != b"TFL3":
        return None
    try:
        end = max(_flatbuffer_ends(data))
    except (IndexError, ValueError):
        raise SourceModelError(f"{path}: truncated or damaged TFLite model") from None
    if end > len(data):
        _refuse_truncated(path, "TFLite model", end, len(data))
    return "tflite"


def _number(data: mmap.mmap, at: int, size: int, *, signed: bool = False) -> int:
    if not 0 <= at <= len(data) - size:
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], "little", signed=signed)


def _flatbuffer_field(data: mmap.mmap, table: int, index: int) -> int | None:
    vtable = table - _number(data, table, 4, signed=True)
    if 4 + 2 * index >= _number(data, vtable, 2):
        return None
    offset = _number(data, vtable + 4 + 2 * index, 2)
    return table + offset if offset else None


def _flatbuffer_vector(data: mmap.mmap, table: int, index: int) -> tuple[int, int]:
    """Return where the vector's items start, and how many there are."""
    field = _flatbuffer_field(data, table, index)
    if field is None:
        return 0, 0
    start = field + _number(data, field, 4)
    return start + 4, _number(data, start, 4)


def _flatbuffer_ends(data: mmap.mmap) -> Iterator[int]:
    """Yield where each part of the model that holds content ends; IndexError inside a cut structure."""
    root = _number(data, 0, 4)
    graphs, graph_count = _flatbuffer_vector(data, root, 2)
    if graph_count == 0:
        raise ValueError("no graph")
    _number(data, graphs + 4 * graph_count - 4, 4)
    for i in range(graph_count):
        item = graphs + 4 * i
        for vector in range(4):
            start, count = _flatbuffer_vector(data, item + _number(data, item, 4), vector)
            yield start + 4 * count
    codes, code_count = _flatbuffer_vector(data, root, 1)
    for i in range(code_count):
        item = codes + 4 * i
        code = item + _number(data, item, 4)
        # A table's vtable says how long the table is. Operator codes are the last thing writers put in a file.
        yield code + _number(data, code - _number(data, code, 4, signed=True) + 2, 2)
    buffers, count = _flatbuffer_vector(data, root, 4)
    yield buffers + 4 * count
    for i in range(count):
        item = buffers + 4 * i
        buffer = item + _number(data, item, 4)
        start, size = _flatbuffer_vector(data, buffer, 0)
        yield start + size
        # Models above 2 GB keep weights behind the flatbuffer: Buffer.offset and Buffer.size.
        offset, length = _flatbuffer_field(data, buffer, 1), _flatbuffer_field(data, buffer, 2)
        if offset is not None and length is not None:
            yield _number(data, offset, 8) + _number(data, length, 8)


# The superblock's versions: where the end-of-file address stands (HDF5 file format specification, II.A).
_HDF5_END = {0: 40, 1: 44, 2: 28, 3: 28}


def _hdf5(path: Path, data: mmap.mmap) -> str | None:
    if data[:8] != b"\x89HDF\r\n\x1a\n":
        return None
    at = _HDF5_END.get(data[8] if len(data) > 8 else -1)
    if at is None or len(data) < at + 8:
        raise SourceModelError(f"{path}: truncated or damaged HDF5 file")
    end = int.from_bytes(data[at : at + 8], "little")
    if end > len(data):
        _refuse_truncated(path, "HDF5 file", end, len(data))
    if data.find(b"model_config") < 0:
        raise SourceModelError(
            f"{path}: an HDF5 file without a Keras model in it (no attribute 'model_config')",
            hint="a file of weights alone has no layers: save the whole model with model.save('model.keras')",
        )
    return "keras"


def _zip(path: Path, data: mmap.mmap) -> str | None:
    if data[:4] != b"PK\x03\x04":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if names >= _KERAS_MEMBERS:
                return "keras"
            if torch := _torchfile.zip_kind(path, archive, names):
                return torch
            if _sklearnfile.is_skops(archive, names):
                return "sklearn"
    except DAMAGED:
        raise SourceModelError(
            f"{path}: truncated or damaged zip file (a .keras model is one)", hint="copy or download it again"
        ) from None
    kind, hint = _magic.zip_looks_like(names)
    if _KERAS_MEMBERS & names:
        kind = f"a .keras file that lacks {', '.join(sorted(_KERAS_MEMBERS - names))}"
    raise SourceModelError(f"{path}: no model that edgepack reads; it looks like {kind}", hint=hint or _HINT)


def _old_torch(path: Path, data: mmap.mmap) -> str | None:
    if data[: len(_torchfile.LEGACY_MAGIC)] != _torchfile.LEGACY_MAGIC:
        return None
    return _torchfile.legacy_kind(path, cast("BinaryIO", data))


def _sklearn(path: Path, data: mmap.mmap) -> str | None:
    return "sklearn" if _sklearnfile.is_sklearn_pickle(bytes(data[:_CHUNK])) else None


# Field numbers and their wire types (0 number, 2 bytes) of ModelProto and GraphProto in onnx.proto3.
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH_FIELDS = dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 15, 16), 2)
_SAVED_MODEL_FIELDS = {1: 0, 2: 2}
_OUTPUT = 12


class _OtherMessageError(Exception):
    """The bytes are not the protobuf message that was looked for."""


class _CutMessageError(Exception):
    """The message goes on behind the end of the file; `args` are (needed, available) bytes."""


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= end:
            raise _CutMessageError(at + i + 1, end)
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise _OtherMessageError


def _fields(data: mmap.mmap, at: int, end: int, known: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of bytes, (number, value, value) of numbers, without reading contents."""
    while at < end:
        tag, at = _varint(data, at, end)
        if known.get(tag >> 3) != tag & 7:
            raise _OtherMessageError
        value, at = _varint(data, at, end)
        if tag & 7 == 0:
            yield tag >> 3, value, value
            continue
        if at + value > end:
            raise _CutMessageError(at + value, end)
        yield tag >> 3, at, at + value
        at += value


def _onnx(path: Path, data: mmap.mmap) -> str | None:
    seen: dict[int, tuple[int, int]] = {}
    try:
        for number, start, end in _fields(data, 0, len(data), _MODEL_FIELDS):
            seen[number] = (start, end)
        if 7 not in seen or 1 not in seen:
            return None
        graph = {number for number, _, _ in _fields(data, *seen[7], _GRAPH_FIELDS)}
    except _OtherMessageError:
        return None
    except _CutMessageError as error:
        # Random bytes rarely start with a plausible ir_version; a cut ONNX file nearly always does.
        if 0 < seen.get(1, (0, 0))[0] < 100:
            _refuse_truncated(path, "ONNX model", *error.args)
        return None
    if 8 not in seen:
        raise SourceModelError(f"{path}: truncated ONNX model: it names no operator set (opset_import)")
    if _OUTPUT not in graph:
        raise SourceModelError(f"{path}: an ONNX file whose graph has no output")
    return "onnx"


def _check_saved_model(path: Path) -> None:
    graph = path / "saved_model.pb"
    if not graph.is_file():
        inside = sorted(p.name for p in path.iterdir())[:5]
        raise SourceModelError(
            f"{path}: a folder that is no SavedModel: it holds no saved_model.pb, but "
            + (", ".join(inside) if inside else "nothing"),
            hint=_HINT,
        )
    if graph.stat().st_size == 0:
        raise SourceModelError(f"{graph}: the file is empty")
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            numbers = {number for number, _, _ in _fields(data, 0, len(data), _SAVED_MODEL_FIELDS)}
        except _CutMessageError as error:
            _refuse_truncated(graph, "SavedModel", *error.args)
        except _OtherMessageError:
            numbers = set()
        head = bytes(data[:4096])
    if 2 not in numbers:
        raise SourceModelError(f"{graph}: no SavedModel; it looks like {_magic.looks_like(head)[0]}")
    variables = path / "variables"
    if (variables / "variables.index").exists() and not any(variables.glob("variables.data-*")):
        raise SourceModelError(f"{path}: incomplete SavedModel: variables/variables.data-* is missing")


def _external_files(path: Path, file: BinaryIO) -> tuple[Path, ...]:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return external_files(path, data)


def _walk(folder: Path, fail: Callable[[OSError], None]) -> Iterator[Path]:
    inside = folder.resolve()
    for where, folders, names in os.walk(folder, onerror=fail):
        for path in (Path(where) / name for name in (*folders, *names)):
            # A link to a folder is not walked into, and TensorFlow would read what lies there.
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(inside)):
                raise SourceModelError(
                    f"{folder}: {path.relative_to(folder)} is a link to {path.resolve()}",
                    hint="a model's files lie in its folder: copy it with links followed, cp -rL",
                )
        for path in (Path(where) / name for name in names):
            # To open a pipe would wait for somebody who writes into it.
            if not path.is_file():
                raise SourceModelError(f"{folder}: {path.relative_to(folder)} is no file that can be read")
            yield path


def _folder_digest(folder: Path) -> str:
    def fail(error: OSError) -> None:
        raise error

    return _digest_of(folder, _walk(folder, fail))


def _digest_with(path: Path, parts: tuple[Path, ...]) -> str:
    return _digest_of(path.resolve().parent, (path.resolve(), *parts))


def _digest_of(folder: Path, files: Iterable[Path]) -> str:
    lines = []
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append((path.relative_to(folder).as_posix(), digest))
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
