"""Every converter, in its own toolchain, on small models made there: what comes out computes what went in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import ConversionError, DatasetError
from edgepack.flatbuffer import read_model
from edgepack.model import Conversion, ConversionRequest
from edgepack.source import detect
from edgepack.toolchain import ensure, locate
from edgepack.worker import Workplace, run_task, scratch_folder
from edgepack_runtime.tensors import Array

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parent / "sources"
DATA = Path(__file__).parent.parent / "data"
TOOLCHAINS = {"onnx": "onnx", "keras": "tensorflow", "saved_model": "tensorflow"}


def python_of(toolchain: str) -> Path:
    return ensure(locate(toolchain), offline=False, say=print)


def made_by(script: str, toolchain: str, folder: Path) -> Path:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [str(python_of(toolchain)), "-I", str(SOURCES / script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="session")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("make_onnx.py", "onnx", tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("make_tensorflow.py", "tensorflow", tmp_path_factory.mktemp("tensorflow"))


def noise(*shape: int) -> Array:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def convert(source: Path, feeds: Mapping[str, Array], **options: object) -> Conversion:
    found = detect(source).format
    with scratch_folder() as scratch:
        request = ConversionRequest(source=source, options=json.dumps(options), feeds=feeds, scratch=scratch)
        place = Workplace(python=python_of(TOOLCHAINS[found]))
        return run_task(f"edgepack.converters.{found}:convert", request, Conversion, place)


def outputs_of(tflite: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return what the host's own LiteRT, not the toolchain's, computes, by the signature's names."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=tflite).get_signature_runner("serving_default")
    shapes = {name: detail["shape"] for name, detail in runner.get_input_details().items()}
    rows = [
        runner(**{name: array[i].reshape(shapes[name]) for name, array in feeds.items()})
        for i in range(len(next(iter(feeds.values()))))
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def differences(conversion: Conversion, feeds: Mapping[str, Array]) -> dict[str, float]:
    found = outputs_of(conversion.tflite, feeds)
    assert set(found) == {spec.name for spec in conversion.outputs}
    return {
        name: float(np.abs(found[name].reshape(reference.shape) - reference).max() / np.ptp(reference))
        for name, reference in conversion.reference.items()
    }


def interface(conversion: Conversion) -> tuple[list[str], list[str]]:
    return [str(spec) for spec in conversion.inputs], [str(spec) for spec in conversion.outputs]


def interface_of_the_file(tflite: bytes) -> tuple[list[str], list[str]]:
    view = read_model(tflite)
    (signature,) = view.signatures
    graph = view.subgraphs[0]
    assert [tensor for _, tensor in signature.inputs] == list(graph.inputs)
    assert [tensor for _, tensor in signature.outputs] == list(graph.outputs)

    def shown(entries: tuple[tuple[str, int], ...]) -> list[str]:
        tensors = [(name, graph.tensors[i]) for name, i in entries]
        return [f"{name}: {t.dtype}[{', '.join(map(str, t.shape))}]" for name, t in tensors]

    return shown(signature.inputs), shown(signature.outputs)


def check(source: Path, feeds: Mapping[str, Array], **options: object) -> Conversion:
    conversion = convert(source, feeds, **options)
    assert interface(conversion) == interface_of_the_file(conversion.tflite)
    assert max(differences(conversion, feeds).values()) < 1e-4
    return conversion


ONNX_CASES = {
    "classifier": {"x": noise(9, 3, 16, 16)},
    "cube": {"x": noise(9, 3, 3, 3)},
    "volume": {"x": noise(9, 2, 4, 5, 6)},
    "names": {"serving_default_image:0": noise(9, 3, 8, 8), "a.meta": noise(9, 5)},
    "recurrent": {"x": noise(9, 6, 4)},
    "integers": {"ids": np.arange(63).reshape(9, 7) % 20},
}


@pytest.mark.parametrize("name", ONNX_CASES)
def test_an_onnx_model_computes_the_same_as_tflite(onnx: Path, name: str) -> None:
    check(onnx / f"{name}.onnx", ONNX_CASES[name])


def test_a_value_that_is_not_chosen_may_be_none(onnx: Path) -> None:
    x = np.abs(noise(5, 1, 3, 4))
    x[3] = 0
    conversion = check(onnx / "careful.onnx", {"x": x[:, 0]})
    names = [operator.name for _, operator in read_model(conversion.tflite).operators()]
    assert names.count("SELECT_V2") == 2
    assert not {"CAST", "SUB", "MUL", "ADD"} & set(names)


def test_an_onnx_models_channels_stay_first_at_both_ends(onnx: Path) -> None:
    conversion = check(onnx / "volume.onnx", ONNX_CASES["volume"])
    assert interface(conversion) == (["x: float32[1, 2, 4, 5, 6]"], ["mask: float32[1, 3, 4, 5, 6]"])


def test_values_tell_the_layout_where_the_shape_does_not(onnx: Path) -> None:
    (only_road,) = check(onnx / "cube.onnx", ONNX_CASES["cube"]).notes
    assert only_road.startswith("onnx2tf on the graph cleaned by onnxslim: largest difference")


def test_an_onnx_models_names_and_their_order_are_kept(onnx: Path) -> None:
    inputs, outputs = interface(convert(onnx / "names.onnx", ONNX_CASES["names"]))
    assert inputs == ["serving_default_image:0: float32[1, 3, 8, 8]", "a.meta: float32[1, 5]"]
    assert outputs == ["zebra:1: float32[1, 2]", "ant/0: float32[1, 5]"]


def test_a_road_that_computes_something_else_is_left_for_the_next(onnx: Path) -> None:
    notes = convert(onnx / "recurrent.onnx", ONNX_CASES["recurrent"]).notes
    assert "unrolled: largest difference" in notes[0]
    assert "differs from onnxruntime" in notes[1]


def test_initializers_listed_as_inputs_are_no_inputs() -> None:
    with np.load(DATA / "mnist" / "digits.npz") as archive:
        feeds = {"x": (archive["x"][:200, None] / 255).astype(np.float32)}
    conversion = convert(DATA / "mnist" / "model.onnx", feeds)
    assert interface(conversion) == (["Input3: float32[1, 1, 28, 28]"], ["Plus214_Output_0: float32[1, 10]"])
    assert max(differences(conversion, {"Input3": feeds["x"]}).values()) < 1e-4


def test_the_source_file_is_not_touched(onnx: Path) -> None:
    before = detect(onnx / "classifier.onnx")
    convert(onnx / "classifier.onnx", ONNX_CASES["classifier"])
    assert detect(onnx / "classifier.onnx") == before


def test_an_open_dimension_is_refused_with_the_option_that_fixes_it(onnx: Path) -> None:
    with pytest.raises(ConversionError, match=r"input 'x' has the shape \[\?, 1, \?\]") as caught:
        convert(onnx / "audio.onnx", {"x": noise(3, 1, 40)})
    assert "--input x:1,1,N" in (caught.value.hint or "")


def test_an_open_dimension_can_be_fixed(onnx: Path) -> None:
    conversion = check(onnx / "audio.onnx", {"x": noise(3, 1, 40)}, inputs=["x:1,1,40"])
    assert interface(conversion)[0] == ["x: float32[1, 1, 40]"]


def test_an_operator_no_form_gets_rid_of_is_named_with_its_node_and_all_forms(onnx: Path) -> None:
    with pytest.raises(
        ConversionError, match=r"convert operator 'Det' \(node '\w+'\).* \(cleaned by onnxslim.*as it is"
    ):
        convert(onnx / "roots.onnx", {"x": noise(3, 4, 4)})


def test_an_operator_of_somebodys_own_is_named_with_its_node(onnx: Path) -> None:
    with pytest.raises(ConversionError, match=r"needs the operator 'some\.one:Swirl' \(node 'turn'\)") as caught:
        convert(onnx / "foreign.onnx", {"x": noise(3, 1, 4)})
    assert "standard operators" in (caught.value.hint or "")


def test_samples_of_another_shape_are_refused_before_the_conversion(onnx: Path) -> None:
    with pytest.raises(DatasetError, match="'x' has samples of shape"):
        convert(onnx / "classifier.onnx", {"x": noise(3, 16, 16, 3)})


def test_a_file_that_only_looks_like_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    # ir_version 8, an operator set, and a graph of one node without operator and one output without type.
    path.write_bytes(bytes.fromhex("08083a040a00620042021011"))
    with pytest.raises(ConversionError):
        convert(path, {"x": noise(1, 1)})


IMAGES = {"image": noise(40, 12, 12, 3)}


@pytest.mark.parametrize("name", ["network.keras", "network.h5"])
def test_a_keras_model_computes_the_same_as_tflite(tensorflow: Path, name: str) -> None:
    conversion = check(tensorflow / name, IMAGES)
    assert interface(conversion) == (["image: float32[1, 12, 12, 3]"], ["probabilities: float32[1, 4]"])


def test_outputs_of_one_shape_are_not_mixed_up(tensorflow: Path) -> None:
    conversion = check(tensorflow / "two.keras", {"meta": noise(9, 5), "image": noise(9, 12, 12, 3)})
    assert [spec.name for spec in conversion.inputs] == ["meta", "image"]
    assert [spec.name for spec in conversion.outputs] == ["zebra", "ant"]


def test_a_recurrent_keras_model_computes_the_same_as_tflite(tensorflow: Path) -> None:
    conversion = check(tensorflow / "sequence.keras", {"steps": noise(9, 6, 4)})
    assert [spec.name for spec in conversion.outputs] == ["tail"]


def test_a_keras_input_of_open_length_can_be_fixed(tensorflow: Path) -> None:
    conversion = check(tensorflow / "audio.keras", {"audio": noise(9, 20, 2)}, inputs=["audio:1,20,2"])
    assert interface(conversion)[0] == ["audio: float32[1, 20, 2]"]


def test_a_keras_input_of_open_length_is_refused(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match=r"'audio' has the shape \[\?, \?, 2\]"):
        convert(tensorflow / "audio.keras", {"audio": noise(9, 20, 2)})


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_a_lambda_layer_is_refused_by_name(tensorflow: Path, name: str) -> None:
    with pytest.raises(ConversionError, match="layer 'trap' is a Lambda"):
        convert(tensorflow / name, {"x": noise(3, 4)})


def test_a_custom_layer_is_refused_by_name(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match=r"'twice' is of the custom kind 'mine>Twice'"):
        convert(tensorflow / "custom.keras", {"x": noise(3, 4)})


def test_a_saved_model_computes_the_same_as_tflite(tensorflow: Path) -> None:
    conversion = check(tensorflow / "network", IMAGES)
    assert interface(conversion)[0] == ["image: float32[1, 12, 12, 3]"]


def test_a_saved_models_signature_can_be_chosen(tensorflow: Path) -> None:
    conversion = check(tensorflow / "predict", {"x": noise(9, 4)}, signature_key="predict")
    assert interface(conversion) == (["x: float32[1, 4]"], ["y: float32[1, 3]"])


def test_a_missing_signature_is_refused_with_those_there_are(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match="no signature 'serving_default'; it has predict"):
        convert(tensorflow / "predict", {"x": noise(9, 4)})


def test_a_saved_model_that_counts_its_calls_is_refused(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match="keeps state between calls"):
        convert(tensorflow / "counting", {"x": noise(9, 4)})


def test_an_operator_tflite_lacks_is_named_with_its_node(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match=r"operator 'BesselJ0' \('.*bessel_j0/BesselJ0'\)"):
        convert(tensorflow / "bessel", {"x": noise(9, 4)})


def test_a_limit_no_conversion_can_meet_refuses_it(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match="differs from TensorFlow by"):
        convert(tensorflow / "network", IMAGES, max_difference=1e-12)
