"""Zip files that are damaged or ask for too much: one typed line, whatever zipfile makes of them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepack.converters._keras_config import refuse_code
from edgepack.dataset import load_dataset
from edgepack.errors import DatasetError, SourceModelError
from edgepack.source import detect


def archive(path: Path, kind: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", kind) as made:
        for name, data in members.items():
            made.writestr(name.replace("_", "."), data)
    return path


def change(path: Path, before: bytes, after: bytes) -> Path:
    """Replace the last occurrence: zip directories stand at the end."""
    data = path.read_bytes()
    at = data.rindex(before)
    path.write_bytes(data[:at] + after + data[at + len(before) :])
    return path


CONFIG = b'{"class_name": "Sequential", "config": {"layers": []}}' * 40


# Found by tools/fuzz: NotImplementedError: zip file version 9.3.
def test_a_zip_file_of_a_later_version_is_no_model(tmp_path: Path) -> None:
    path = change(archive(tmp_path / "m.keras", config_json=CONFIG), b"PK\1\2\x14\3\x14", b"PK\1\2\x14\3\x5d")
    with pytest.raises(SourceModelError, match=r"truncated or damaged zip file"):
        detect(path)


# Found by tools/fuzz: zlib.error: invalid distance too far back.
def test_a_keras_file_whose_compressed_bytes_are_damaged_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", config_json=CONFIG)
    data = bytearray(path.read_bytes())
    start = 30 + len("config.json")
    data[start : start + 8] = bytes.fromhex("ffffffffffffffff")
    path.write_bytes(bytes(data))
    with pytest.raises(SourceModelError, match=r"the Keras file cannot be read"):
        refuse_code(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", config_json=CONFIG)
    path = change(path, b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")
    with pytest.raises(SourceModelError, match=r"the Keras file cannot be read: .*encrypted"):
        refuse_code(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_zipfile_unpacks_without_bounds_is_refused(tmp_path: Path, kind: int) -> None:
    array = io.BytesIO()
    np.save(array, np.ones(3, np.float32))
    with pytest.raises(DatasetError, match=r"array 'x' is packed in a way numpy never writes"):
        load_dataset(archive(tmp_path / "d.npz", kind, x_npy=array.getvalue()), "calibration")
    with pytest.raises(SourceModelError, match=r"packed in a way Keras never writes"):
        refuse_code(archive(tmp_path / "m.keras", kind, config_json=CONFIG))


# Found by tools/fuzz: room for 2 GiB was made before a byte was read.
def test_a_member_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", zipfile.ZIP_STORED, config_json=CONFIG)
    path = change(path, len(CONFIG).to_bytes(4, "little") * 2, (60 << 20).to_bytes(4, "little") * 2)
    with pytest.raises(SourceModelError, match=r"packed in a way Keras never writes"):
        refuse_code(path)
