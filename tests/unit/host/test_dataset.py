"""Data files from strangers: arrays, or one DatasetError that says what is wrong with which array."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.dataset import bind_feeds, join_feeds, load_dataset, take_samples
from edgepack.errors import DatasetError
from edgepack_runtime.tensors import TensorSpec

IMAGE = TensorSpec(name="image", dtype="float32", shape=(1, 2, 3))
MASK = TensorSpec(name="mask", dtype="int32", shape=(1, 4))
X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "data.npz"


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an .npy file with any header."""
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def refuse(path: Path, data: bytes, complaint: str) -> DatasetError:
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=complaint) as caught:
        load_dataset(path, "calibration")
    assert caught.value.message.startswith(f"calibration data {path}")
    return caught.value


def refuse_arrays(path: Path, complaint: str, **arrays: object) -> None:
    np.savez(path, **arrays)
    refuse(path, path.read_bytes(), complaint)


def test_the_arrays_of_an_npz_are_the_feeds(path):
    np.savez(path, image=X, mask=np.ones((4, 4), np.int32))
    found = load_dataset(path, "calibration")
    assert list(found.feeds) == ["image", "mask"]
    np.testing.assert_array_equal(found.feeds["image"], X)


def test_labels_stand_apart_from_the_feeds(path):
    np.savez(path, image=X, y=[0, 1, 0, 1])
    found = load_dataset(path, "evaluation")
    assert (list(found.feeds), found.labels.tolist(), found.count) == (["image"], [0, 1, 0, 1], 4)


def test_labels_may_be_those_of_single_outputs(path):
    np.savez(path, image=X, **{"y.class": [0, 1, 0, 1], "y.box": np.ones((4, 4))})
    found = load_dataset(path, "evaluation").labels
    assert (list(found), found["class"].tolist(), found["box"].shape) == (["class", "box"], [0, 1, 0, 1], (4, 4))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ({"y": np.ones(4), "y.box": np.ones(4)}, "labels stand under y and y.box; keep one"),
        ({"y.box": np.ones(4), "target.box": np.ones(4)}, "labels stand under y.box and target.box; keep one"),
        ({"y.box": np.full(4, np.nan)}, "the labels 'y.box' hold NaN"),
        ({"y.box": np.array(["a"] * 4)}, "the labels 'y.box' must be numbers"),
        ({"y.box": np.ones(3)}, "different numbers of samples: image 4, labels of box 3"),
    ],
)
def test_labels_of_single_outputs_that_are_wrong_are_refused(path, labels, complaint):
    refuse_arrays(path, complaint, image=X, **labels)


def test_labels_that_are_no_number_are_refused(path):
    refuse_arrays(path, "the labels hold NaN or infinity", image=X, y=np.array([0.5, np.nan, 1, 0]))


@pytest.mark.parametrize(
    ("given", "kept"), [("uint16", "int64"), (">i4", "int64"), (">f4", "float64"), ("i1", "int8")]
)
def test_labels_are_kept_in_a_dtype_that_other_processes_are_told(path, given, kept):
    np.savez(path, image=X, y=np.array([0, 1, 0, 1], given))
    found = load_dataset(path, "evaluation").labels
    assert (found.tolist(), str(found.dtype)) == ([0, 1, 0, 1], kept)


def test_a_compressed_npz_is_read(path):
    np.savez_compressed(path, image=X)
    np.testing.assert_array_equal(load_dataset(path, "calibration").feeds["image"], X)


def test_an_npy_is_the_unnamed_input(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert list(load_dataset(tmp_path / "x.npy", "calibration").feeds) == ["x"]


def test_a_column_major_array_keeps_its_values(path):
    np.savez(path, image=np.asfortranarray(X))
    np.testing.assert_array_equal(load_dataset(path, "calibration").feeds["image"], X)


def test_the_digest_is_the_files_sha256(path):
    np.savez(path, image=X)
    assert load_dataset(path, "calibration").digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_file_is_refused(path):
    with pytest.raises(DatasetError, match=r"calibration data .*data.npz: No such file or directory"):
        load_dataset(path, "calibration")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"not a file"):
        load_dataset(tmp_path, "calibration")


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n", b"PK\x05\x06" + bytes(18)])
def test_another_kind_of_file_is_refused_with_the_way_to_make_one(path, data):
    assert "numpy.savez" in refuse(path, data, r"neither .npz nor .npy \(it starts with").hint


def test_a_truncated_npz_is_refused(path):
    np.savez(path, image=X)
    refuse(path, path.read_bytes()[:-40], r"damaged or no numpy file")


def test_a_truncated_npy_is_refused(path):
    refuse(path, npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", bytes(15)), r"truncated")


def test_a_zip_of_something_else_is_refused(path):
    refuse(path, npz(image=b"hello"), r"damaged or no numpy file")


def test_a_damaged_compressed_array_is_refused(path):
    np.savez_compressed(path, image=X)
    with zipfile.ZipFile(path) as archive, archive.open("image.npy") as member:
        start = member._orig_compress_start
    data = bytearray(path.read_bytes())
    # A block type that deflate does not have.
    data[start] = 0b111
    refuse(path, bytes(data), r"damaged or no numpy file \(Error -3 while decompressing")


def test_python_objects_are_refused_and_never_loaded(path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (path.with_name("exploded"),))

    np.savez(path, image=np.array([Bomb()], dtype=object))
    refuse(path, path.read_bytes(), r"array 'image': holds Python objects")
    assert not path.with_name("exploded").exists()


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ("(1000000000000,)", r"the header claims \[1000000000000\] float32, the file is too short"),
        ("(-1,)", r"truncated|too short|negative|damaged"),
        ("(-2, -2)", r"damaged|negative"),
        ("(4294967296, 4294967296, 0)", r"damaged|no sample"),
        ("(99999999999999999999999, 0)", r"damaged|no sample"),
        ("'four'", r"damaged"),
        ("(1.5,)", r"damaged"),
        ("(" * 300, r"damaged"),
        ("(1,)L", r"damaged"),
    ],
)
def test_a_header_that_lies_about_the_shape_is_refused(path, shape, complaint):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    refuse(path, npz(image=npy(header, bytes(16))), complaint)


@pytest.mark.parametrize("descr", ["'|O'", "'what'", "[('a', '<f4')]", "'<U0'", "'|V0'", "5", "'<M8[s]'", "'<c8'"])
def test_a_header_with_another_kind_of_number_is_refused(path, descr):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (2,)}}"
    refuse(path, npz(image=npy(header, bytes(16))), r"array 'image'|damaged")


def test_a_header_that_claims_gigabytes_is_refused_before_they_are_asked_for(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + (2 << 30).to_bytes(4, "little") + b"{'descr': '<f8'")
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="the header claims to be 2147483648 bytes long, at most 10000"):
            load_dataset(path, "calibration")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_unknown_npy_version_is_refused(path):
    refuse(path, npz(image=npy("{}", version=(9, 0))), r"format \(9, 0\) is not known|damaged")


def test_big_endian_numbers_are_refused(path):
    refuse_arrays(path, r"array 'image' has dtype >f4, known are float32", image=X.astype(">f4"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(path, value):
    array = X.copy()
    array[1, 1, 1] = value
    refuse_arrays(path, r"array 'image' holds NaN or infinity", image=array)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_an_array_without_a_sample_is_refused(path, shape):
    refuse_arrays(path, r"array 'image' holds no sample", image=np.zeros(shape, np.float32))


def test_a_file_with_nothing_but_labels_is_refused(path):
    refuse_arrays(path, r"no input array in it", y=[1, 2])


def test_different_numbers_of_samples_are_refused_with_the_counts(path):
    refuse_arrays(path, r"different numbers of samples: image 4, mask 3", image=X, mask=np.zeros((3, 4), np.int32))


def test_another_number_of_labels_than_samples_is_refused(path):
    refuse_arrays(path, r"image 4, labels 5", image=X, y=np.zeros(5))


def test_two_arrays_of_labels_are_refused(path):
    refuse_arrays(path, r"labels stand under y and labels; keep one", image=X, y=np.zeros(4), labels=np.zeros(4))


@pytest.mark.parametrize("labels", [np.array(["cat"] * 4), np.array(5), np.zeros(4, "datetime64[s]")])
def test_labels_that_are_no_numbers_are_refused(path, labels):
    refuse_arrays(path, r"labels must be numbers", image=X, y=labels)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["image.npy", "image"])
def test_an_array_that_is_there_twice_is_refused(path, second):
    array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(4))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", array)
        archive.writestr(second, array)
    refuse(path, path.read_bytes(), r"two arrays have the same name")


def is_read_or_refused(path: Path) -> bool:
    """Return whether the arrays belong together, or the refusal is one printable line; anything else is raised."""
    try:
        found = load_dataset(path, "calibration")
    except DatasetError as error:
        return error.message.isprintable()
    return found.count > 0 and all(len(array) == found.count for array in found.feeds.values())


def _seed_file() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=X, y=np.arange(4))
    return buffer.getvalue()


def _plain_file() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, image=X[:1], y=np.arange(1))
    return buffer.getvalue()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from([_seed_file(), _plain_file()]), st.data())
def test_mutated_bytes_are_arrays_or_a_dataset_error(path, seed, data):
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(mutated)
    assert is_read_or_refused(path)


HEADERS = st.text("{}[]()':,<>|fiuOVMc0123456789-+.* \\descrshapfotn_\x00", max_size=60)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(HEADERS | HEADERS.map(lambda t: f"{{'descr': {t}, 'fortran_order': False, 'shape': (1,)}}"))
def test_any_header_is_an_array_or_a_dataset_error(path, header):
    path.write_bytes(npy(header, bytes(8)))
    assert is_read_or_refused(path)


# Against the model


def test_feeds_are_bound_in_the_models_order_with_its_batch():
    bound = bind_feeds({"mask": np.zeros((4, 4), np.int32), "image": X}, (IMAGE, MASK), "data")
    assert {name: array.shape for name, array in bound.items()} == {"image": (4, 1, 2, 3), "mask": (4, 1, 4)}


def test_the_order_of_the_bound_feeds_is_the_models():
    bound = bind_feeds({"mask": np.zeros((4, 4), np.int32), "image": X}, (IMAGE, MASK), "data")
    assert list(bound) == ["image", "mask"]


def test_samples_that_carry_the_batch_of_one_are_bound_as_they_are():
    np.testing.assert_array_equal(bind_feeds({"image": X[:, None]}, (IMAGE,), "data")["image"], X[:, None])


def test_an_unnamed_array_is_the_only_input():
    assert list(bind_feeds({"x": X}, (IMAGE,), "data")) == ["image"]


def test_an_unnamed_array_for_two_inputs_is_refused():
    with pytest.raises(DatasetError, match=r"has the arrays \['x'\], the model's inputs are \['image', 'mask'\]"):
        bind_feeds({"x": X}, (IMAGE, MASK), "data")


def test_a_wrong_name_is_refused_with_what_the_model_takes():
    with pytest.raises(DatasetError, match=r"calibration data x.npz: has the arrays \['img'\]") as caught:
        bind_feeds({"img": X}, (IMAGE,), "calibration data x.npz")
    assert "image: float32[1, 2, 3]" in caught.value.hint


def test_a_wrong_dtype_is_refused_with_how_to_change_it():
    with pytest.raises(DatasetError, match=r"array 'image' has dtype uint8, the model takes float32") as caught:
        bind_feeds({"image": X.astype(np.uint8)}, (IMAGE,), "data")
    assert "astype('float32')" in caught.value.hint


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 6), (4,), (4, 2, 3, 1), (4, 2, 2, 3)])
def test_a_wrong_shape_is_refused_with_the_one_expected(shape):
    with pytest.raises(DatasetError, match=r"expected \[2, 3\]"):
        bind_feeds({"image": np.zeros(shape, np.float32)}, (IMAGE,), "data")


def test_calibration_and_evaluation_samples_are_joined_in_this_order():
    joined = join_feeds({"x": X[:1]}, {"x": X[1:]})
    np.testing.assert_array_equal(joined["x"], X)


def test_calibration_alone_is_joined_with_nothing():
    assert join_feeds({"x": X}, None)["x"] is X


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"z": X}, r"name different arrays: \['x'\] and \['z'\]"),
        ({"x": X[:, :1]}, r"array 'x' differs between calibration \(float32\[2, 3\] a sample\)"),
        ({"x": X.astype(np.int8)}, r"evaluation data \(int8\[2, 3\]\)"),
    ],
)
def test_samples_of_different_kinds_are_not_joined(other, complaint):
    with pytest.raises(DatasetError, match=complaint):
        join_feeds({"x": X}, other)


def test_samples_are_taken_from_every_array():
    taken = take_samples({"x": X, "z": X * 2}, np.array([3, 0]))
    np.testing.assert_array_equal(taken["z"], (X * 2)[[3, 0]])


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/tmp"])
def test_what_is_no_file_is_refused_before_it_is_read(path):
    with pytest.raises(DatasetError, match=f"calibration data {path}: not a file"):
        load_dataset(Path(path), "calibration")


def test_a_pipe_without_a_writer_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="not a file"):
        load_dataset(tmp_path / "pipe", "evaluation")
