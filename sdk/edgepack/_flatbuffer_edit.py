"""TFLite files as objects to change: `unpack`, change, `pack`.

The objects are those of ``ai_edge_litert.schema_py_generated`` (``ModelT`` and below), untyped as they are.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from edgepack._flatbuffer_share import sharing_builder
from edgepack.errors import SourceModelError
from edgepack.flatbuffer import MALFORMED
from edgepack_runtime.tensors import Array

__all__ = ["add_buffer", "constant", "drop_unused_buffers", "pack", "set_metadata", "share_constants", "unpack"]

# What TFLite's own schema asks for (``force_align: 16``); kernels with vector instructions rely on it.
_ALIGNMENT = 16


def unpack(data: bytes) -> Any:
    """Return the model as objects; weights behind the flatbuffer are resolved, empty buffers become buffer 0.

    Operator codes get both their fields: files from before 2021 have only the deprecated one, and
    ai-edge-quantizer, which reads only the other, takes every operator in them for ADD.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    try:
        model = flatbuffer_utils.read_model_from_bytearray(data)
    except MALFORMED as e:
        raise SourceModelError(f"the TFLite file is truncated or malformed ({type(e).__name__}: {e})") from e
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    return model


def pack(model: Any) -> bytes:
    """Return the model as a file with all weights inside the flatbuffer, each at a multiple of 16 bytes.

    What several constants hold alike is in it once: some converters write it for each of them. So is what several
    tensors have alike, from their shapes to their zero points.
    """
    _share_constants(model)
    builder = sharing_builder(1 << 20)
    buffers, model.buffers = model.buffers, [_AlignedBuffer(b.data) for b in model.buffers]
    try:
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


class _AlignedBuffer:
    """A ``BufferT`` whose `Pack` honours the alignment, which the generated one does not."""

    def __init__(self, data: Any) -> None:
        self.data = None if data is None else np.ascontiguousarray(data).view(np.uint8).tobytes()

    def Pack(self, builder: Any) -> Any:
        from ai_edge_litert import schema_py_generated as schema

        vector = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), _ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def constant(model: Any, tensor: Any, dtype: str) -> Array | None:
    """Return a tensor's content if the file holds it, shaped and read-only, else None."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    shape = () if tensor.shape is None else tuple(int(d) for d in tensor.shape)
    return np.frombuffer(bytes(data), np.dtype(dtype)).reshape(shape)


def add_buffer(model: Any, content: bytes) -> int:
    """Append a buffer and return its index."""
    from ai_edge_litert import schema_py_generated as schema

    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    return len(model.buffers) - 1


def drop_unused_buffers(model: Any) -> None:
    """Remove the content no tensor and no metadata refers to."""
    holders = [*(t for g in model.subgraphs for t in g.tensors), *(model.metadata or [])]
    kept = sorted({0, *(h.buffer for h in holders)})
    new = {old: position for position, old in enumerate(kept)}
    model.buffers = [model.buffers[i] for i in kept]
    for holder in holders:
        holder.buffer = new[holder.buffer]


def share_constants(data: bytes) -> bytes:
    """Return the file with content that several constants hold alike in it once; the same bytes if none do.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    model = unpack(data)
    return pack(model) if _share_constants(model) else data


def _share_constants(model: Any) -> int:
    """Let constants that hold the same refer to the same buffer; return how many buffers that saved."""
    first: dict[bytes, int] = {}
    before = len(model.buffers)
    for tensor in (t for graph in model.subgraphs for t in graph.tensors if not t.isVariable):
        content = model.buffers[tensor.buffer].data
        if content is not None and len(content):
            digest = hashlib.sha256(np.ascontiguousarray(content).data).digest()
            tensor.buffer = first.setdefault(digest, tensor.buffer)
    drop_unused_buffers(model)
    return before - len(model.buffers)


def set_metadata(model: Any, name: str, content: bytes) -> None:
    """Set one metadata entry; TensorFlow writes some twice, a blank one last, and those become one."""
    from ai_edge_litert import schema_py_generated as schema

    kept = [entry for entry in model.metadata or [] if entry.name != name.encode()]
    model.metadata = [*kept, schema.MetadataT(name=name, buffer=add_buffer(model, content))]
