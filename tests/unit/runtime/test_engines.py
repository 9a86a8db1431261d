"""Engines, on whichever are installed: the file is run once in an environment of each.

It needs numpy, pytest and the runtime only, so that it also runs on a device.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgepack_runtime import engines
from edgepack_runtime.engines import Engine, installed, load
from edgepack_runtime.errors import EngineError, FileError, InputError
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec

MODELS = Path(__file__).resolve().parents[2] / "data" / "engines"
INSTALLED = [name for name, _ in installed()]
ALL = ("ai-edge-litert", "tflite-runtime")


@pytest.fixture(params=INSTALLED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def open_model(name: str, model: str, *, num_threads: int = 1) -> Engine:
    return load(name, str(MODELS / model), num_threads=num_threads)


@pytest.fixture
def two_by_two(name: str) -> Iterator[Engine]:
    engine = open_model(name, "two_by_two.tflite")
    yield engine
    engine.close()


def feeds(first: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "apple": np.array([[2.0, 3.0]], np.float32),
        "zebra": np.array([[first, 2.0, 3.0, 4.0]], np.float32),
    }


def test_at_least_one_engine_is_installed_here():
    assert INSTALLED
    assert set(INSTALLED) <= set(ALL)


def test_listing_the_installed_engines_imports_none_of_them():
    code = (
        "import sys; from edgepack_runtime.engines import installed; assert installed();"
        "print([m for m in sys.modules if m.split('.')[0] in ('ai_edge_litert', 'tflite_runtime')])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert out.stdout.strip() == "[]"


def test_an_engine_tells_its_name_and_version(two_by_two: Engine, name: str):
    assert (two_by_two.name, two_by_two.version) in installed()
    assert two_by_two.name == name


def test_inputs_and_outputs_have_the_signatures_names_in_the_graphs_order(two_by_two: Engine):
    assert two_by_two.inputs == (
        TensorSpec(name="zebra", dtype="float32", shape=(1, 4)),
        TensorSpec(name="apple", dtype="float32", shape=(1, 2)),
    )
    assert [str(spec) for spec in two_by_two.outputs] == ["yes: float32[1, 4]", "maybe: float32[1, 2]"]


def test_each_feed_reaches_the_input_of_its_name(two_by_two: Engine):
    outputs = two_by_two.run(feeds())
    assert list(outputs) == ["yes", "maybe"]
    assert outputs["yes"].tolist() == [[51.0, 52.0, 53.0, 54.0]]
    assert outputs["maybe"].tolist() == [[4.0, 6.0]]


def test_outputs_stay_as_they_are_when_the_model_runs_again(two_by_two: Engine):
    kept = two_by_two.run(feeds())["yes"]
    assert two_by_two.run(feeds(first=100.0))["yes"][0, 0] == 150.0
    assert kept[0, 0] == 51.0


def test_an_array_that_is_a_view_with_strides_is_read_as_its_elements(two_by_two: Engine):
    strided = np.array([[1.0, -9.0, 2.0, -9.0, 3.0, -9.0, 4.0, -9.0]], np.float32)[:, ::2]
    assert two_by_two.run({**feeds(), "zebra": strided})["yes"].tolist() == [[51.0, 52.0, 53.0, 54.0]]


def test_a_feed_of_another_dtype_is_refused_before_the_model_runs(two_by_two: Engine):
    with pytest.raises(InputError, match="'zebra': expected dtype float32, got float64"):
        two_by_two.run({**feeds(), "zebra": np.zeros((1, 4))})


def test_a_missing_feed_is_refused(two_by_two: Engine):
    with pytest.raises(InputError, match="the model takes"):
        two_by_two.run({"zebra": feeds()["zebra"]})


def test_threads_running_one_engine_get_their_own_outputs(two_by_two: Engine):
    wrong = []

    def work(first: float) -> None:
        for _ in range(200):
            if two_by_two.run(feeds(first=first))["yes"][0, 0] != first + 50.0:
                wrong.append(first)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_model_without_signature_goes_by_its_tensors_names(name: str):
    engine = open_model(name, "no_signature.tflite")
    assert [spec.name for spec in engine.inputs + engine.outputs] == [
        "serving_default_x:0",
        "PartitionedCall:0",
    ]
    assert engine.run({"serving_default_x:0": np.ones((1, 8), np.float32)})["PartitionedCall:0"].shape == (
        1,
        4,
    )


def test_an_int8_model_tells_its_quantization_and_runs_on_stored_integers(name: str):
    engine = open_model(name, "int8.tflite")
    (given,), (got,) = engine.inputs, engine.outputs
    assert (given.dtype, got.dtype) == ("int8", "int8")
    assert got.quantization == QuantizationParameters(scale=(0.0078125,), zero_point=(0,))
    assert given.quantization is not None
    real = np.random.default_rng(3).normal(scale=0.2, size=(1, 8)).astype(np.float32)
    stored = np.clip(np.round(real / given.quantization.scale[0]) + given.quantization.zero_point[0], -128, 127)
    found = engine.run({"x": stored.astype(np.int8)})["y"]
    exact = open_model(name, "no_signature.tflite").run({"serving_default_x:0": real})["PartitionedCall:0"]
    assert found.dtype == np.int8
    assert np.abs(found * got.quantization.scale[0] - exact).max() < 0.05
    assert np.unique(found).size == 4


def test_a_variable_tensor_keeps_its_value_until_reset(name: str):
    engine = open_model(name, "stateful.tflite")
    ones = {"x": np.ones((1, 1), np.float32)}
    assert [engine.run(ones)["y"].item() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    engine.reset()
    assert engine.run(ones)["y"].item() == 1.0


def test_a_dynamic_dimension_takes_any_size_and_changes_back(name: str):
    engine = open_model(name, "dynamic_batch.tflite")
    assert (engine.inputs[0].shape, engine.outputs[0].shape) == ((-1, 8), (-1, 4))
    batch = np.random.default_rng(4).normal(size=(5, 8)).astype(np.float32)
    together = engine.run({"x": batch})["y"]
    single = np.concatenate([engine.run({"x": batch[i : i + 1]})["y"] for i in range(5)])
    assert together.shape == (5, 4)
    np.testing.assert_allclose(together, single, rtol=1e-5, atol=1e-6)


def test_a_batch_without_elements_is_refused_and_the_engine_goes_on(name: str):
    engine = open_model(name, "dynamic_batch.tflite")
    with pytest.raises(InputError, match="holds no element"):
        engine.run({"x": np.zeros((0, 8), np.float32)})
    assert engine.run({"x": np.zeros((1, 8), np.float32)})["y"].tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_a_sealed_memfd_is_loaded_and_may_be_closed_afterwards(name: str):
    fd = os.memfd_create("model", os.MFD_ALLOW_SEALING)
    os.write(fd, (MODELS / "two_by_two.tflite").read_bytes())
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    engine = load(name, f"/proc/self/fd/{fd}", num_threads=1)
    os.close(fd)
    assert engine.run(feeds())["maybe"].tolist() == [[4.0, 6.0]]


def test_two_threads_give_the_same_numbers_as_one(name: str):
    one, two = (open_model(name, "two_by_two.tflite", num_threads=n) for n in (1, 2))
    assert one.run(feeds())["yes"].tolist() == two.run(feeds())["yes"].tolist()


def test_a_closed_engine_refuses_to_run(two_by_two: Engine):
    two_by_two.close()
    two_by_two.close()
    with pytest.raises(EngineError, match="closed"):
        two_by_two.run(feeds())


def test_a_closed_engine_refuses_to_reset(two_by_two: Engine):
    two_by_two.close()
    with pytest.raises(EngineError, match="closed"):
        two_by_two.reset()


def test_a_missing_file_is_named(name: str):
    with pytest.raises(FileError, match=r"no_such\.tflite: cannot be read: No such file"):
        open_model(name, "no_such.tflite")


@pytest.mark.parametrize("head", [b"", b"\0\0", b"\x1c\0\0\0SECRET MODEL BYTES"])
def test_a_file_that_is_no_model_is_refused_without_quoting_it(name: str, tmp_path: Path, head: bytes):
    path = tmp_path / "no.tflite"
    path.write_bytes(head)
    with pytest.raises(EngineError, match="not a TFLite model") as refused:
        load(name, str(path), num_threads=1)
    assert "SECR" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_model_cut_short_is_an_engine_error_on_one_line(name: str, tmp_path: Path):
    path = tmp_path / "cut.tflite"
    path.write_bytes((MODELS / "two_by_two.tflite").read_bytes()[:500])
    with pytest.raises(EngineError, match="refuses the model") as refused:
        load(name, str(path), num_threads=1)
    assert str(refused.value).isprintable()


def test_an_operator_the_engine_lacks_is_named_on_one_line(name: str):
    with pytest.raises(EngineError, match=f"{name} .* refuses the model: .*NoSuchOp") as refused:
        open_model(name, "custom_op.tflite")
    assert str(refused.value).isprintable()
    assert refused.value.__suppress_context__


def test_no_thread_at_all_is_refused(name: str):
    with pytest.raises(EngineError, match="num_threads"):
        open_model(name, "two_by_two.tflite", num_threads=0)


@pytest.fixture
def codec(name: str) -> Iterator[Engine]:
    engine = open_model(name, "codec.tflite")
    yield engine
    engine.close()


X = np.arange(8, dtype=np.float32)[None]
WEIGHTS = np.random.default_rng(7).normal(size=(8, 4)).astype(np.float32)


def decoding(gain: float = 2.0) -> dict[str, np.ndarray]:
    return {"code": np.ones((1, 4), np.float32), "gain": np.array([gain], np.float32)}


def test_of_several_signatures_the_first_graphs_is_run_where_none_is_named(codec: Engine):
    assert [str(spec) for spec in codec.inputs] == ["code: float32[1, 4]", "gain: float32[1]"]
    np.testing.assert_allclose(codec.run(decoding())["x"], 2 * WEIGHTS.sum(1)[None], rtol=1e-5)


def test_each_signature_says_what_it_takes_and_gives(codec: Engine):
    told = {key: [str(spec) for spec in (*s.inputs, *s.outputs)] for key, s in codec.signatures.items()}
    assert told == {
        "decode": ["code: float32[1, 4]", "gain: float32[1]", "power: float32[]", "x: float32[1, 8]"],
        "encode": ["x: float32[1, 8]", "code: float32[1, 4]"],
    }


def test_each_signature_runs_its_own_graph_whatever_ran_before(codec: Engine):
    for gain in (1.0, 2.0, 3.0):
        np.testing.assert_allclose(codec.run({"x": X}, "encode")["code"], X @ WEIGHTS, rtol=1e-5)
        np.testing.assert_allclose(codec.run(decoding(gain))["x"], gain * WEIGHTS.sum(1)[None], rtol=1e-5)
        assert float(codec.run(decoding(), "decode")["power"]) == 4.0


def test_a_signature_that_is_not_there_is_refused_with_those_that_are(codec: Engine):
    with pytest.raises(InputError, match="no signature 'encodes'") as refused:
        codec.run({"x": X}, "encodes")
    assert refused.value.hint == "it has: decode, encode"


def test_a_signatures_inputs_have_to_fit_it(codec: Engine):
    with pytest.raises(InputError, match=r"inputs named \['x'\] were given, the model takes \['code', 'gain'\]"):
        codec.run({"x": X}, "decode")


def test_a_closed_engine_runs_no_signature(codec: Engine):
    codec.close()
    with pytest.raises(EngineError, match="closed"):
        codec.run({"x": X}, "encode")


def fill(views: dict[str, np.ndarray]) -> None:
    for name, value in feeds().items():
        views[name][...] = value


def test_a_run_in_place_gives_what_a_run_gives(two_by_two: Engine):
    found = two_by_two.run_in_place(fill, lambda outputs: {name: x.copy() for name, x in outputs.items()})
    wanted = two_by_two.run(feeds())
    assert {name: x.tolist() for name, x in found.items()} == {name: x.tolist() for name, x in wanted.items()}


def test_arrays_in_place_are_the_engines_own_each_time(two_by_two: Engine):
    def address(outputs: dict[str, np.ndarray]) -> tuple[int, bool]:
        return outputs["yes"].ctypes.data, outputs["yes"].flags.owndata

    first, second = (two_by_two.run_in_place(fill, address) for _ in range(2))
    assert (first, first[1]) == (second, False)


def test_outputs_in_place_cannot_be_written(two_by_two: Engine):
    def write(outputs: dict[str, np.ndarray]) -> None:
        outputs["yes"][...] = 0

    with pytest.raises(ValueError, match="read-only"):
        two_by_two.run_in_place(fill, write)


@pytest.mark.parametrize("keep", [lambda x: x, lambda x: x[0, 1:], lambda x: x.reshape(-1), memoryview])
def test_an_array_that_is_kept_is_refused_until_it_is_gone(two_by_two: Engine, keep):
    kept = []
    with pytest.raises(EngineError, match="still held"):
        two_by_two.run_in_place(fill, lambda outputs: kept.append(keep(outputs["yes"])))
    before = np.array(kept[0])
    for run in (lambda: two_by_two.run(feeds(5)), lambda: two_by_two.run(feeds(5), "serving_default")):
        with pytest.raises(EngineError, match="still held"):
            run()
    np.testing.assert_array_equal(before, kept[0])
    kept.clear()
    assert list(two_by_two.run(feeds())) == ["yes", "maybe"]


def test_an_input_array_that_is_kept_is_refused_before_the_model_runs(two_by_two: Engine):
    kept, read = [], []
    with pytest.raises(EngineError, match="still held"):
        two_by_two.run_in_place(lambda views: kept.extend(views.values()), read.append)
    assert (len(kept), read) == (2, [])


def test_a_run_within_a_run_in_place_is_refused_and_does_not_wait_for_itself(two_by_two: Engine):
    with pytest.raises(EngineError, match="still held"):
        two_by_two.run_in_place(fill, lambda outputs: two_by_two.run(feeds()))
    assert list(two_by_two.run(feeds())) == ["yes", "maybe"]


def test_a_close_within_a_run_in_place_is_an_error_of_the_engine(two_by_two: Engine):
    def fill_and_close(views: dict[str, np.ndarray]) -> None:
        fill(views)
        two_by_two.close()

    with pytest.raises(EngineError, match="closed"):
        two_by_two.run_in_place(fill_and_close, lambda outputs: None)


def test_what_the_functions_of_a_run_in_place_raise_is_raised(two_by_two: Engine):
    with pytest.raises(KeyError, match="nobody"):
        two_by_two.run_in_place(lambda views: views["nobody"], lambda outputs: None)
    assert list(two_by_two.run(feeds())) == ["yes", "maybe"]


def test_a_model_with_open_dimensions_does_not_run_in_place(name: str):
    engine = open_model(name, "dynamic_batch.tflite")
    with pytest.raises(EngineError, match="open dimensions"):
        engine.run_in_place(lambda views: None, lambda outputs: None)
    engine.close()


def test_two_signatures_over_one_graph_give_the_same(name: str):
    engine = open_model(name, "two_signatures.tflite")
    named = [engine.run({"x": X}, key)["y"] for key in (None, "serving_default", "other")]
    engine.close()
    np.testing.assert_array_equal(named[0], named[1])
    np.testing.assert_array_equal(named[0], named[2])


def test_a_signature_with_an_open_dimension_leaves_the_next_run_its_own_shape(name: str):
    engine = open_model(name, "dynamic_batch.tflite")
    one, three = np.ones((1, 8), np.float32), np.ones((3, 8), np.float32)
    shapes = [
        engine.run({"x": x}, key)["y"].shape for x, key in ((one, None), (three, "serving_default"), (one, None))
    ]
    engine.close()
    assert shapes == [(1, 4), (3, 4), (1, 4)]


def test_a_signature_is_not_run_on_nothing(name: str):
    engine = open_model(name, "dynamic_batch.tflite")
    with pytest.raises(InputError, match="holds no element"):
        engine.run({"x": np.ones((0, 8), np.float32)}, "serving_default")
    engine.close()


@pytest.mark.parametrize("bad", ["onnxruntime", "../tflite-runtime", "_interpreter", "-interpreter", ""])
def test_an_unknown_engine_is_refused_with_the_known_ones(bad: str):
    with pytest.raises(EngineError, match="is none of ai-edge-litert, tflite-runtime"):
        load(bad, str(MODELS / "two_by_two.tflite"), num_threads=1)


@pytest.mark.skipif(set(INSTALLED) == set(ALL), reason="every engine is installed here")
def test_an_engine_that_is_not_installed_is_refused_with_the_pip_command():
    (missing, *_) = [engine for engine in ALL if engine not in INSTALLED]
    with pytest.raises(EngineError, match=f"{missing} is not installed") as refused:
        open_model(missing, "two_by_two.tflite")
    assert "python3 -m pip install" in str(refused.value.hint)
    assert missing in str(refused.value.hint)


@pytest.mark.skipif("tflite-runtime" not in INSTALLED, reason="tflite-runtime is not installed here")
def test_numpy_2_beside_tflite_runtime_is_refused_with_the_pin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(np, "__version__", "2.3.5")
    with pytest.raises(EngineError, match=r"built for numpy 1, and numpy 2\.3\.5 is installed") as refused:
        open_model("tflite-runtime", "two_by_two.tflite")
    assert "'numpy<2'" in str(refused.value.hint)


def test_the_engines_are_found_in_an_archive_too(tmp_path):
    source, code = Path(engines.__file__).parents[1], "from edgepack_runtime import engines; print(*engines._known())"
    with zipfile.ZipFile(tmp_path / "runtime.zip", "w") as archive:
        for path in source.rglob("*.py"):
            archive.write(path, path.relative_to(source.parent))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "runtime.zip")}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert tuple(done.stdout.split()) == engines._known()
