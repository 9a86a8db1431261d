"""Which files beside an ONNX model hold its weights, read from the model's own bytes without loading it.

A location is a stranger's text: it may name a file beside the model and nothing else, or reading the weights would
read whatever the author wants to see.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import SourceModelError

__all__ = ["external_files"]

# Where tensors are in onnx.proto3, as field numbers: a model has a graph and functions, these have nodes, and so on.
_INSIDE = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA = 13
_MARK = b"location"
# Graphs lie in attributes of nodes of graphs; nobody nests them deeper, and protobuf's own readers stop at 100.
_DEEPEST = 64
_HINT = "weights may only lie in files beside the model: copy them there (cp -L follows links), or save one file"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor's weights: a file, and the bytes of it; a length of None is the rest."""

    location: str
    offset: int
    length: int | None


def external_files(path: Path, data: mmap.mmap) -> tuple[Path, ...]:
    """Return the files that hold weights of the ONNX model at `path`, whose bytes are `data`; none of most models.

    Raises:
        SourceModelError: a file is not beside the model, is missing, or is shorter than the model says.
        OSError: one cannot be looked at.
    """
    if data.find(_MARK) < 0:
        return ()
    folder = path.resolve().parent
    ends: dict[str, int] = {}
    for entry in _entries(path, data):
        end = entry.offset + (entry.length or 0)
        ends[entry.location] = max(end, ends.get(entry.location, 0))
    found = []
    for location, end in sorted(ends.items()):
        file = _beside(path, folder, location)
        size = file.stat().st_size
        if end > size:
            raise SourceModelError(
                f"{path}: its weights file {location!r} is truncated: it needs {end} bytes, the file has {size}",
                hint="copy or download it again",
            )
        found.append(file)
    return tuple(found)


def _beside(path: Path, folder: Path, location: str) -> Path:
    parts = location.split("/")
    if not location.isprintable() or location.startswith("/") or "\\" in location or {"", ".", ".."} & set(parts):
        raise SourceModelError(f"{path}: it takes weights from {location!r}, which is not beside it", hint=_HINT)
    file = folder / location
    if file.resolve() != file:
        raise SourceModelError(f"{path}: it takes weights from {location!r}, a link to {file.resolve()}", hint=_HINT)
    if not file.is_file():
        raise SourceModelError(f"{path}: its weights file {location!r} is missing in {folder}", hint=_HINT)
    return file


def _entries(path: Path, data: mmap.mmap) -> Iterator[_Entry]:
    try:
        for start, end in _tensors(data, 0, len(data), "model", 0):
            if entry := _entry(data, start, end):
                yield entry
    except (IndexError, ValueError) as error:
        raise SourceModelError(f"{path}: damaged ONNX model: {error}") from None


def _tensors(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> Iterator[tuple[int, int]]:
    if kind == "tensor":
        yield at, end
        return
    if depth > _DEEPEST:
        raise ValueError("graphs inside graphs without end")
    for number, start, stop in _fields(data, at, end):
        if inner := _INSIDE[kind].get(number):
            yield from _tensors(data, start, stop, inner, depth + 1)


def _entry(data: mmap.mmap, at: int, end: int) -> _Entry | None:
    told: dict[str, str] = {}
    for number, start, stop in _fields(data, at, end):
        if number == _EXTERNAL_DATA:
            pair = {n: data[a:b].decode("utf-8", "replace") for n, a, b in _fields(data, start, stop)}
            told[pair.get(1, "")] = pair.get(2, "")
    if "location" not in told:
        return None
    offset, length = told.get("offset", "0"), told.get("length")
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in (offset, length or "0")):
        raise ValueError(f"weights at {offset!r} of length {length!r}")
    return _Entry(told["location"], int(offset), None if length is None else int(length))


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= end:
            raise IndexError("it ends inside a number")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("a number of more than ten bytes")


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of the fields that hold bytes; the others are passed over."""
    while at < end:
        tag, at = _varint(data, at, end)
        if tag & 7 == 0:
            _, at = _varint(data, at, end)
        elif tag & 7 == 2:
            size, at = _varint(data, at, end)
            if at + size > end:
                raise IndexError("a field goes on behind the end")
            yield tag >> 3, at, at + size
            at += size
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            raise ValueError(f"a field of wire type {tag & 7}")
