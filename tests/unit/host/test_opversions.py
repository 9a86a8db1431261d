"""Operator versions: true to the converter's own, raised where a quantizer left them, and refused where damaged."""

from __future__ import annotations

import random

import pytest
from tinymodels import LITERT, feeds, request, run, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack import _oprules
from edgepack.engine_ops import probed_table
from edgepack.errors import SourceModelError
from edgepack.flatbuffer import ModelView, read_model
from edgepack.opversions import minimum_runtime, required_versions, stamp
from edgepack.passes import dynamic_range, full_integer


def versions(model: bytes) -> dict[str, int]:
    return {code.name: code.version for code in read_model(model).opcodes}


def lowered(model: bytes) -> bytes:
    """Return the model as ai-edge-quantizer leaves it: every version 1."""
    objects = edit.unpack(model)
    for code in objects.operatorCodes:
        code.version = 1
    return edit.pack(objects)


@pytest.mark.parametrize("name", ["digits", "matmul"])
def test_a_file_of_tensorflows_converter_needs_no_change(name: str) -> None:
    assert stamp(tiny(name)) == tiny(name)


@pytest.mark.parametrize("name", ["digits", "matmul"])
def test_versions_taken_away_from_a_converters_file_come_back(name: str) -> None:
    assert versions(stamp(lowered(tiny(name)))) == versions(tiny(name))


def test_per_channel_dense_weights_need_the_version_that_old_runtimes_refuse() -> None:
    model = dynamic_range.run(request("digits", LITERT, '{"min_elements": 16}')).model
    assert versions(stamp(lowered(model)))["FULLY_CONNECTED"] == 12


def test_the_runtime_a_model_needs_is_written_into_it() -> None:
    model = dynamic_range.run(request("digits", LITERT, '{"min_elements": 16}')).model
    assert read_model(model).min_runtime_version == "2.17.0"


def test_a_version_higher_than_needed_is_never_lowered() -> None:
    objects = edit.unpack(tiny("digits"))
    objects.operatorCodes[0].version = 77
    assert 77 in versions(stamp(edit.pack(objects))).values()


def test_static_int8_needs_the_versions_the_converter_gives_it() -> None:
    found = versions(full_integer.run(request("digits")).model)
    wanted = {
        "CONV_2D": 6,
        "DEPTHWISE_CONV_2D": 3,
        "FULLY_CONNECTED": 4,
        "MAX_POOL_2D": 2,
        "PADV2": 2,
        "SOFTMAX": 2,
    }
    assert {name: found[name] for name in wanted} == wanted


def test_stamping_twice_changes_nothing() -> None:
    once = stamp(lowered(full_integer.run(request("digits")).model))
    assert stamp(once) == once


def test_stamping_keeps_the_outputs_bit_for_bit() -> None:
    model = lowered(full_integer.run(request("digits")).model)
    samples = feeds("digits", 3)
    before, after = run(model, samples), run(stamp(model), samples)
    assert all((before[k] == after[k]).all() for k in before)


def test_weights_lie_at_multiples_of_sixteen_bytes() -> None:
    from ai_edge_litert import schema_py_generated as schema

    data = stamp(lowered(tiny("digits")))
    root = schema.Model.GetRootAs(data, 0)
    filled = [root.Buffers(i) for i in range(root.BuffersLength()) if root.Buffers(i).DataLength()]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in filled]
    assert {start % 16 for start in starts} == {0}


def test_weights_behind_the_flatbuffer_are_moved_into_it() -> None:
    inside = tiny("digits")
    objects = edit.unpack(inside)
    biggest = max(objects.buffers, key=lambda b: 0 if b.data is None else len(b.data))
    content = bytes(biggest.data)
    # Written twice: the first time to learn the length the flatbuffer has.
    outside = inside
    for _ in range(2):
        biggest.data, biggest.offset, biggest.size = None, (len(outside) + 15) // 16 * 16, len(content)
        outside = _pack_raw(objects)
    outside = outside.ljust(biggest.offset, b"\0") + content
    assert read_model(outside).has_external_buffers
    assert not read_model(stamp(outside)).has_external_buffers
    samples = feeds("digits", 2)
    assert (run(stamp(outside), samples)["logits"] == run(inside, samples)["logits"]).all()


def _pack_raw(objects: object) -> bytes:
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(objects))


def test_the_table_of_first_runtimes_is_read() -> None:
    assert (minimum_runtime("FULLY_CONNECTED", 12), minimum_runtime("FULLY_CONNECTED", 99)) == (
        "2.17.0",
        None,
    )


def read_or_refuse(data: bytes) -> ModelView | None:
    try:
        view = read_model(data)
        required_versions(view)
    except SourceModelError:
        return None
    return view


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"\x1c\0\0\0TFL3" + b"\xff" * 200, b"PK\3\4" * 20])
def test_what_is_no_model_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(SourceModelError):
        read_model(data)


def test_every_prefix_of_a_model_is_read_or_refused_and_never_crashes() -> None:
    data = tiny("matmul")
    whole = read_model(data)
    views = [read_or_refuse(data[:end]) for end in range(0, len(data), 7)]
    assert views[0] is None
    assert whole not in views


def test_flipped_bytes_never_crash_the_reader() -> None:
    data, chance = tiny("matmul"), random.Random(1)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        refused += read_or_refuse(bytes(damaged)) is None
    assert refused > 100


def test_vectors_that_share_bytes_to_multiply_work_are_refused() -> None:
    # 3,000 tensors that all are the same entry with one long shape: a small file, nine million numbers to read.
    from ai_edge_litert import schema_py_generated as schema

    objects = edit.unpack(tiny("matmul"))
    objects.subgraphs[0].tensors[0].shape = [1] * 3000
    builder_file = _with_repeated_tensor(edit.pack(objects), 3000, schema)
    with pytest.raises(SourceModelError, match="hold more than"):
        read_model(builder_file)


def _with_repeated_tensor(data: bytes, count: int, schema: object) -> bytes:
    root = schema.Model.GetRootAs(data, 0)  # type: ignore[attr-defined]
    graph = root.Subgraphs(0)
    field = graph._tab.Pos + graph._tab.Offset(4)
    tensor = graph.Tensors(0)._tab.Pos
    # Vectors point forward only, so a copy of the tensor table's neighbourhood goes behind a new vector of offsets.
    start = (len(data) + 3) // 4 * 4
    vector = start.to_bytes(0, "little") if start < 0 else count.to_bytes(4, "little")
    tail = start + 4 + 4 * count
    moved = data[tensor - tensor % 4 :]
    base = tail + tensor % 4
    offsets = b"".join((base - (start + 4 + 4 * i)).to_bytes(4, "little") for i in range(count))
    out = bytearray(data.ljust(start, b"\0") + vector + offsets + moved)
    out[field : field + 4] = (start - field).to_bytes(4, "little")
    vtable = tensor - int.from_bytes(data[tensor : tensor + 4], "little", signed=True)
    out[base : base + 4] = (base - vtable).to_bytes(4, "little", signed=True)
    return bytes(out)


def test_every_operator_that_has_versions_has_a_rule_for_the_newest_that_a_type_asks_for() -> None:
    newest = probed_table("ai-edge-litert", "2.3.0")
    assert newest is not None
    by_type: dict[str, int] = {}
    for (operator, _), versions_of_types in _oprules._BY_INPUT_TYPE.items():
        by_type[operator] = max(by_type.get(operator, 1), *versions_of_types.values())
    judged = {*_oprules._RULES, *_oprules._BY_RANK, *_oprules._BROADCAST_RANK5}
    assert [name for name, version in newest.items() if version > 1 and name not in judged | by_type.keys()] == []
    assert {n: v for n, v in by_type.items() if n not in judged and v != newest[n]} == {}
