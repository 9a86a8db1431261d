"""Files that would have their reader read, run or fetch something else: told apart without doing any of it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack._sklearnfile import is_sklearn_pickle
from edgepack.errors import ConversionError, DatasetError, SourceModelError
from edgepack.inputs import read_inputs
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter
from edgepack.source import detect


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tensor(**told: str) -> bytes:
    """Return a TensorProto whose weights are said to be elsewhere."""
    pairs = b"".join(field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in told.items())
    return field(1, 4) + field(2, 1) + field(8, b"w") + pairs + field(14, 1)


def onnx_model(graph: bytes) -> bytes:
    return field(1, 8) + field(7, graph + field(12, field(1, b"y"))) + field(8, field(2, 17))


def with_weights(**told: str) -> bytes:
    return onnx_model(field(5, tensor(**told)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"s" * 64)
    place = tmp_path / "model"
    place.mkdir()
    return place


# ONNX: weights elsewhere


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "weights/../../secret",
        "/etc/passwd",
        "./weights.bin",
        "weights//x",
        "..",
        "",
        "..\\secret",
        "C:\\secret",
        "we\nights",
    ],
)
def test_weights_may_not_be_taken_from_outside_the_models_folder(folder: Path, location: str) -> None:
    (folder / "m.onnx").write_bytes(with_weights(location=location))
    with pytest.raises(SourceModelError, match=r"it takes weights from .*, which is not beside it"):
        detect(folder / "m.onnx")


def test_a_link_beside_the_model_may_not_lead_elsewhere(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("../secret")
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin"))
    with pytest.raises(SourceModelError, match=r"takes weights from 'weights.bin', a link to .*secret"):
        detect(folder / "m.onnx")


def test_a_folder_that_is_a_link_may_not_lead_elsewhere(folder: Path) -> None:
    (folder / "weights").symlink_to("..")
    (folder / "m.onnx").write_bytes(with_weights(location="weights/secret"))
    with pytest.raises(SourceModelError, match=r"takes weights from 'weights/secret', a link to"):
        detect(folder / "m.onnx")


def constant_of_a_node(inner: bytes) -> bytes:
    return field(1, field(2, b"c") + field(4, b"Constant") + field(5, field(1, b"value") + field(5, inner)))


def in_a_branch(inner: bytes) -> bytes:
    return field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, field(5, inner))))


@pytest.mark.parametrize("place", [constant_of_a_node, in_a_branch, lambda t: field(15, field(1, t))])
def test_weights_are_looked_for_wherever_a_tensor_can_be(folder: Path, place) -> None:
    (folder / "m.onnx").write_bytes(onnx_model(place(tensor(location="../secret"))))
    with pytest.raises(SourceModelError, match=r"takes weights from '../secret'"):
        detect(folder / "m.onnx")


def test_weights_in_a_function_are_looked_for_too(folder: Path) -> None:
    function = field(25, field(1, b"f") + field(7, field(5, field(5, tensor(location="../secret")))))
    (folder / "m.onnx").write_bytes(onnx_model(b"") + function)
    with pytest.raises(SourceModelError, match=r"takes weights from '../secret'"):
        detect(folder / "m.onnx")


def test_a_missing_weights_file_is_named(folder: Path) -> None:
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin"))
    with pytest.raises(SourceModelError, match=r"its weights file 'weights.bin' is missing in"):
        detect(folder / "m.onnx")


def test_a_truncated_weights_file_is_refused_with_both_sizes(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(10))
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin", offset="4", length="8"))
    with pytest.raises(SourceModelError, match=r"'weights.bin' is truncated: it needs 12 bytes, the file has 10"):
        detect(folder / "m.onnx")


@pytest.mark.parametrize("told", [{"offset": "-1"}, {"length": "1e9"}, {"length": "9" * 30}, {"offset": "٣"}])
def test_a_place_in_the_weights_file_is_a_number(folder: Path, told: dict[str, str]) -> None:
    (folder / "weights.bin").write_bytes(bytes(10))
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin", **told))
    with pytest.raises(SourceModelError, match=r"damaged ONNX model: weights at"):
        detect(folder / "m.onnx")


def test_weights_beside_the_model_are_part_of_it(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(8))
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin", length="8"))
    assert detect(folder / "m.onnx").parts == ((folder / "weights.bin").resolve(),)


def test_the_digest_of_a_model_with_weights_beside_it_is_what_sha256sum_lists(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(8))
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin"))
    text = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in ("m.onnx", "weights.bin")
    )
    assert detect(folder / "m.onnx").digest == hashlib.sha256(text.encode()).hexdigest()


def test_other_weights_are_another_model(folder: Path) -> None:
    (folder / "m.onnx").write_bytes(with_weights(location="weights.bin"))
    (folder / "weights.bin").write_bytes(bytes(8))
    before = detect(folder / "m.onnx").digest
    (folder / "weights.bin").write_bytes(b"\1" * 8)
    assert detect(folder / "m.onnx").digest != before


def test_graphs_inside_graphs_without_end_are_refused(folder: Path) -> None:
    graph = tensor(location="weights.bin")
    for _ in range(40):
        graph = in_a_branch(graph) if graph.startswith(b"\x0a") else field(1, field(5, field(6, field(5, graph))))
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))
    (folder / "m.onnx").write_bytes(onnx_model(graph))
    with pytest.raises(SourceModelError, match=r"graphs inside graphs without end"):
        detect(folder / "m.onnx")


# SavedModel: links


def saved_model(folder: Path) -> Path:
    (folder / "saved_model.pb").write_bytes(field(1, 1) + field(2, field(2, b"graph")))
    (folder / "variables").mkdir()
    return folder


def test_a_file_of_a_saved_model_may_not_be_a_link_to_elsewhere(folder: Path) -> None:
    (saved_model(folder) / "variables" / "x").symlink_to("../../secret")
    with pytest.raises(SourceModelError, match=r"variables/x is a link to .*secret"):
        detect(folder)


def test_a_folder_of_a_saved_model_may_not_be_a_link(folder: Path) -> None:
    (saved_model(folder) / "assets").symlink_to("variables")
    with pytest.raises(SourceModelError, match=r"assets is a link to"):
        detect(folder)


def test_a_link_inside_a_saved_model_is_read_as_the_file_it_is(folder: Path) -> None:
    (saved_model(folder) / "variables" / "x").write_bytes(b"weights")
    (folder / "y").symlink_to("variables/x")
    assert detect(folder).format == "saved_model"


def test_a_pipe_in_a_saved_model_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(saved_model(folder) / "pipe")
    with pytest.raises(SourceModelError, match="pipe is no file"):
        detect(folder)


def test_a_link_to_nothing_in_a_saved_model_is_refused(folder: Path) -> None:
    (saved_model(folder) / "gone").symlink_to("nothing")
    with pytest.raises(SourceModelError, match="gone is no file"):
        detect(folder)


# scikit-learn: told apart by names in the file


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def sklearn_pickle(marker: Path) -> bytes:
    return pickle.dumps(["sklearn.pipeline", Bomb(marker)])


PACKED = {
    "as it is": bytes,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_pickle_is_told_by_its_names_and_never_unpickled(folder: Path, packed) -> None:
    (folder / "m.joblib").write_bytes(packed(sklearn_pickle(folder / "executed")))
    assert detect(folder / "m.joblib").format == "sklearn"
    assert not (folder / "executed").exists()


def untrusted(model: Path) -> Recipe:
    data, output = model.parent / "no.npz", model.parent / "dist"
    return Recipe(model=model, profiles=("raspberry-pi-4",), calibration=data, output=output, name="m")


def test_a_pickle_nobody_trusts_is_refused_before_any_toolchain_is_made(folder: Path) -> None:
    (folder / "m.joblib").write_bytes(sklearn_pickle(folder / "executed"))
    with pytest.raises(ConversionError, match=r"m\.joblib is a pickle \(joblib\): loading it executes") as caught:
        read_inputs(untrusted(folder / "m.joblib"), Reporter())
    assert "--trust-source" in str(caught.value.hint)


def test_a_skops_file_goes_on_to_its_data(folder: Path) -> None:
    with zipfile.ZipFile(folder / "m.skops", "w") as archive:
        archive.writestr("schema.json", '{"__module__": "sklearn.pipeline"}')
    with pytest.raises(DatasetError, match=r"no\.npz"):
        read_inputs(untrusted(folder / "m.skops"), Reporter())


def test_a_pickle_of_something_else_is_no_model(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps(Bomb(folder / "executed")))
    with pytest.raises(SourceModelError, match=r"it looks like a Python pickle"):
        detect(folder / "m.pkl")
    assert not (folder / "executed").exists()


def test_a_compressed_bomb_costs_no_more_than_its_first_megabyte(folder: Path) -> None:
    import tracemalloc

    bomb = zlib.compress(bytes(200 << 20))
    tracemalloc.start()
    assert not is_sklearn_pickle(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("preset", [3, 8])
def test_a_pickle_in_the_dictionaries_that_are_written_is_told(preset: int) -> None:
    assert is_sklearn_pickle(lzma.compress(b"\x80\x04\x8c\x10sklearn.pipeline.", preset=preset))


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_skops_file_is_told_by_its_schema(folder: Path) -> None:
    schema = b'{"__class__": "Pipeline", "__module__": "sklearn.pipeline"}'
    (folder / "m.skops").write_bytes(zipped(**{"schema.json": schema, "1.npy": b""}))
    assert detect(folder / "m.skops").format == "sklearn"


def test_a_schema_that_unpacks_to_gigabytes_is_not_unpacked(folder: Path) -> None:
    content = bytearray(zipped(**{"schema.json": b"sklearn.pipeline"}))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 1 << 31)
    (folder / "m.skops").write_bytes(content)
    with pytest.raises(SourceModelError, match=r"it looks like a zip archive"):
        detect(folder / "m.skops")


def prefixes() -> Iterator[bytes]:
    yield from (b"\x80\x04", b"\x78\x9c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x5d\x00\x00")


@given(st.sampled_from(list(prefixes())), st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_the_look_at_a_pickle_fail(prefix: bytes, rest: bytes) -> None:
    assert is_sklearn_pickle(prefix + rest) in (True, False)
