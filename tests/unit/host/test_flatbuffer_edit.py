"""Files written anew: constants that hold the same are stored once, and nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np
from tinymodels import feeds, request, run, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import read_model
from edgepack.passes import dynamic_range, float16

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
