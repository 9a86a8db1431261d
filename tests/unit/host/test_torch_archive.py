"""An exported program is read before PyTorch reads it: what could execute in it is refused or left out."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgepack.converters._torch_archive import harmless_export, pickled_members, plain_copy, refuse_file_access
from edgepack.errors import ConversionError

# What torch.export.save of PyTorch 2.13 wrote for lambda x: x + w, shortened.
PROGRAM: dict[str, Any] = {
    "graph_module": {
        "graph": {
            "inputs": [{"as_tensor": {"name": "b_w"}}, {"as_tensor": {"name": "x"}}],
            "outputs": [{"as_tensor": {"name": "add"}}],
            "nodes": [
                {
                    "target": "torch.ops.aten.add.Tensor",
                    "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
                    "outputs": [{"as_tensor": {"name": "add"}}],
                    "metadata": {"stack_trace": 'File "net.py", line 3, in forward\n    return x + self.w'},
                }
            ],
            "tensor_values": {
                "x": {"dtype": 7, "sizes": [{"as_expr": {"expr_str": "2*s77", "hint": {"as_int": 8}}}]}
            },
        },
        "signature": {
            "input_specs": [{"buffer": {"arg": {"name": "b_w"}, "buffer_name": "a.w"}}],
            "output_specs": [],
        },
        "module_call_graph": [
            {"fqn": "", "signature": {"in_spec": '[1, {"type": null, "context": null, "children_spec": []}]'}}
        ],
    },
    "range_constraints": {"s77": {"min_val": 2, "max_val": 9}},
    "torch_version": "2.13.0+cpu",
    "guards_code": ["L['x'].size()[0] == 4"],
}
WEIGHTS = {"config": {"a.w": {"path_name": "weight_0", "is_param": False, "use_pickle": False}}}


def saved(path: Path, program: Mapping[str, Any] = PROGRAM, **more: object) -> Path:
    members: dict[str, object] = {
        "m/models/model.json": program,
        "m/data/weights/model_weights_config.json": WEIGHTS,
        "m/data/weights/weight_0": bytes(16),
        "m/data/sample_inputs/model.pt": b"a pickle",
        "m/archive_format": b"pt2",
        **more,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


def copied(source: Path) -> dict[str, bytes]:
    folder = source.parent / "scratch"
    folder.mkdir()
    with zipfile.ZipFile(harmless_export(source, folder)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(place: str, value: object) -> dict[str, Any]:
    """Return the program with another value at `place`, keys and indices with slashes between."""
    program = copy.deepcopy(PROGRAM)
    *way, last = [int(key) if key.isdigit() else key for key in place.split("/")]
    inner: Any = program
    for key in way:
        inner = inner[key]
    inner[last] = value
    return program


def test_tensors_are_copied_as_they_are(tmp_path: Path) -> None:
    assert copied(saved(tmp_path / "m.pt2"))["m/data/weights/weight_0"] == bytes(16)


def test_the_graph_is_copied_without_python_source(tmp_path: Path) -> None:
    program = json.loads(copied(saved(tmp_path / "m.pt2"))["m/models/model.json"])
    assert program["guards_code"] == []
    assert program["graph_module"]["graph"]["nodes"][0]["metadata"] == {}
    assert program["graph_module"]["graph"]["nodes"][0]["target"] == "torch.ops.aten.add.Tensor"


def test_the_pickled_sample_is_left_out(tmp_path: Path) -> None:
    assert copied(saved(tmp_path / "m.pt2"))["m/data/sample_inputs/model.pt"] == b""


def test_compiled_code_beside_the_graph_is_left_out(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.pt2", **{"m/data/aotinductor/model/code.so": b"\x7fELF"})
    assert not [name for name in copied(source) if "aotinductor" in name]


def test_pickles_of_older_layouts_are_handed_to_the_strict_unpickler(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.pt2", **{"m/data/constants/model.pt": b"constants"})
    (tmp_path / "scratch").mkdir()
    assert pickled_members(harmless_export(source, tmp_path / "scratch")) == [b"constants"]


NODE = "graph_module/graph/nodes/0/"
SHAPE = "graph_module/graph/tensor_values/x/sizes/0/as_expr/expr_str"
HOSTILE = {
    "a function of another library": (NODE + "target", "torch.os.system", "none of PyTorch's own operators"),
    "an operator that opens files": (NODE + "target", "torch.ops.aten.from_file.default", "none of PyTorch's own"),
    "a function that calls functions": (NODE + "target", "_operator.call", "none of PyTorch's own"),
    "a branch": (NODE + "target", "torch.ops.higher_order.cond", "decides while it runs"),
    "code in a shape": (SHAPE, "__import__('os').system('true')", "where a plain name belongs"),
    "an attribute in a shape": (SHAPE, "s77.__class__", "where a plain name belongs"),
    "another function in a shape": (SHAPE, "lambdify(s77)", "where a plain name belongs"),
    "a text in a shape": (SHAPE, "Max('a.b', s77)", "where a plain name belongs"),
    "code in a tensor's name": (NODE + "outputs/0/as_tensor/name", "a=print(1)", "where a plain name belongs"),
    "code in an argument's name": (NODE + "inputs/0/name", "a,\n**{}", "where a plain name belongs"),
    "code in a key": ("range_constraints", {"print(1)": {}}, "where a plain name belongs"),
    "an object of C++": ("graph_module/graph/inputs/0", {"as_custom_obj": {"name": "o"}}, "custom class"),
    "a type that imports modules": (
        "graph_module/module_call_graph/0/signature/in_spec",
        '[1, {"type": "collections.defaultdict", "context": "os", "children_spec": []}]',
        "defaultdict",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_text_that_pytorch_would_execute_is_refused(tmp_path: Path, what: str) -> None:
    place, value, reason = HOSTILE[what]
    with pytest.raises(ConversionError, match=reason):
        copied(saved(tmp_path / "m.pt2", changed(place, value)))


@pytest.mark.parametrize(
    "payload",
    [{"path_name": "weight_0", "use_pickle": True}, {"path_name": "opaque_obj_0"}, {"path_name": "custom_obj_0"}, 7],
)
def test_a_constant_that_would_be_unpickled_is_refused(tmp_path: Path, payload: object) -> None:
    table = {"config": {"a.w": payload}}
    with pytest.raises(ConversionError, match=r"'a\.w' in the exported program is a pickled Python object"):
        copied(saved(tmp_path / "m.pt2", **{"m/data/weights/model_weights_config.json": table}))


# PyTorch finds a member of an archive whatever the case of its name.


def test_a_pickled_constant_is_refused_whatever_the_case_of_its_lists_name(tmp_path: Path) -> None:
    payload = {"path_name": "weight_0", "use_pickle": True}
    members = {"m/data/weights/model_WEIGHTS_config.JSON": {"config": {"a.w": payload}}}
    with pytest.raises(ConversionError, match="is a pickled Python object"):
        copied(saved(tmp_path / "net.pt2", **members))


def test_a_program_is_read_whatever_the_case_of_its_name(tmp_path: Path) -> None:
    members = {"m/MODELS/other.JSON": changed("graph_module/graph/nodes/0/target", "os.system")}
    with pytest.raises(ConversionError, match=r"calls 'os\.system'"):
        copied(saved(tmp_path / "net.pt2", **members))


def test_a_pickle_is_handed_to_the_strict_unpickler_whatever_the_case_of_its_name(tmp_path: Path) -> None:
    source = saved(tmp_path / "net.pt2", **{"m/data/constants/Tensor_0.PT": b"a pickle"})
    assert pickled_members(source) == [b"a pickle"]


@pytest.mark.parametrize("name", ["net/CODE/__torch__.py", "net/code/__torch__.PY", "net/Code/a/B.Py"])
def test_torchscript_is_read_whatever_the_case_of_its_name(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/code/decoy.py", b"")
        archive.writestr(name, b"torch.save(x, 'f')")
    with pytest.raises(ConversionError, match="opens files"):
        refuse_file_access(tmp_path / "net.pt")


def two_tables(first: bytes, second: bytes) -> bytes:
    """Return a zip file whose end points at the first table of contents, and has the second one before it."""

    def parts(code: bytes) -> tuple[bytes, bytes, bytes]:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(zipfile.ZipInfo("net/code/a.py"), code)
        whole = stream.getvalue()
        end = whole.rindex(b"PK\5\6")
        size, offset = struct.unpack_from("<II", whole, end + 12)
        return whole[:offset], whole[offset : offset + size], whole[end:]

    content, table, end = parts(first)
    other, other_table, _ = parts(second)
    # Python takes what lies between for something put before the archive, and adds it to every offset.
    assert len(other) == len(content)
    return content + table + other + other_table + end


def test_what_pytorch_gets_is_what_was_read(tmp_path: Path) -> None:
    hidden, shown = b"torch.save(x, 'f')", b"torch.add(x, 1  )#"
    (tmp_path / "net.pt").write_bytes(two_tables(hidden, shown))
    folder = tmp_path / "scratch"
    folder.mkdir()
    copy = plain_copy(tmp_path / "net.pt", folder).read_bytes()
    assert hidden not in copy
    assert copy.count(shown) == copy.count(b"PK\1\2") == 1


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.pt2")
    with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("m/models/model.json", "{}")
    with pytest.raises(ConversionError, match="the same name"):
        copied(source)


@pytest.mark.parametrize(
    "shape",
    [
        "s77",
        "2*s77 + 1",
        "Max(1, s0//2)",
        "FloorDiv(s0 - 1, 2)",
        "-u0",
        "Eq(s0, 3)",
        "Add(Symbol('s40', positive=True, integer=True), Integer(-1))",
    ],
)
def test_shapes_that_pytorch_writes_pass(tmp_path: Path, shape: str) -> None:
    assert copied(saved(tmp_path / "m.pt2", changed(SHAPE, shape)))


def scripted(path: Path, code: bytes) -> Path:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net/code/__torch__.py", code)
    path.write_bytes(stream.getvalue())
    return path


OPENING_FILES = (
    b"torch.save(x, 'f')",
    b"torch . save (x)",
    b"ops.aten.from_file('f')",
    b"torch.\\\n  load('f')",
    b"(torch.save)(x, 'f')",
    b"(torch. # a remark\n save)(x, 'f')",
    b"x\n  t = torch\n  t.save(x, 'f')",
    b"x\n  f = torch.save\n  f(x, 'f')",
    b"getattr(torch, 'save')(x, 'f')",
    b"getattr(torch, 'sa' \"ve\")(x, 'f')",
    b"getattr(torch, '\\163ave')(x, 'f')",
    b"getattr(torch, 'save'",
    b"""x\n  \"\"\"a"'\"\"\"\n  torch.save(x, 'f')\n  "'\"""",
    b"""x # type: \"\"\"\n  \"\"\"\n  torch.save(x, 'f')\n  # \"\"\"""",
    b"x # don't",
)


@pytest.mark.parametrize("code", OPENING_FILES)
def test_torchscript_that_opens_files_is_refused(tmp_path: Path, code: bytes) -> None:
    with pytest.raises(ConversionError, match="opens files"):
        refuse_file_access(scripted(tmp_path / "net.pt", b"def forward(self, x):\n  return " + code))


COMPUTING = (
    b"torch.add(self.saved(x), x)",
    b"getattr(self.layers, '0')(x)",
    b'(getattr(self.layers, "0")).forward(x, )',
    b"torch.add(x, load)  # torch.save(x)",
    b"annotate(str, '.save(')",
)


@pytest.mark.parametrize("code", COMPUTING)
def test_torchscript_that_only_computes_passes(tmp_path: Path, code: bytes) -> None:
    refuse_file_access(scripted(tmp_path / "net.pt", b"def forward(self, x):\n  return " + code))
