"""What converters share, and the one that needs no toolchain: TFLite files, read on the host itself."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepack import _flatbuffer_edit as edit
from edgepack.converters import onnx, tflite
from edgepack.converters._interface import refuse_foreign_operators
from edgepack.converters._keras_config import refuse_code
from edgepack.converters._options import (
    InputShape,
    check_dtypes,
    check_shape_names,
    fixed_shape,
    named_inputs,
    named_shapes,
    read_options,
)
from edgepack.converters._parity import difference, judged_samples
from edgepack.errors import ConversionError, DatasetError, RecipeError, SourceModelError
from edgepack.flatbuffer import read_model
from edgepack.model import Conversion, ConversionRequest
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.tensors import Array, TensorSpec

ENGINES = Path(__file__).resolve().parents[2] / "data" / "engines"


def converted(tmp_path: Path, name: str, feeds: dict[str, Array], **options: object) -> Conversion:
    request = ConversionRequest(source=ENGINES / name, options=json.dumps(options), feeds=feeds, scratch=tmp_path)
    return tflite.convert(request)


def feeds_for(name: str, count: int = 4) -> dict[str, Array]:
    """Return samples of 0, 1, 2 … for every input of the file."""
    graph = read_model((ENGINES / name).read_bytes()).subgraphs[0]
    signatures = read_model((ENGINES / name).read_bytes()).signatures
    names = {i: n for n, i in signatures[0].inputs} if signatures else {}
    result = {}
    for i in graph.inputs:
        shape = tuple(abs(d) for d in graph.tensors[i].shape)
        array = np.arange(count * int(np.prod(shape))).reshape(count, *shape)
        result[names.get(i, graph.tensors[i].name)] = array.astype(graph.tensors[i].dtype)
    return result


def test_a_tflite_file_with_a_signature_is_kept_byte_for_byte(tmp_path: Path) -> None:
    name = "two_by_two.tflite"
    assert converted(tmp_path, name, feeds_for(name)).tflite == (ENGINES / name).read_bytes()


def test_a_tflite_file_that_states_too_low_versions_gets_true_ones(tmp_path: Path) -> None:
    objects = edit.unpack((ENGINES / "int8.tflite").read_bytes())
    for code in objects.operatorCodes:
        code.version = 1
    path = tmp_path / "low.tflite"
    path.write_bytes(edit.pack(objects))
    conversion = converted(tmp_path, str(path), feeds_for("int8.tflite"))
    assert [str(code) for code in read_model(conversion.tflite).opcodes] == ["FULLY_CONNECTED v4", "TANH v2"]
    assert "operator versions and min_runtime_version were corrected" in conversion.notes


def test_a_tflite_files_names_come_in_the_graphs_order(tmp_path: Path) -> None:
    conversion = converted(tmp_path, "two_by_two.tflite", feeds_for("two_by_two.tflite"))
    assert [spec.name for spec in conversion.inputs] == ["zebra", "apple"]
    assert [spec.name for spec in conversion.outputs] == ["yes", "maybe"]


def test_a_tflite_file_without_a_signature_gets_one_of_its_tensors_names(tmp_path: Path) -> None:
    name = "no_signature.tflite"
    conversion = converted(tmp_path, name, feeds_for(name))
    (signature,) = read_model(conversion.tflite).signatures
    assert signature.key == "serving_default"
    assert [n for n, _ in signature.inputs] == [spec.name for spec in conversion.inputs]


def test_an_open_batch_is_fixed_to_one(tmp_path: Path) -> None:
    name = "dynamic_batch.tflite"
    conversion = converted(tmp_path, name, feeds_for(name))
    assert not read_model(conversion.tflite).is_dynamic
    assert conversion.inputs[0].shape[0] == 1


def test_quantized_inputs_and_outputs_keep_their_scales_and_are_noted(tmp_path: Path) -> None:
    conversion = converted(tmp_path, "int8.tflite", feeds_for("int8.tflite"))
    assert all(spec.quantization for spec in (*conversion.inputs, *conversion.outputs))
    assert any("already quantized" in note for note in conversion.notes)


def test_a_stateful_file_sees_the_samples_as_one_stream(tmp_path: Path) -> None:
    feeds = feeds_for("stateful.tflite", count=5)
    (x,) = feeds.values()
    (y,) = converted(tmp_path, "stateful.tflite", feeds).reference.values()
    sums = [x[max(0, i - 2) : i + 1].sum(axis=0) for i in range(5)]
    np.testing.assert_allclose(y.reshape(5, -1), np.stack(sums).reshape(5, -1), rtol=1e-6)


def test_a_file_with_two_signatures_is_refused_until_one_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="2 signatures"):
        converted(tmp_path, "two_signatures.tflite", feeds_for("two_signatures.tflite"))


def test_all_signatures_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    feeds = {"code": np.ones((4, 1, 4), np.float32), "gain": np.ones((4, 1), np.float32)}
    conversion = converted(tmp_path, "codec.tflite", feeds, keep_signatures=True)
    assert sorted(s.key for s in read_model(conversion.tflite).signatures) == ["decode", "encode"]
    assert [spec.name for spec in conversion.inputs] == ["code", "gain"]
    assert any("other signatures are kept" in note for note in conversion.notes)


def test_the_first_of_signatures_that_are_all_kept_is_not_for_the_user_to_choose(tmp_path: Path) -> None:
    feeds = {"x": np.ones((4, 1, 8), np.float32)}
    with pytest.raises(ConversionError, match="the first one is decode, not 'encode'"):
        converted(tmp_path, "codec.tflite", feeds, keep_signatures=True, signature_key="encode")


def test_the_chosen_signature_is_the_one_kept(tmp_path: Path) -> None:
    name = "two_signatures.tflite"
    keys = [s.key for s in read_model((ENGINES / name).read_bytes()).signatures]
    conversion = converted(tmp_path, name, feeds_for(name), signature_key=keys[0])
    assert len(read_model(conversion.tflite).signatures) == 1


def test_a_custom_operator_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"the custom operator '\w+' \(it gives '\w+'\), which"):
        converted(tmp_path, "custom_op.tflite", feeds_for("custom_op.tflite"))


def test_the_operator_at_the_end_of_ssd_is_custom_by_name_only(tmp_path: Path) -> None:
    feeds = {"encodings": np.zeros((3, 1, 6, 4), np.float32), "predictions": np.ones((3, 1, 6, 3), np.float32)}
    conversion = converted(tmp_path, "detection.tflite", feeds)
    assert [spec.name for spec in conversion.outputs] == ["boxes", "kinds", "scores", "count"]


def with_operator(name: str) -> bytes:
    """Return a TFLite file that does nothing but name one operator."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [schema.SubGraphT()]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", ["VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"])
def test_a_conversion_that_left_weights_in_variables_is_refused(name: str) -> None:
    with pytest.raises(ConversionError, match=name):
        refuse_foreign_operators(with_operator(name))


def test_a_streaming_tflite_source_may_have_variables() -> None:
    assert refuse_foreign_operators(with_operator("VAR_HANDLE"), stateful=True) is None


def test_samples_of_another_dtype_are_refused(tmp_path: Path) -> None:
    feeds = {name: array.astype(np.float64) for name, array in feeds_for("two_by_two.tflite").items()}
    with pytest.raises(DatasetError, match="dtype float64"):
        converted(tmp_path, "two_by_two.tflite", feeds)


def test_options_left_out_have_their_defaults() -> None:
    assert read_options(onnx.Options, "") == read_options(onnx.Options, "{}") == onnx.Options()


def test_options_given_are_read() -> None:
    options = read_options(onnx.Options, '{"inputs":["x:1,2"]}')
    assert options == onnx.Options(inputs=("x:1,2",))


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="knows inputs, max_difference"):
        read_options(onnx.Options, '{"input":["x:1,2"]}')


def test_an_option_of_another_type_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"options\.max_difference"):
        read_options(onnx.Options, '{"max_difference":"small"}')


def test_a_name_with_colons_may_stand_before_a_shape() -> None:
    assert named_shapes(["serving_default_x:0:1,16000"]) == {"serving_default_x:0": (1, 16000)}


@pytest.mark.parametrize(
    "text", ["1,2", "x", ":", "x:1,-2", "x:1,0", "x:1,N", "x:1,", "x:\u0664", "x:\xb2", f"x:{'9' * 5000}", ":1,2"]
)
def test_a_shape_written_in_another_way_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="expected NAME:SHAPE"):
        named_shapes([text])


@pytest.mark.parametrize(
    ("text", "name", "dtype", "shape"),
    [
        ("ids:int32:1,64", "ids", "int32", (1, 64)),
        ("serving_default_x:0:bool:1,2", "serving_default_x:0", "bool", (1, 2)),
        ("gain:", "gain", "", ()),
        ("gain:float64:", "gain", "float64", ()),
        ("int32:1,2", "int32", "", (1, 2)),
    ],
)
def test_a_dtype_may_stand_before_a_shape(text: str, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    assert named_inputs([text]) == {name: InputShape(shape=shape, dtype=dtype)}


def test_an_input_named_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="'x' is given a shape twice"):
        named_inputs(["x:1,2", "x:1,3"])


def test_a_dtype_that_is_not_the_sources_is_refused() -> None:
    with pytest.raises(ConversionError, match="'ids' is of type int64, int32 was asked for"):
        check_dtypes(["ids:int32:1,4"], [TensorSpec(name="ids", dtype="int64", shape=(1, 4))])


def test_an_open_first_dimension_is_the_batch() -> None:
    assert fixed_shape("x", [None, 3, 4], {}) == (1, 3, 4)


def test_a_fixed_first_dimension_is_left_alone() -> None:
    assert fixed_shape("x", [9, 1, 6], {}) == (9, 1, 6)


def test_an_open_dimension_behind_the_batch_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"'x' has the shape \[\?, 3, \?\]"):
        fixed_shape("x", [None, 3, None], {})


def test_a_shape_asked_for_must_fit_what_is_fixed() -> None:
    with pytest.raises(ConversionError, match=r"\[\?, 3\], \[1, 4\] was asked for"):
        fixed_shape("x", [None, 3], {"x": (1, 4)})


def test_a_shape_for_an_input_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConversionError, match="'z'; the model's inputs are \\['x'\\]"):
        check_shape_names({"z": (1,)}, ["x"])


def test_a_difference_is_a_share_of_the_range() -> None:
    assert difference(np.array([0.0, 10.0]), np.array([0.0, 9.0])) == pytest.approx(0.1)


def test_a_constant_output_is_compared_with_its_size() -> None:
    assert difference(np.array([5.0, 5.0]), np.array([5.0, 4.0])) == pytest.approx(0.2)


@pytest.mark.parametrize("found", [[0.0, np.nan], [0.0, np.inf]])
def test_nan_and_infinity_where_the_source_has_numbers_are_no_agreement(found: list[float]) -> None:
    assert difference(np.array([0.0, 1.0]), np.array(found)) == np.inf


def test_infinity_where_the_source_has_it_too_is_agreement() -> None:
    assert difference(np.array([0.0, 1.0, -np.inf]), np.array([0.0, 1.0, -np.inf])) == 0


def test_judged_samples_reach_from_the_first_to_the_last() -> None:
    index = judged_samples(5000)
    assert (index[0], index[-1], len(index)) == (0, 4999, 32)


def keras_file(folder: Path, *layers: dict[str, object]) -> Path:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
    path = folder / "m.keras"
    path.write_bytes(stream.getvalue())
    return path


def layer(kind: str, **more: object) -> dict[str, object]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": "it"}, "registered_name": None} | more


@pytest.mark.parametrize("value", [7, 1.5, [1.0, 2.0], b"\xff"])
def test_an_hdf5_file_whose_model_config_is_no_text_is_refused(tmp_path: Path, value: object) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = value
    with pytest.raises(SourceModelError, match=r"is no text|not valid JSON"):
        refuse_code(tmp_path / "model.h5")


def test_an_hdf5_file_whose_model_config_is_empty_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = h5py.Empty("f4")
    with pytest.raises(SourceModelError, match="is no text but Empty"):
        refuse_code(tmp_path / "model.h5")


def test_an_hdf5_file_that_is_damaged_or_cut_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["model_config"] = "{}"
    whole = path.read_bytes()
    at = whole.index(b"OHDR") + 10
    for damaged in (whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :], whole[:at]):
        path.write_bytes(damaged)
        with pytest.raises(SourceModelError, match="the HDF5 file cannot be read"):
            refuse_code(path)


def test_standard_layers_are_no_code(tmp_path: Path) -> None:
    path = keras_file(tmp_path, layer("Dense"), layer("InputLayer"))
    assert refuse_code(path) == ()


@pytest.mark.parametrize(
    "code",
    [
        layer("Lambda"),
        layer("Mine", module="my_package.layers"),
        layer("Mine", module=None, registered_name="Custom>Mine"),
        layer("Custom>Mine", module=None),
        layer("Dense", config={"name": "it", "activation": layer("function", module="builtins", config="my_relu")}),
        layer("TimeDistributed", config={"name": "outer", "layer": layer("Lambda")}),
        layer(
            "Dense", config={"name": "it", "activation": {"class_name": "__lambda__", "config": {"value": "4wE="}}}
        ),
    ],
    ids=["lambda", "module", "registered", "old custom", "function", "nested", "lambda function"],
)
def test_code_in_a_keras_file_is_refused_before_it_is_loaded(tmp_path: Path, code: dict[str, object]) -> None:
    with pytest.raises(ConversionError, match=r"Lambda|custom kind"):
        refuse_code(keras_file(tmp_path, layer("Dense"), code))


def test_a_keras_file_with_a_broken_config_is_refused(tmp_path: Path) -> None:
    path = keras_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SourceModelError, match="cannot be read"):
        refuse_code(path)
