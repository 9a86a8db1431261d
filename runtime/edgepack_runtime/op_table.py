"""Which operators, in which versions, the installed engine has: the engine itself is asked.

An interpreter looks up every entry of a model's operator table when it is made, whether or not a node uses it, and
refuses the model if it lacks one. So a file that holds nothing but an operator table loads exactly when the engine
has that operator in that version. No list of versions is trusted, and none has to be shipped to a device.
"""

from __future__ import annotations

import struct

from edgepack_runtime import engines

__all__ = ["MAX_OPERATORS", "MAX_VERSION", "operator_model", "operator_table"]

# Builtin operators of TFLite's schema have the codes 0 to 208 in November 2026.
MAX_OPERATORS = 256
# The highest version of any operator is 14 in November 2026. Versions have no gaps; BROADCAST_TO's begin at 2.
MAX_VERSION = 31
_LATEST_BEGIN = 3
# The schema's placeholder in the old one-byte field, for the codes that do not fit it.
_PLACEHOLDER = 127
_CUSTOM = 32


def operator_model(code: int, version: int) -> bytes:
    """Return a TFLite file that holds nothing but an operator table with one builtin operator in it.

    Written by hand (FlatBuffers internals, https://flatbuffers.dev/internals), because a device has no library for
    it::

        Model { version: 3, operator_codes: [{builtin_code, version}], subgraphs: [{…all empty}], buffers: [{}] }
    """
    out = bytearray()

    def place(data: bytes) -> int:
        out.extend(data)
        return len(out) - len(data)

    place(struct.pack("<I4s", 0, b"TFL3"))
    # Vtables: their own size, the table's size, then where each field is in the table; 0 is a field left out.
    model_vtable = place(struct.pack("<7H", 14, 20, 4, 8, 12, 0, 16))
    code_vtable = place(struct.pack("<6H", 12, 16, 4, 0, 8, 12))
    graph_vtable = place(struct.pack("<6H", 12, 20, 4, 8, 12, 16))
    buffer_vtable = place(struct.pack("<2H", 4, 4))
    out.extend(bytes(-len(out) % 4))
    model = place(bytes(20))
    vectors = [place(struct.pack("<II", 1, 0)) for _ in range(3)]
    tables = []
    short = code if code < _PLACEHOLDER else _PLACEHOLDER
    tables.append(place(struct.pack("<ib3xii", len(out) - code_vtable, short, version, code)))
    graph = place(bytes(20))
    tables.append(graph)
    tables.append(place(struct.pack("<i", len(out) - buffer_vtable)))
    struct.pack_into("<i", out, graph, graph - graph_vtable)
    for field in range(4):
        at = graph + 4 + 4 * field
        struct.pack_into("<I", out, at, place(struct.pack("<I", 0)) - at)
    struct.pack_into("<iI", out, model, model - model_vtable, 3)
    for i, (vector, table) in enumerate(zip(vectors, tables, strict=True)):
        struct.pack_into("<I", out, model + 8 + 4 * i, vector - (model + 8 + 4 * i))
        struct.pack_into("<I", out, vector + 4, table - (vector + 4))
    struct.pack_into("<I", out, 0, model)
    return bytes(out)


def operator_table(engine: str) -> tuple[int, ...]:
    """Return, at the index of each builtin operator's code, the highest version the engine has; 0 for none.

    Raises:
        EngineError: the engine is not installed, or takes even an operator that cannot exist.
    """
    return tuple(0 if code == _CUSTOM else _highest(engine, code) for code in range(MAX_OPERATORS))


def _highest(engine: str, code: int) -> int:
    highest = 0
    for version in range(1, MAX_VERSION + 1):
        if engines.loads(engine, operator_model(code, version)):
            highest = version
        elif highest or version == _LATEST_BEGIN:
            break
    return highest
