"""What no device needs is left out of a TFLite file, and what it computes stays the same to the bit."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tinymodels import LITERT, feeds, request, tiny

from edgepack import _flatbuffer_edit as edit
from edgepack.candidate import apply_pass
from edgepack.conversion import host_place
from edgepack.flatbuffer import ModelView, read_model
from edgepack.layer_match import match_layers
from edgepack.lean import PassCall, lean, run
from edgepack.model import TFLiteModel
from edgepack.passes import full_integer
from edgepack.passoptions import PassOrder
from edgepack.reporter import Reporter
from edgepack_runtime.manifest import AS_IS

DATA = Path(__file__).parents[2] / "data"
MATRIX = Path(__file__).parents[3] / "tools" / "prediction_matrix" / "models.zip"
FILES = sorted(path.relative_to(DATA).as_posix() for path in DATA.rglob("*.tflite"))
RUNNABLE = [name for name in FILES if "custom_op" not in name]
# Control flow, a recurrent layer, blocks of weights, sixteen bits: what a file can have besides plain layers.
ZIPPED = (
    "loop.float32",
    "lstm.float32",
    "conv.float32",
    "mlp.dynamic4_block32",
    "mlp.static16",
    "grouped.dynamic8",
)


def stored(name: str) -> bytes:
    if name.endswith(".tflite"):
        return (DATA / name).read_bytes()
    with zipfile.ZipFile(io.BytesIO(MATRIX.read_bytes())) as archive:
        return archive.read(next(item for item in archive.namelist() if Path(item).stem == name))


def computed(model: bytes) -> list[bytes]:
    """Return every output of three runs, one after the other, on numbers that are always the same."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    numbers, found = np.random.default_rng(3), []
    for _ in range(3):
        for spec in interpreter.get_input_details():
            values = numbers.normal(size=spec["shape"]) * (1 if spec["dtype"] is np.float32 else 40)
            interpreter.set_tensor(spec["index"], values.astype(spec["dtype"]))
        interpreter.invoke()
        found += [interpreter.get_tensor(spec["index"]).tobytes() for spec in interpreter.get_output_details()]
    return found


def without_names(view: ModelView) -> ModelView:
    graphs = tuple(
        replace(
            graph,
            tensors=tuple(replace(tensor, name="", buffer=0) for tensor in graph.tensors),
            operators=tuple(replace(o, options=o.options and vars(o.options)) for o in graph.operators),
        )
        for graph in view.subgraphs
    )
    return replace(view, subgraphs=graphs, file_bytes=0, description="")


def named(model: bytes) -> set[str]:
    return {tensor.name for graph in read_model(model).subgraphs for tensor in graph.tensors} - {""}


@pytest.mark.parametrize("name", [*RUNNABLE, *ZIPPED])
def test_a_lean_model_gives_the_same_bits(name: str) -> None:
    model = stored(name)
    smaller, note = lean(model)
    assert (len(smaller) < len(model), bool(note), computed(smaller)) == (True, True, computed(model))


@pytest.mark.parametrize("name", [*FILES, *ZIPPED, "mlp.tf_sparse_dynamic"])
def test_a_lean_model_differs_in_names_only(name: str) -> None:
    model = edit.pack(edit.unpack(stored(name)))
    before, after = read_model(model), read_model(lean(model)[0])
    assert without_names(after) == without_names(before)


def test_inner_names_are_not_in_the_file_any_more_and_those_of_inputs_and_outputs_are() -> None:
    model = tiny("digits")
    graph = read_model(model).subgraphs[0]
    ends = {graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)}
    smaller, _ = lean(model)
    gone = [name for name in named(model) - ends if name.encode() in smaller]
    assert (named(smaller), gone, len(named(model)) > len(ends)) == (ends, [], True)


def test_the_tensors_of_every_signature_keep_their_names() -> None:
    model = stored("engines/two_signatures.tflite")
    view = read_model(model)
    wanted = {view.subgraphs[s.subgraph].tensors[i].name for s in view.signatures for _, i in (*s.inputs, *s.outputs)}
    assert wanted <= named(lean(model)[0])


def test_without_a_signature_inputs_and_outputs_keep_their_names() -> None:
    model = stored("engines/no_signature.tflite")
    graph = read_model(model).subgraphs[0]
    assert named(lean(model)[0]) == {graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)}


def test_an_operator_that_changes_its_inputs_still_says_so() -> None:
    model = edit.unpack(tiny("digits"))
    for operator, changes in zip(model.subgraphs[0].operators, (True, False), strict=False):
        operator.mutatingVariableInputs = [False, changes]
    first, second, *_ = edit.unpack(lean(edit.pack(model))[0]).subgraphs[0].operators
    assert (list(first.mutatingVariableInputs), second.mutatingVariableInputs) == ([False, True], None)


def test_metadata_of_the_model_stays_and_the_converters_record_goes() -> None:
    model = edit.unpack(tiny("digits"))
    for name, content in (("TFLITE_METADATA", b"labels"), ("CONVERSION_METADATA", b"TensorFlow 2.19")):
        edit.set_metadata(model, name, content)
    smaller = edit.unpack(lean(edit.pack(model))[0])
    found = {entry.name: bytes(smaller.buffers[entry.buffer].data).rstrip(b"\0") for entry in smaller.metadata}
    before = read_model(tiny("digits")).min_runtime_version.encode()
    assert found == {b"TFLITE_METADATA": b"labels", b"min_runtime_version": before}


def test_an_entry_of_the_operator_table_that_no_operator_is_of_goes() -> None:
    model = edit.unpack(tiny("digits"))
    model.operatorCodes.insert(0, type(model.operatorCodes[0])(builtinCode=200, version=1))
    for operator in model.subgraphs[0].operators:
        operator.opcodeIndex += 1
    smaller, _ = lean(edit.pack(model))
    kinds = [[operator.name for _, operator in read_model(data).operators()] for data in (tiny("digits"), smaller)]
    assert (len(read_model(smaller).opcodes), kinds[1]) == (len(model.operatorCodes) - 1, kinds[0])


def test_layers_of_a_lean_model_are_found_and_called_as_in_the_float_model() -> None:
    made = full_integer.run(request("digits")).model
    found = [match_layers(read_model(tiny("digits")), read_model(data)).layers for data in (made, lean(made)[0])]
    names = [layer.name for layer in found[1]]
    assert (found[1], all(names), len(set(names)) > 5) == (found[0], True, True)


def test_what_is_lean_already_is_left_as_it_is() -> None:
    once, _ = lean(tiny("digits"))
    assert lean(once) == (once, "")


def test_a_file_too_large_to_be_written_anew_is_left_as_it_is() -> None:
    # No model at all: it would be refused if it were looked into.
    large = bytes((1 << 30) + 1)
    found, note = lean(large)
    assert (found is large, note) == (True, "")


@pytest.mark.parametrize("scheme", ["float16", "full_integer", AS_IS])
def test_a_build_leaves_the_names_out_and_records_it(scheme: str) -> None:
    model = TFLiteModel(data=tiny("digits"), inputs=(), outputs=(), history=())
    order = PassOrder(scheme=scheme, engine=LITERT, options="{}")
    made, kept = (
        apply_pass(model, order, feeds("digits", 10), host_place(Reporter()), keep_names=keep)
        for keep in (False, True)
    )
    steps = [step.tool for one in (made, kept) for step in one.history if "inner tensors" in step.tool]
    assert (len(named(made.data)), len(named(kept.data)) > 10, len(steps)) == (3, True, 1)


def test_a_source_that_keeps_its_names_is_shipped_as_it_is_to_the_byte() -> None:
    result = run(PassCall(scheme=AS_IS, request=request("digits"), keep_names=True))
    assert (result.model, result.notes) == (tiny("digits"), ())
