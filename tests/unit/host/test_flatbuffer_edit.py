"""Files written anew: constants that hold the same are stored once, and nothing else changes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from tinymodels import feeds, request, run, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack._flatbuffer_share import sharing_builder
from edgepack.flatbuffer import read_model
from edgepack.passes import dynamic_range, float16, full_integer

OPTIONS = '{"min_elements": 4}'


def doubled() -> bytes:
    """Return the digits model whose two biases of eight zeros lie in it twice, as some converters write it."""
    model = edit.unpack(tiny("digits"))
    (graph,) = model.subgraphs
    shared = graph.operators[0].inputs[2]
    graph.tensors.append(type(graph.tensors[shared])(**vars(graph.tensors[shared]) | {"name": b"again"}))
    content = bytes(model.buffers[graph.tensors[shared].buffer].data)
    graph.tensors[-1].buffer = edit.add_buffer(model, content)
    graph.operators[3].inputs[2] = len(graph.tensors) - 1
    return pack_as_it_is(model)


def pack_as_it_is(model: object) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")  # type: ignore[attr-defined]
    return bytes(builder.Output())


def constants(data: bytes) -> list[int]:
    return [t.buffer for g in read_model(data).subgraphs for t in g.tensors if t.is_constant]


def test_content_that_two_constants_hold_is_stored_once() -> None:
    before, after = doubled(), edit.share_constants(doubled())
    assert len(set(constants(before))) == len(constants(before))
    assert len(set(constants(after))) == len(constants(after)) - 1


def test_a_file_that_shares_already_is_returned_as_it_is() -> None:
    shared = edit.share_constants(doubled())
    assert edit.share_constants(shared) is shared


def test_shared_constants_compute_the_same() -> None:
    samples = feeds("digits", 3)
    before, after = run(doubled(), samples), run(edit.share_constants(doubled()), samples)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_passes_write_shared_constants() -> None:
    for module in (float16, dynamic_range):
        model = module.run(dataclasses.replace(request("digits", options=OPTIONS), model=doubled())).model
        stored = [t for g in read_model(model).subgraphs for t in g.tensors if t.is_constant]
        contents = edit.unpack(model).buffers
        assert len({bytes(contents[t.buffer].data) for t in stored}) == len({t.buffer for t in stored})


def everything(thing: object) -> object:
    """Return all that a model's objects hold, to compare."""
    if isinstance(thing, list | tuple):
        return [everything(item) for item in thing]
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    return (
        {k: everything(v) for k, v in vars(thing).items()} | {"": type(thing).__name__}
        if hasattr(thing, "__dict__")
        else thing
    )


def quantized(name: str) -> bytes:
    return full_integer.run(request(name, options="{}")).model


@pytest.mark.parametrize("name", ["digits", "matmul"])
def test_a_file_whose_tensors_share_what_is_alike_says_the_same_as_one_that_repeats_it(name: str) -> None:
    model = edit.unpack(quantized(name))
    plain, shared = pack_as_it_is(model), edit.pack(model)
    assert everything(edit.unpack(shared)) == everything(edit.unpack(plain))


def test_zero_points_and_scales_that_are_alike_are_written_once() -> None:
    plain, shared = [], []
    for copies in (1, 2):
        model = edit.unpack(quantized("digits"))
        tensors = model.subgraphs[0].tensors
        widest = max(tensors, key=lambda t: 0 if t.quantization is None else np.size(t.quantization.scale))
        widest.quantization.scale = np.arange(1, 65, dtype=np.float32)
        widest.quantization.zeroPoint = np.zeros(64, np.int64)
        tensors.extend([widest] * (copies - 1))
        plain.append(len(pack_as_it_is(model)))
        shared.append(len(edit.pack(model)))
    assert plain[1] - plain[0] > 64 * 12 > 128 > shared[1] - shared[0]


def test_contents_still_begin_where_vector_instructions_want_them() -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(edit.pack(edit.unpack(quantized("digits"))))
    tables = [model.Buffers(i)._tab for i in range(model.BuffersLength())]
    starts = [table.Vector(table.Offset(4)) for table in tables if table.Offset(4)]
    assert [start % 16 for start in starts] == [0] * max(5, len(starts))


def vector(builder: Any, content: bytes, alignment: int) -> int:
    builder.StartVector(1, len(content), alignment)
    for value in reversed(content):
        builder.PrependByte(value)
    return int(builder.EndVector())


def test_references_that_look_alike_and_lead_elsewhere_stay_apart() -> None:
    builder, found = sharing_builder(64), []
    for text in ("one", "two", "one"):
        target = builder.CreateString(text)
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(target)
        found.append(builder.EndVector())
    assert (found[0] == found[2], found[0] == found[1]) == (True, False)


def test_tables_with_the_same_value_in_another_field_stay_apart() -> None:
    builder, found = sharing_builder(64), []
    for field in (1, 1, 0):
        builder.StartObject(2)
        builder.PrependInt32Slot(field, 7, 0)
        found.append(builder.EndObject())
    assert (found[0] == found[1], found[0] == found[2]) == (True, False)


def test_content_that_has_to_be_aligned_is_not_found_where_it_is_not() -> None:
    builder = sharing_builder(64)
    loose, tight = vector(builder, b"abcd", 1), vector(builder, b"abcd", 16)
    # The elements lie behind their number, of four bytes, and offsets count from the end.
    assert (loose != tight, (tight - 4) % 16, vector(builder, b"abcd", 16)) == (True, 0, tight)
