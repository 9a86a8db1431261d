"""Where the campaigns of model files start: good ones of each format, and files of other kinds."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import json
import lzma
import zipfile
import zlib
from functools import cache

import numpy as np

from tools.fuzz import seeds

__all__ = ["hdf5_files", "keras_configs", "keras_files", "models", "saved_models", "sources", "torch_archives"]

DATA = seeds.ROOT / "tests" / "data"


def models() -> list[bytes]:
    """Return small TFLite models."""
    paths = [*sorted((DATA / "engines").glob("*.tflite")), DATA / "tiny" / "matmul.tflite"]
    return [path.read_bytes() for path in paths]


def keras_configs() -> list[bytes]:
    """Return the description of layers in a Keras file."""
    dense = {
        "class_name": "Dense",
        "module": "keras.layers",
        "registered_name": None,
        "config": {"name": "d", "units": 2},
    }
    bad = {"class_name": "Lambda", "config": {"name": "l", "function": {"class_name": "__lambda__"}}}
    return [
        json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": [dense]}}).encode(),
        json.dumps([bad, {"class_name": "p>Own"}]).encode(),
    ]


def keras_files() -> list[bytes]:
    """Return .keras archives."""
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            archive.writestr("config.json", keras_configs()[0])
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5", _weights())
        found.append(file.getvalue())
    return found


@cache
def _weights() -> bytes:
    if importlib.util.find_spec("h5py") is None:
        return b"\x89HDF\r\n\x1a\n"
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made["layers/d/vars/0"] = np.ones((2, 2), np.float32)
    return file.getvalue()


def hdf5_files() -> list[bytes]:
    """Return HDF5 files with a Keras model's description, as h5py writes it, in each type it may have."""
    import h5py

    found = []
    text = keras_configs()[0]
    for value in (text, text.decode(), np.bytes_(text), 7, np.ones(2), h5py.Empty("f4")):
        for library in ("earliest", "latest"):
            file = io.BytesIO()
            with h5py.File(file, "w", libver=library) as made:
                made.attrs["model_config"] = value
            found.append(file.getvalue())
    return found


def saved_models() -> list[bytes]:
    """Return the first file of a SavedModel: a version, and a graph of no content."""
    return [bytes.fromhex("0801 1200"), bytes.fromhex("0801 1203 0a01 41 1200"), bytes.fromhex("1200")]


def sources() -> list[bytes]:
    """Return model files of each format that is told from its first bytes, and files of other kinds."""
    hdf5 = b"\x89HDF\r\n\x1a\n\0" + bytes(31) + (100).to_bytes(8, "little") + b"model_config" + bytes(60)
    onnx = bytes.fromhex("0807 3a08 0a00 1204 67727068 4204 0a00 100d")
    other = [b"\x89PNG\r\n\x1a\n", b"a text\n", b"\x80\x04K\x01.", bytes(8) + b'{"', seeds.datasets()[0]]
    return [*models()[:3], *keras_files(), hdf5, onnx, *_onnx_with_weights_beside(), *_pickles(), *other]


def _field(number: int, content: bytes) -> bytes:
    """Return a protobuf field of bytes, shorter than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def _onnx_with_weights_beside() -> list[bytes]:
    """Return ONNX models whose weights are in `weights.bin`: in the graph, and in a node's attribute."""
    told = {b"location": b"weights.bin", b"offset": b"0", b"length": b"8"}
    tensor = b"".join(_field(13, _field(1, key) + _field(2, value)) for key, value in told.items())
    graphs = _field(5, tensor), _field(1, _field(5, _field(5, tensor)))
    return [b"\x08\x07" + _field(7, graph + _field(12, b"")) + _field(8, b"\x10\x0d") for graph in graphs]


def _pickles() -> list[bytes]:
    """Return what scikit-learn and PyTorch write, as far as it is looked at: packed in each way, and in zip files."""
    one = b"\x80\x02csklearn.linear_model._base\nLinearRegression\n)\x81."
    packed = [zlib.compress(one), gzip.compress(one, mtime=0), bz2.compress(one), lzma.compress(one)]
    tensor = b"\x80\x02ccollections\nOrderedDict\n)Rctorch._utils\n_rebuild_tensor_v2\n."
    archives: list[dict[str, bytes]] = [
        {"schema.json": b'{"__module__": "sklearn.linear_model"}'},
        {"net/data.pkl": tensor, "net/version": b"3"},
        {"net/data.pkl": tensor, "net/constants.pkl": b"", "net/code/a.py": b""},
        {"net/archive_format": b"pt2", "net/models/model.json": b"{}"},
        {"serialized_exported_program.json": b"{}"},
    ]
    old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}q\x00." + tensor
    return [one, *packed, lzma.compress(one, lzma.FORMAT_ALONE), old, *map(_zipped, archives)]


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def torch_archives() -> list[bytes]:
    """Return members of PyTorch's archives, after a byte that says which: a graph, a list of weights, code."""
    tree = '[1, {"type": "builtins.tuple", "context": null, "children_spec": [{"type": null, "children_spec": []}]}]'
    node = {
        "target": "torch.ops.aten.add.Tensor",
        "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
        "metadata": {"stack_trace": "a text"},
    }
    shape = {"as_expr": {"expr_str": "Add(Mul(Integer(2), Symbol('s77', positive=True)), Integer(-1))"}}
    program = {
        "graph_module": {
            "graph": {"nodes": [node], "tensor_values": {"x": {"dtype": 7, "sizes": [shape]}}},
            "module_call_graph": [{"fqn": "", "signature": {"in_spec": tree}}],
        },
        "range_constraints": {"s77": {"min_val": 2}},
        "torch_version": "2.13.0+cpu",
    }
    weights = {"config": {"a.w": {"path_name": "weight_0", "use_pickle": False}}}
    return [
        b"g" + json.dumps(program).encode(),
        b"w" + json.dumps(weights).encode(),
        b"c" + b"def forward(self, x):\n  return torch.add(x, self.w)\n",
    ]
