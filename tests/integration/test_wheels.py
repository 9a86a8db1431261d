"""The two wheels as pip builds and installs them, in environments of their own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, ROOT / "runtime"):
        # No build isolation: hatchling is pinned in the development environment, and nothing is downloaded.
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
             "--disable-pip-version-check", "-w", str(folder), str(source)],
            check=True,
        )  # fmt: skip
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_runtime_wheel_holds_the_runtime_alone(wheels):
    tops = {name.split("/")[0] for name in names(wheels["edgepack_runtime"])}
    assert tops == {"edgepack_runtime", "edgepack_runtime-0.1.0.dist-info"}


def test_the_runtime_wheel_stays_under_120_kb(wheels):
    assert wheels["edgepack_runtime"].stat().st_size <= 120_000


def test_the_runtime_wheel_has_every_module_that_the_checkout_has(wheels):
    package = ROOT / "runtime" / "edgepack_runtime"
    mine = {f"edgepack_runtime/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    inside = [name for name in names(wheels["edgepack_runtime"]) if name.endswith(".py")]
    assert (set(inside), len(inside)) == (mine, len(mine))


def test_the_modules_in_the_runtime_wheel_do_the_same_on_the_same_lines(wheels):
    differing = []
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".py")):
            source = (ROOT / "runtime" / name).read_text()
            if statements(archive.read(name).decode()) != statements(source):
                differing.append(name)
    assert differing == []


def test_the_runtime_wheel_still_says_what_public_things_give(wheels):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        session = ast.parse(archive.read("edgepack_runtime/session.py"))
    told = {node.name: ast.get_docstring(node) for node in session.body if isinstance(node, ast.FunctionDef)}
    assert told["open_bundle"] == (
        "Return a session of the bundle at `path`, verified, decrypted into memory and loaded."
    )


def test_the_runtime_wheel_still_says_what_public_things_take(wheels):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        session = ast.parse(archive.read("edgepack_runtime/session.py"))
    (opened,) = [node for node in session.body if getattr(node, "name", "") == "open_bundle"]
    assert ast.unparse(opened.args).startswith("path: str | Path, *, device: Device")


def test_functions_that_no_application_imports_carry_no_types(wheels):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        text = archive.read("edgepack_runtime/latency.py").decode()
    assert not any(node.annotation for node in ast.walk(ast.parse(text)) if isinstance(node, ast.arg))


def test_no_dataclass_in_the_runtime_wheel_has_to_write_its_docstring_at_import(wheels):
    without, looked_at = [], 0
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".py")):
            tree = ast.parse(archive.read(name))
            imports = [
                node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
            ]
            # `edgepack_runtime._data` writes none.
            if "dataclass" in {alias.name for node in imports for alias in node.names}:
                classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.decorator_list]
                looked_at += len(classes)
                without += [node.name for node in classes if not ast.get_docstring(node)]
    assert (looked_at > 0, without) == (True, [])


def test_the_runtime_wheel_lists_the_names_that_others_look_up(wheels):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        for name in ("__init__", "errors"):
            assert "\n__all__=[" in archive.read(f"edgepack_runtime/{name}.py").decode()


class Untyped(ast.NodeTransformer):
    """Takes out what a type checker alone reads, and what stands at another place with other names: the imports."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None or isinstance(node.parent, ast.ClassDef):
            return node
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return None if isinstance(node.parent, ast.Module) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if isinstance(node.parent, ast.Module):
            return None
        # How far up it looks is for `test_no_module_in_the_runtime_wheel_misses_a_name`.
        node.module, node.level = (node.module or "").removeprefix("edgepack_runtime").removeprefix("."), 0
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        return None if ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse else node


def statements(source: str) -> str:
    """Return all that a module does, with its line numbers, and nothing of docstrings, types and its imports."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    # Nothing reads it, but of the two modules that keep it.
    tree.body = [node for node in tree.body if not ast.unparse(node).startswith("__all__ = ")]
    Untyped().visit(tree)
    for node in ast.walk(tree):
        # What stands behind a type that was left out begins earlier in its line.
        for column in {"col_offset", "end_col_offset"} & set(node._attributes):
            setattr(node, column, 0)
        if isinstance(node, ast.arg):
            node.annotation = None
            node.end_lineno = 0
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
            if not node.body:
                # Where it ends is where its docstring ended.
                node.end_lineno = node.end_col_offset = 0
    return ast.dump(tree, include_attributes=True)


MISSING = """
import builtins, dis, importlib, pkgutil, types
import edgepack_runtime as package


def used(code):
    for line in dis.get_instructions(code):
        if line.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            yield line.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from used(inner)


print(package.__file__)
for found in pkgutil.walk_packages(package.__path__, "edgepack_runtime."):
    module = importlib.import_module(found.name)
    for name in sorted(set(used(module.__loader__.get_code(found.name)))):
        in_a_class = any(name in vars(kind) for kind in vars(module).values() if isinstance(kind, type))
        if not (hasattr(module, name) or hasattr(builtins, name) or in_a_class):
            print(found.name, name)
"""


def test_no_module_in_the_runtime_wheel_misses_a_name(wheels, tmp_path):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        archive.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", MISSING]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    # What was taken for an import that only a type checker needs.
    assert done.stdout.split() == [str(tmp_path / "edgepack_runtime" / "__init__.py")], done.stderr


TYPES = """
import dataclasses, importlib, typing
for module in map(importlib.import_module, MODULES):
    for kind in [kind for kind in vars(module).values() if dataclasses.is_dataclass(kind)]:
        typing.get_type_hints(kind, localns={"Array": object})
    print(module.__name__)
"""
# A build sends their dataclasses from process to process, and reads the types of the fields.
SENT = [
    f"edgepack_runtime.{name}" for name in ("golden", "manifest", "processing", "profile", "tensors", "prediction")
]


def test_dataclasses_in_the_runtime_wheel_can_be_sent_from_process_to_process(wheels, tmp_path):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        archive.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", TYPES.replace("MODULES", repr(SENT))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == SENT, done.stderr


def test_the_runtime_wheel_carries_the_models_that_engines_are_tried_on(wheels):
    assert "edgepack_runtime/probe_models.bin" in names(wheels["edgepack_runtime"])


def test_the_runtime_wheel_needs_only_numpy_and_cryptography(wheels):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        text = archive.read("edgepack_runtime-0.1.0.dist-info/METADATA").decode()
    needs = [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert sorted(line.split()[1].split(">")[0] for line in needs) == ["cryptography", "numpy"]


def test_the_host_wheel_carries_profiles_lock_files_and_data(wheels):
    inside = names(wheels["edgepack"])
    for wanted in (
        "edgepack/device_profiles/raspberry-pi-4.toml",
        "edgepack/toolchains/onnx.txt",
        "edgepack/data/op_versions.csv",
    ):
        assert wanted in inside


def test_the_host_wheel_needs_no_framework(wheels):
    with zipfile.ZipFile(wheels["edgepack"]) as archive:
        text = archive.read("edgepack-0.1.0.dist-info/METADATA").decode()
    needs = [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not [line for line in needs if "tensorflow" in line or "onnx" in line or "torch" in line]


def test_the_runtime_imports_alone_and_the_sdk_does_not(wheels, tmp_path):
    with zipfile.ZipFile(wheels["edgepack_runtime"]) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import edgepack_runtime\n"
        "try:\n    import edgepack\nexcept ImportError:\n    print('alone')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alone", done.stderr
