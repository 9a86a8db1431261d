"""Both ONNX roads on small models: the source's interface, its numbers, and refusals that name the operator."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.onnx_coverage.campaign import Pair, open_pair, verdict_of
from tools.onnx_coverage.cases import read_arrays
from tools.onnx_coverage.results import EQUAL, REFUSED
from tools.onnx_coverage.roads import MODULES

from edgepack.flatbuffer import read_model
from edgepack.model import Conversion, ConversionRequest
from edgepack.toolchain import ensure, locate
from edgepack.worker import Workplace, run_task, scratch_folder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLCHAINS = {"onnx2tf": "onnx", "onnx-tf": "onnx-tf"}


def python_of(road: str) -> Path:
    return ensure(locate(TOOLCHAINS[road]), offline=False, say=print)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    script = Path(__file__).parent / "sources" / "make_onnx_roads.py"
    command = [str(python_of("onnx2tf")), str(script), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def onnx2tf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with open_pair("onnx2tf", python_of("onnx2tf"), tmp_path_factory.mktemp("onnx2tf") / "log") as pair:
        yield pair


@pytest.fixture(scope="module")
def onnx_tf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with open_pair("onnx-tf", python_of("onnx-tf"), tmp_path_factory.mktemp("onnx-tf") / "log") as pair:
        yield pair


def notes(folder: Path, road: str) -> list[str]:
    return json.loads((folder / f"{road}.json").read_text())["notes"]


def interface(folder: Path, road: str) -> list[str]:
    (signature,) = read_model((folder / f"{road}.tflite").read_bytes()).signatures
    graph = read_model((folder / f"{road}.tflite").read_bytes()).subgraphs[0]
    entries = [(name, graph.tensors[i]) for name, i in (*signature.inputs, *signature.outputs)]
    return [f"{name}: {t.dtype}[{', '.join(map(str, t.shape))}]" for name, t in entries]


# What each model needs, as the note of the form that was taken tells it.
ONNX2TF = {
    "images": "cleaned by onnxslim",
    "scalars": "cleaned by onnxslim",
    "half": "cleaned by onnxslim, in float32",
    "double": "cleaned by onnxslim, in float32",
    "unused": "cleaned by onnxslim",
    "alone": "cleaned by onnxslim",
    "old": "cleaned by onnxslim",
    "attention": "with its functions inlined",
    "lstm": "with recurrent operators as formulas",
    "gru": "with recurrent operators as formulas",
    "rnn": "with recurrent operators as formulas",
    "forest": "cleaned by onnxslim",
    "table": "cleaned by onnxslim",
    "resized": "with resizing and spectra as products",
    "spectrum": "with resizing and spectra as products",
    "frames": "with resizing and spectra as products",
}
ONNX_TF = {
    "images": "cleaned by onnxslim",
    "scalars": "cleaned by onnxslim",
    "double": "cleaned by onnxslim, in float32",
    "attention": "cleaned by onnxslim, Attention inlined",
    "lstm": "with recurrent operators as formulas",
    "forest": "cleaned by onnxslim",
    "spectrum": "with resizing and spectra as products",
}


@pytest.mark.parametrize("name", ONNX2TF)
def test_onnx2tf_gives_what_onnxruntime_gives(models: Path, onnx2tf: Pair, name: str) -> None:
    verdict, said = verdict_of(onnx2tf, models / name)
    assert (verdict, said.partition(":")[0]) == (EQUAL, f"onnx2tf on the graph {ONNX2TF[name]}")


# The toolchain of onnx-tf is a second TensorFlow.
@pytest.mark.long
@pytest.mark.parametrize("name", ONNX_TF)
def test_onnx_tf_gives_what_onnxruntime_gives(models: Path, onnx_tf: Pair, name: str) -> None:
    verdict, said = verdict_of(onnx_tf, models / name)
    assert (verdict, said.partition(":")[0]) == (EQUAL, f"onnx-tf on the graph {ONNX_TF[name]}")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("images", ["x: float32[1, 3, 8, 8]", "y: float32[1, 5, 8, 8]"]),
        ("scalars", ["x: float32[1, 6]", "gain: float32[]", "y: float32[1, 6]", "mean: float32[]"]),
        ("half", ["x: float16[1, 6]", "y: float16[1, 6]"]),
        ("double", ["x: float64[1, 6]", "y: float64[1, 6]"]),
        ("unused", ["aside: int64[1, 4]", "x: float32[1, 6]", "y: float32[1, 6]"]),
    ],
)
def test_the_interface_is_the_sources(models: Path, onnx2tf: Pair, name: str, wanted: list[str]) -> None:
    verdict_of(onnx2tf, models / name)
    assert interface(models / name, "onnx2tf") == wanted


@pytest.mark.long
def test_onnx_tf_keeps_channels_first(models: Path, onnx_tf: Pair) -> None:
    verdict_of(onnx_tf, models / "images")
    assert interface(models / "images", "onnx-tf") == ["x: float32[1, 3, 8, 8]", "y: float32[1, 5, 8, 8]"]


def test_whole_numbers_computed_in_a_narrower_type_are_told(models: Path, onnx2tf: Pair) -> None:
    verdict_of(onnx2tf, models / "forest")
    assert interface(models / "forest", "onnx2tf")[1] == "label: int64[1]"
    assert "int64 computed in int32: 'label'" in notes(models / "forest", "onnx2tf")


def test_a_text_and_a_table_become_numbers_and_the_notes_say_which(models: Path, onnx2tf: Pair) -> None:
    verdict_of(onnx2tf, models / "table")
    assert interface(models / "table", "onnx2tf")[1:] == ["class: int64[1]", "table: float32[1, 2]"]
    assert notes(models / "table", "onnx2tf")[-2:] == [
        "output 'class', a text in the source, is the place of the class: 0 = no, 1 = yes",
        "output 'table', a table in the source, is the scores of the classes no, yes",
    ]


def test_a_table_that_is_not_its_scores_is_refused(models: Path, onnx2tf: Pair) -> None:
    verdict, said = verdict_of(onnx2tf, models / "table of one name")
    assert (verdict, said) == (REFUSED, "output 'table' cannot be told in numbers: those of the scores are others")


def test_texts_that_the_model_itself_reads_are_refused(models: Path, onnx2tf: Pair) -> None:
    verdict, said = verdict_of(onnx2tf, models / "texts")
    assert (verdict, said.partition(" (")[0]) == (REFUSED, "output 'text' is no tensor of a known type")


def test_a_model_of_an_operator_set_onnxruntime_dropped_is_raised(models: Path, onnx2tf: Pair) -> None:
    verdict_of(onnx2tf, models / "old")
    assert "raised from ONNX operator set 6 to 13" in notes(models / "old", "onnx2tf")[-1]


def test_a_model_that_onnxs_own_tool_raises_to_something_else_is_refused(models: Path, onnx2tf: Pair) -> None:
    verdict, said = verdict_of(onnx2tf, models / "raised wrongly")
    assert verdict == REFUSED
    assert "of ONNX operator set 6, onnxruntime runs 7 and later, and raised, it cannot be confirmed" in said


@pytest.mark.parametrize("road", ["onnx2tf", pytest.param("onnx-tf", marks=pytest.mark.long)])
def test_an_operator_that_cannot_be_converted_is_named_with_its_node(
    models: Path, request: pytest.FixtureRequest, road: str
) -> None:
    verdict, said = verdict_of(request.getfixturevalue(road.replace("-", "_")), models / "bits")
    assert verdict == REFUSED
    assert f"{road} cannot convert operator 'BitwiseAnd' (node 'my_bits')" in said


def test_no_matrix_is_made_of_a_resize_that_needs_a_huge_one(models: Path, onnx2tf: Pair) -> None:
    verdict, said = verdict_of(onnx2tf, models / "resized from afar")
    assert verdict == REFUSED
    assert "output 'y' differs from onnxruntime" in said


def test_an_operator_that_onnxruntime_computes_otherwise_than_the_standards_tests_is_refused(
    models: Path, onnx2tf: Pair
) -> None:
    verdict, said = verdict_of(onnx2tf, models / "disputed")
    assert verdict == REFUSED
    assert "onnxruntime computes operator 'MaxUnpool' (node 'unpool') with an output_shape otherwise" in said


def test_a_result_that_ends_its_engine_is_refused(models: Path, onnx2tf: Pair) -> None:
    verdict, said = verdict_of(onnx2tf, models / "crash")
    assert verdict == REFUSED
    assert "ai-edge-litert crashes on the result (SIGABRT)" in said


@pytest.mark.parametrize("road", ["onnx2tf", pytest.param("onnx-tf", marks=pytest.mark.long)])
def test_a_road_runs_in_the_child_a_build_gives_it(models: Path, road: str) -> None:
    with scratch_folder() as scratch:
        feeds = read_arrays(models / "images", "inputs")
        request = ConversionRequest(
            source=models / "images" / "model.onnx", options="{}", feeds=feeds, scratch=scratch
        )
        conversion = run_task(f"{MODULES[road]}:convert", request, Conversion, Workplace(python=python_of(road)))
    assert conversion.tool.startswith(road)
    assert [str(spec) for spec in conversion.outputs] == ["y: float32[1, 5, 8, 8]"]
