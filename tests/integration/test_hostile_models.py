"""Models that would run code, or read and write files: refused before any of it runs, bounded if trusted."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import ConversionError, SourceModelError, WorkerError
from edgepack.model import Conversion, ConversionRequest, Export
from edgepack.roads import routes
from edgepack.source import detect
from edgepack.toolchain import ensure, locate
from edgepack.worker import Workplace, run_task, scratch_folder

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parent / "sources"
FEEDS = {"x": np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)}


def made_by(script: str, toolchain: str, folder: Path) -> Path:
    python = ensure(locate(toolchain), offline=False, say=print)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [str(python), "-I", str(SOURCES / script), str(folder), str(folder / "executed")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (folder / "executed").exists()
    return folder


@pytest.fixture(scope="session")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("make_hostile_tensorflow.py", "tensorflow", tmp_path_factory.mktemp("tensorflow"))


@pytest.fixture(scope="session")
def sklearn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("make_hostile_sklearn.py", "sklearn", tmp_path_factory.mktemp("sklearn"))


def files_in(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


def taken(source: Path, *, trusted: bool = False) -> Conversion | Export:
    """Return what the first road makes of a source; nothing may be left where it lies, nor a marker anywhere."""
    found = detect(source)
    road = routes(found.format)[0].roads[0]
    python = ensure(locate(road.toolchain), offline=False, say=print)
    with scratch_folder() as scratch:
        before = files_in(source.parent) | set(Path(tempfile.gettempdir()).iterdir())
        request = ConversionRequest(
            source=source.resolve(), options="{}", feeds=FEEDS, scratch=scratch, parts=found.parts, trusted=trusted
        )
        function, kind = ("export", Export) if road.then else ("convert", Conversion)
        try:
            return run_task(f"{road.module}:{function}", request, kind, Workplace(python=python))
        finally:
            left = {
                path
                for path in (files_in(source.parent) | set(Path(tempfile.gettempdir()).iterdir())) - before
                if path.name == "executed" or source.parent in path.parents
            }
            assert left == set()


REFUSED_KERAS = {
    "lambda.keras": r"layer 'trap' is a Lambda",
    "lambda.h5": r"layer 'trap' is a Lambda",
    "system.keras": r"'system' is of the custom kind",
    "fetch.keras": r"'get_file' is of the custom kind",
    "unsafe.keras": r"'enable_unsafe_deserialization' is of the custom kind",
    "builtin.keras": r"'exec' is of the custom kind",
    "write.keras": r"'write_file' is of the custom kind",
    "traversal.keras": r"holds a member 'assets/\.\./.*executed' that Keras never writes",
    "bomb.keras": r"member 'model.weights.h5' of the Keras file unpacks from \d+ bytes to 314572800",
    "storage.keras": r"model.weights.h5: .* takes its values from '/etc/passwd'",
    "link.keras": r"model.weights.h5: .* is a link to the file '/etc/passwd'",
    "storage.h5": r"storage.h5: .* takes its values from '/etc/passwd'",
}


@pytest.mark.parametrize(("name", "said"), REFUSED_KERAS.items())
def test_a_hostile_keras_file_is_refused_and_nothing_of_it_runs(tensorflow: Path, name: str, said: str) -> None:
    with pytest.raises(ConversionError, match=said) as caught:
        taken(tensorflow / name)
    assert caught.value.hint or "Keras file" in caught.value.message


REFUSED_SAVED_MODELS = {
    "writes": r"\(WriteFile\) reads or writes files",
    "reads": r"\(ReadFile\) reads or writes files",
    "calls_python": r"\(PyFunc\) calls Python functions, which are not in the file",
    "prints": r"\(PrintV2\) opens 'file://.*executed' \(output_stream\)",
    "remaps": r"\(GenerateVocabRemapping\) reads or writes files",
    "samples": r"\(FixedUnigramCandidateSampler\) opens '/etc/passwd' \(vocab_file\)",
}


@pytest.mark.parametrize(("name", "said"), REFUSED_SAVED_MODELS.items())
def test_a_saved_model_that_reaches_out_is_refused_before_it_is_loaded(
    tensorflow: Path, name: str, said: str
) -> None:
    with pytest.raises(ConversionError, match=f"the SavedModel is refused before it is loaded: .*{said}"):
        taken(tensorflow / name)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_saved_model_with_an_operator_of_somebodys_own_is_refused_by_its_node(
    tensorflow: Path, trusted: bool
) -> None:
    said = r"needs the operator 'Swirl' \(node 'turn/BesselI0e'\), which TensorFlow does not have"
    with pytest.raises(ConversionError, match=said) as caught:
        taken(tensorflow / "custom", trusted=trusted)
    assert "standard operators" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["trap.joblib", "packed.joblib", "plain.joblib", "elsewhere.pkl"])
def test_a_pickle_is_refused_without_being_loaded(sklearn: Path, name: str) -> None:
    with pytest.raises(ConversionError, match=r"is a pickle \(joblib\): loading it executes") as caught:
        taken(sklearn / name)
    assert "--trust-source" in str(caught.value.hint)


def test_a_skops_file_with_types_of_others_is_refused(sklearn: Path) -> None:
    with pytest.raises(ConversionError, match=r"holds types it does not vouch for: builtins.print"):
        taken(sklearn / "foreign.skops")


# Trusted: it runs, in the child, which cannot reach the user's files.


def test_a_trusted_lambda_is_converted_and_told(tensorflow: Path) -> None:
    conversion = taken(tensorflow / "harmless.keras", trusted=True)
    assert [note for note in conversion.notes if note.startswith("--trust-source let this run: layer 'twice'")]


def test_a_trusted_lambda_cannot_write_beside_the_model(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match=r"can load the model"):
        taken(tensorflow / "lambda.keras", trusted=True)


@pytest.mark.parametrize("name", ["trap.joblib", "packed.joblib"])
def test_code_in_a_trusted_pickle_cannot_write_beside_the_model(sklearn: Path, name: str) -> None:
    with pytest.raises(ConversionError, match=r"joblib cannot load the file: PermissionError"):
        taken(sklearn / name, trusted=True)


def test_a_trusted_saved_model_cannot_write_beside_itself(tensorflow: Path) -> None:
    with pytest.raises((ConversionError, WorkerError), match=r"[Pp]ermission"):
        taken(tensorflow / "writes", trusted=True)


def test_a_trusted_saved_model_cannot_read_the_users_files(tensorflow: Path, tmp_path: Path) -> None:
    with pytest.raises((ConversionError, WorkerError)):
        taken(tensorflow / "calls_python", trusted=True)


def test_structure_that_leads_out_is_refused_even_if_trusted(tensorflow: Path) -> None:
    with pytest.raises(ConversionError, match=r"takes its values from '/etc/passwd'"):
        taken(tensorflow / "storage.keras", trusted=True)


def test_a_trusted_pickle_is_exported_with_what_lay_beside_it(sklearn: Path) -> None:
    export = taken(sklearn / "plain.joblib", trusted=True)
    assert [spec.name for spec in export.outputs] == ["label", "probabilities"]
    assert export.notes == (
        "--trust-source let this run: the file is a pickle (joblib)",
        "of the file only 'model' is converted; beside it: threshold = 0.6",
    )


def test_a_skops_file_needs_no_trust(sklearn: Path) -> None:
    assert [spec.name for spec in taken(sklearn / "plain.skops").outputs] == ["label", "probabilities"]


def test_a_pickle_of_a_class_that_is_not_there_is_refused_by_the_modules_name(sklearn: Path) -> None:
    with pytest.raises(ConversionError, match=r"the file needs the module 'sklearn.pipelint'"):
        taken(sklearn / "elsewhere.pkl", trusted=True)


# TFLite: indices and sizes that lead out of the file, in the process that reads it.


def test_a_tflite_file_with_an_index_behind_the_end_is_refused(tmp_path: Path) -> None:
    data = bytearray((Path(__file__).parent.parent / "data" / "engines" / "two_by_two.tflite").read_bytes())
    root = int.from_bytes(data[:4], "little")
    data[root : root + 4] = (0x7FFFFFF0).to_bytes(4, "little")
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(SourceModelError, match=r"truncated or damaged TFLite model"):
        detect(tmp_path / "m.tflite")
