"""Constants of fewer dimensions than an operator's output: integer models are made of them all the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tinymodels import TFLITE, correlation, feeds, request, run, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack.flatbuffer import read_model
from edgepack.passes import full_integer, mixed
from edgepack.passes._ranks import with_full_ranks

MASK = np.arange(10) % 3 == 0


def ending_in(kind: str, shape: tuple[int, ...] = (1,), readers: int = 1) -> bytes:
    """Return the digits model with operators behind its logits that read one constant of too few dimensions."""
    from ai_edge_litert import schema_py_generated as schema

    model = edit.unpack(tiny("digits"))
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    types, number = schema.TensorType, getattr(schema.BuiltinOperator, kind)
    (end,) = [entry for entry in signature.outputs if entry.name == b"logits"]
    logits = int(end.tensorIndex)

    def add(name: str, shape: list[int], dtype: int, content: bytes = b"") -> int:
        buffer = edit.add_buffer(model, content) if content else 0
        graph.tensors.append(schema.TensorT(name=name, shape=shape, type=dtype, buffer=buffer))
        return len(graph.tensors) - 1

    constant = add("constant", list(shape), types.FLOAT32, np.full(shape, 0.5, np.float32).tobytes())
    mask = [add("mask", [1, 10], types.BOOL, MASK.tobytes())] if kind == "SELECT_V2" else []
    model.operatorCodes.append(schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number, version=1))
    options = "MaximumMinimumOptions" if kind == "MAXIMUM" else "SelectV2Options"
    output = logits
    for reader in range(readers):
        inputs, output = [*mask, output, constant], add(f"behind{reader}", [1, 10], types.FLOAT32)
        operator = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=inputs, outputs=[output])
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(schema, f"{options}T")()
        graph.operators.append(operator)
    graph.outputs = [output if int(i) == logits else int(i) for i in graph.outputs]
    end.tensorIndex = output
    return edit.pack(model)


@pytest.mark.parametrize("kind", ["MAXIMUM", "SELECT_V2"])
def test_a_float_model_computes_the_same(kind: str) -> None:
    model, samples = ending_in(kind), feeds("digits", 4)
    before, after = (run(data, samples)["logits"] for data in (model, with_full_ranks(model)))
    assert (with_full_ranks(model) != model, np.array_equal(before, after)) == (True, True)


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("shape", [(), (1,), (10,)])
@pytest.mark.parametrize("kind", ["MAXIMUM", "SELECT_V2"])
def test_an_integer_model_is_made_and_is_like_the_float_one(kind: str, shape: tuple[int, ...], readers: int) -> None:
    model, samples = ending_in(kind, shape, readers), feeds("digits", 20, seed=9)
    made = full_integer.run(dataclasses.replace(request("digits"), model=model)).model
    (type_,) = {
        t.dtype for g, o in read_model(made).operators() for t in g.operands(o.outputs) if o.name == kind if t
    }
    assert (type_, correlation(run(model, samples)["logits"], run(made, samples)["logits"]) > 0.94) == ("int8", True)


def test_a_mix_of_integers_and_floats_is_made_too() -> None:
    options = '{"base": "full_integer", "rules": [{"layers": ["op:CONV_2D"], "precision": "float32"}]}'
    asked = dataclasses.replace(request("digits", options=options), model=ending_in("SELECT_V2"))
    assert "layers with weights" in " ".join(mixed.run(asked).notes)


def test_it_is_made_for_tflite_runtime_too() -> None:
    asked = dataclasses.replace(request("digits", TFLITE), model=ending_in("SELECT_V2"))
    assert any("compute in" in note for note in full_integer.run(asked).notes)


def test_a_model_without_such_constants_stays_as_it_is() -> None:
    model = tiny("digits")
    assert with_full_ranks(model) is model
