"""Sources are told by content; what is no whole model is refused in one line that says what it is."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import SourceModelError
from edgepack.source import detect

DATA = Path(__file__).resolve().parents[2] / "data"
ONNX = (DATA / "mnist" / "model.onnx").read_bytes()
TFLITE = (DATA / "engines" / "two_by_two.tflite").read_bytes()
SAVED_MODEL_PB = bytes.fromhex("0801") + bytes.fromhex("1203") + b"abc"


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return stream.getvalue()


def hdf5(attribute: bytes, *, claimed: int | None = None) -> bytes:
    body = b"\0" * 64 + attribute + b"\0" * 64
    end = 48 + len(body) if claimed is None else claimed
    return b"\x89HDF\r\n\x1a\n" + struct.pack("<BBBBBBBBHHIQQQ", *([0] * 8), 4, 16, 0, 0, 2**64 - 1, end) + body


KERAS = zipped("config.json", "metadata.json", "model.weights.h5")


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(SAVED_MODEL_PB)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"weights")
    return folder


def refusal(path: Path) -> SourceModelError:
    with pytest.raises(SourceModelError) as caught:
        detect(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("content", "expected"),
    [(ONNX, "onnx"), (TFLITE, "tflite"), (KERAS, "keras"), (hdf5(b"model_config"), "keras")],
    ids=["onnx", "tflite", "keras zip", "keras hdf5"],
)
def test_the_content_decides_and_not_the_name(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "model.png"
    path.write_bytes(content)
    assert detect(path).format == expected


def test_a_file_is_known_by_the_sha256_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(ONNX)
    assert detect(path).digest == hashlib.sha256(ONNX).hexdigest()


def test_a_folder_with_saved_model_pb_is_a_saved_model(tmp_path: Path) -> None:
    assert detect(saved_model(tmp_path / "m")).format == "saved_model"


def test_a_folder_is_known_by_its_files_as_sha256sum_lists_them(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    listing = "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    assert detect(folder).digest == hashlib.sha256(listing.encode()).hexdigest()


def test_renaming_a_file_in_a_folder_changes_its_digest(tmp_path: Path) -> None:
    first = detect(saved_model(tmp_path / "a")).digest
    other = saved_model(tmp_path / "b")
    (other / "variables" / "variables.index").rename(other / "variables" / "variables.indey")
    assert detect(other).digest != first


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in str(refusal(tmp_path / "none.onnx"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    assert "empty" in str(refusal(path))


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in str(refusal(tmp_path / "pipe"))


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (pickle.dumps({"weights": [1, 2]}), "a Python pickle"),
        (npz(), r"NumPy arrays \(.npz\)"),
        (zipped("readme.txt"), "a zip archive"),
        (zipped("config.json", "model.weights.h5"), "lacks metadata.json"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML or XML page"),
        ("Größe und so weiter\n".encode(), "text"),
        (b"a" * 4095 + "ü".encode(), "text"),
        (bytes(range(128, 256)), "binary data"),
        (hdf5(b"layer_names"), "without a Keras model"),
    ],
)
def test_a_file_that_is_no_model_is_called_what_it_is(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceModelError, match=kind):
        detect(path)


def test_a_folder_without_a_model_is_refused_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert "notes.txt" in str(refusal(tmp_path))


def test_the_graph_file_of_a_saved_model_leads_to_its_folder(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m")
    assert str(folder) in (refusal(folder / "saved_model.pb").hint or "")


def test_a_saved_model_whose_weights_are_missing_is_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m")
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    assert "incomplete" in str(refusal(folder))


def test_a_truncated_saved_model_is_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "m")
    (folder / "saved_model.pb").write_bytes(SAVED_MODEL_PB[:-1])
    with pytest.raises(SourceModelError, match="truncated SavedModel: it needs 7 bytes, the file has 6"):
        detect(folder)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_onnx_file_is_refused_with_both_sizes(tmp_path: Path, share: float) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(ONNX[: int(len(ONNX) * share)])
    with pytest.raises(SourceModelError, match=r"truncated ONNX model: it needs \d+ bytes, the file has \d+"):
        detect(path)


def test_an_onnx_file_cut_between_two_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    # The last field, opset_import, is six bytes: tag, length, domain and version.
    path.write_bytes(ONNX[:-6])
    assert "operator set" in str(refusal(path))


@pytest.mark.parametrize("lost", [1, 4, 8, 100, 400])
def test_a_truncated_tflite_file_is_refused(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(TFLITE[:-lost])
    assert "truncated" in str(refusal(path))


def test_a_truncated_keras_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(KERAS[:-1])
    assert "truncated" in str(refusal(path))


def test_a_truncated_hdf5_file_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(hdf5(b"model_config", claimed=5000))
    with pytest.raises(SourceModelError, match="it needs 5000 bytes, the file has 188"):
        detect(path)


@given(st.integers(0, len(TFLITE) - 1), st.integers(1, 255))
def test_a_damaged_tflite_file_never_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "m"
    path.write_bytes(TFLITE[:at] + bytes([TFLITE[at] ^ change]) + TFLITE[at + 1 :])
    try:
        found = detect(path).format
    except SourceModelError:
        found = "refused"
    assert found in ("tflite", "refused")


@given(st.binary(min_size=1, max_size=300))
def test_random_bytes_are_never_taken_for_a_model(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "m"
    path.write_bytes(content)
    with pytest.raises(SourceModelError):
        detect(path)
