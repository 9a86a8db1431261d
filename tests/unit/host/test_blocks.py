"""Weights of dense layers in blocks, each with a scale of its own: nearer to the float model, where engines can."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tinymodels import LITERT

from edgepack import _flatbuffer_edit as edit
from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.lean import lean
from edgepack.model import PassRequest
from edgepack.passes import dynamic_int4
from edgepack.schemes import weights
from edgepack.tensor_types import type_problems

MATRIX = Path(__file__).parents[3] / "tools" / "prediction_matrix" / "models.zip"
RNG = np.random.default_rng(8)


def dense() -> bytes:
    """Return the dense network of the matrix with weights whose size differs from one block of 32 to the next."""
    with zipfile.ZipFile(io.BytesIO(MATRIX.read_bytes())) as archive:
        model = edit.unpack(archive.read("mlp.float32.tflite"))
    graph = model.subgraphs[0]
    for operator in graph.operators:
        tensor = graph.tensors[operator.inputs[1]]
        sizes = np.where(np.arange(tensor.shape[1]) < 32, 1.0, 0.02)
        content = (RNG.normal(size=tuple(tensor.shape)) * sizes).astype("<f4").tobytes()
        model.buffers[tensor.buffer].data = np.frombuffer(content, np.uint8)
    return edit.pack(model)


def asked(block: int, engine: str = LITERT, source: bytes = b"") -> PassRequest:
    options = json.dumps({"block": block, "min_elements": 4})
    return PassRequest(model=source or dense(), engine=engine, options=options, calibration={})


def outputs(model: bytes) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    (spec,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    # Large where the weights are small, so that rounding those shows.
    sizes = np.where(np.arange(64) < 32, 0.02, 1.0)
    for sample in np.random.default_rng(1).normal(size=(8, 64)) * sizes:
        interpreter.set_tensor(spec["index"], sample.astype(np.float32)[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(out["index"]).ravel())
    return np.concatenate(found)


def test_blocks_are_nearer_to_the_float_model_where_weights_differ_in_size() -> None:
    source = dense()
    exact = outputs(source)
    plain, blocks = (np.abs(outputs(dynamic_int4.run(asked(b, source=source)).model) - exact).mean() for b in (0, 32))
    assert blocks < plain / 2


def test_dense_layers_whose_inputs_cannot_be_divided_have_one_scale_a_channel() -> None:
    result = dynamic_int4.run(asked(64))
    found = {(w.tensor.shape[-1], w.stored.dtype, w.stored.blockwise) for w in weights(read_model(result.model))}
    told = "one scale for 64 weights in 2 dense layers" in result.notes
    assert (found, told) == ({(64, "int4", True), (32, "int4", False)}, True)


def test_a_model_in_blocks_is_predicted_to_be_right_where_it_was_measured_to_be() -> None:
    view = read_model(lean(dynamic_int4.run(asked(32)).model)[0])
    wrong = [bool(type_problems(view, "ai-edge-litert", version)) for version in ("2.0.3", "2.1.0", "2.3.0")]
    assert (wrong, bool(type_problems(view, "tflite-runtime", "2.14.0"))) == ([True, False, False], True)


def test_blocks_are_refused_for_an_engine_that_computes_them_wrong() -> None:
    with pytest.raises(PassError, match=r"ai-edge-litert==2\.0\.3 computes weights in blocks wrongly") as caught:
        dynamic_int4.run(asked(32, "ai-edge-litert==2.0.3"))
    assert "2.1.0 or newer" in (caught.value.hint or "")


def test_blocks_larger_than_every_layers_inputs_are_refused_with_what_there_is() -> None:
    with pytest.raises(
        PassError, match=r"no dense layer's inputs can be divided into blocks of 128: they are 32, 64"
    ):
        dynamic_int4.run(asked(128))


def test_a_block_for_which_there_is_no_kernel_is_refused_with_those_there_are() -> None:
    with pytest.raises(PassError, match="block 48 is not known") as caught:
        dynamic_int4.run(asked(48))
    assert caught.value.hint == "known are 32, 64, 128, 256, and 0 for none"
