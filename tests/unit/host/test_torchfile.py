"""PyTorch files are told apart by what is in them, and a pickled object is named and never unpickled."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgepack._torchfile import LEGACY_MAGIC
from edgepack.errors import RecipeError, SourceModelError
from edgepack.inputs import read_inputs
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter
from edgepack.source import detect

# As torch.save writes them: protocol 2, tensors by torch's own functions, storages by a persistent id.
STATE = (
    b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00wq\x02ctorch._utils\n_rebuild_tensor_v2\nq\x03"
    b"((X\x07\x00\x00\x00storageq\x04ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x000q\x06X\x03\x00\x00\x00cpuq\x07K\x01tq"
    b"\x08QK\x00K\x01\x85q\tK\x01\x85q\n\x89ccollections\nOrderedDict\nq\x0b)Rq\x0ctq\rRq\x0es."
)


class Planted:
    """Unpickling it makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("planted",)


def archive(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def legacy(*objects: bytes) -> bytes:
    return b"".join((LEGACY_MAGIC, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), *objects))


KINDS = {
    "torchscript": archive(
        {"net/data.pkl": b"", "net/constants.pkl": b"", "net/code/__torch__.py": b"", "net/version": b"3"}
    ),
    "torch_export": archive({"m/archive_format": b"pt2", "m/models/model.json": b"{}", "m/.data/version": b"6"}),
    "torch_export of PyTorch 2.7": archive({"version": b"8.4", "serialized_exported_program.json": b"{}"}),
    "torch_state": archive({"net/data.pkl": STATE, "net/data/0": bytes(4), "net/version": b"3"}),
    "torch_state of PyTorch 1.5": legacy(STATE, pickle.dumps(["0"], 2), bytes(12)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pytorch_file_is_told_by_what_is_in_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(KINDS[kind])
    assert detect(path).format == kind.split(maxsplit=1)[0]


def refused(path: Path, content: bytes) -> SourceModelError:
    path.write_bytes(content)
    with pytest.raises(SourceModelError) as caught:
        detect(path)
    return caught.value


@pytest.mark.parametrize("wrap", [lambda data: archive({"net/data.pkl": data}), legacy], ids=["zip", "before 1.6"])
def test_a_pickled_object_is_named_and_not_unpickled(tmp_path: Path, wrap, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(tmp_path / "net.pt", wrap(pickle.dumps(Planted(), 2)))
    assert "a pickled PyTorch object (posix.mkdir)" in str(error)
    assert "--module" in (error.hint or "")
    assert not (tmp_path / "planted").exists()


def test_a_name_put_together_by_the_pickle_itself_is_refused(tmp_path: Path) -> None:
    content = archive({"net/data.pkl": pickle.dumps(collections.OrderedDict(a=1), 4)})
    assert "put together while it is loaded" in str(refused(tmp_path / "net.pt", content))


def test_a_pickled_network_is_refused_with_the_way_out(tmp_path: Path) -> None:
    content = archive({"net/data.pkl": b"\x80\x02ctorch.nn.modules.linear\nLinear\nq\x00)\x81q\x01."})
    error = refused(tmp_path / "net.pt", content)
    assert "torch.nn.modules.linear.Linear" in str(error)
    assert "state_dict()" in (error.hint or "")


def test_compiled_code_is_no_network(tmp_path: Path) -> None:
    content = archive({"m/archive_format": b"pt2", "m/data/aotinductor/model/code.so": b"\x7fELF"})
    assert "compiled code for one machine" in str(refused(tmp_path / "net.pt2", content))


def test_a_pytorch_file_cut_inside_its_pickle_is_damaged(tmp_path: Path) -> None:
    assert "damaged PyTorch file" in str(refused(tmp_path / "net.pt", legacy(STATE[:40])))


def test_a_zip_file_with_one_folder_is_not_yet_pytorchs(tmp_path: Path) -> None:
    assert "a zip archive" in str(refused(tmp_path / "net.pt", archive({"net/readme.txt": b"hello"})))


def test_a_state_dict_without_a_module_is_refused_before_any_toolchain_is_made(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(KINDS["torch_state"])
    recipe = Recipe(
        model=path, calibration=tmp_path / "x.npz", profiles=("raspberry-pi-4",), output=tmp_path, name="net"
    )
    with pytest.raises(RecipeError, match="weights without a network") as caught:
        read_inputs(recipe, Reporter())
    assert "--module FILE.py:CLASS" in (caught.value.hint or "")
