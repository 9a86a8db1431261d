"""What pruned weights save, counted on a real model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tinymodels import request, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import read_model
from edgepack.passes import float16, full_integer
from edgepack.schemes import weights
from edgepack.shrunk import saved_evidence, zero_weights

MODEL = tiny("digits")


def pruned(data: bytes, share: float) -> bytes:
    """Return the float model with the smallest weights of its layers at zero."""
    model = edit.unpack(data)
    view = read_model(data)
    layers = {id(weight.stored) for weight in weights(view)}
    for tensor, seen in zip(model.subgraphs[0].tensors, view.subgraphs[0].tensors, strict=True):
        if id(seen) in layers:
            values = edit.constant(model, tensor, "<f4").copy().ravel()
            values[np.argsort(np.abs(values), kind="stable")[: round(share * values.size)]] = 0
            model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    return edit.pack(model)


SPARSE = pruned(MODEL, 0.8)


def test_zeros_are_counted_among_the_weights_alone():
    gone, total = zero_weights(SPARSE)
    assert total == sum(int(np.prod(weight.stored.shape)) for weight in weights(read_model(MODEL)))
    assert gone / total == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("scheme", [float16, full_integer])
def test_zeros_stay_zeros_in_other_precisions(scheme):
    quantized = scheme.run(request("digits")).model
    sparse = scheme.run(replace(request("digits"), model=SPARSE)).model
    assert zero_weights(sparse)[0] >= zero_weights(SPARSE)[0]
    assert zero_weights(quantized)[0] < zero_weights(sparse)[0] / 4


def test_a_sparse_model_saves_bytes_in_a_compressed_bundle():
    found = saved_evidence(MODEL, SPARSE, compress=True, demanded=True)
    assert found.holds
    assert found.value is not None
    assert found.value < 0.5 * len(MODEL)


def test_a_model_that_saved_nothing_though_it_was_to_is_refused():
    found = saved_evidence(MODEL, MODEL, compress=True, demanded=True)
    assert (found.holds, found.wanted) == (False, "fewer bytes than without the training")


def test_without_compression_nothing_is_saved_and_nothing_demanded():
    found = saved_evidence(MODEL, SPARSE, compress=False, demanded=False)
    assert found.holds
    assert found.value == len(SPARSE)
    assert "(not compressed)" in found.found
