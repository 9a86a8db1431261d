"""PyTorch's archives, read before PyTorch does: it unpickles, evaluates and calls what is written in them.

`torch.export.load` falls back to unrestricted pickles, evaluates the text of symbolic shapes as Python, calls
whatever function of `torch` an operator's name leads to, and pastes names into source code. So it gets a copy of
which every text was read first, without what is not needed to compute. A TorchScript file is code in a language
without imports; of that, the functions that write and map files are refused.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from edgepack._zips import DAMAGED, is_bounded
from edgepack.errors import ConversionError

__all__ = ["harmless_export", "pickled_members", "plain_copy", "refuse_file_access"]

_WAY_OUT = "export it again where its code is, with the PyTorch of the toolchain or one near it"
_OPERATORS = re.compile(
    r"torch\.ops\.(?:aten|prims|quantized_decomposed)\.\w+\.\w+|torch\.sym_\w+|math\.[a-z]\w*|"
    r"torch\.ops\.higher_order\.wrap_with_(?:set_grad_enabled|autocast)|"
    r"_operator\.(?:abs|add|and_|eq|floordiv|ge|getitem|gt|inv|le|lshift|lt|mod|mul|ne|neg|not_|or_|pos|pow|rshift|sub|"
    r"truediv|xor)"
)
_FILE_OPERATORS = ("from_file", "save", "load", "load_tensor")
_CONTROL_FLOW = re.compile(r"torch\.ops\.higher_order\.(?:cond|while_loop|scan|map\w*)\b")
# Names of tensors, parameters and devices: of parts that PyTorch pastes into Python source.
_NAME = re.compile(r"[\w.:]*", re.ASCII)
_SYMBOL = re.compile(r"[a-z]+[0-9]*")
# As sympy.srepr writes them: Add(Mul(Integer(2), Symbol('s77', positive=True, integer=True)), Integer(-1)).
_SHAPE_FUNCTIONS = frozenset(
    {"Abs", "Add", "CeilToInt", "CleanDiv", "Eq", "Equality", "FloorDiv", "FloorToInt", "Ge", "GreaterThan", "Gt"}
    | {"Integer", "Le", "LessThan", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul", "Ne", "Pow", "PythonMod"}
    | {"Rational", "StrictGreaterThan", "StrictLessThan", "Symbol", "Unequality", "ceiling", "floor"}
)
_SHAPE_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Call, ast.keyword, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_TREES = frozenset(
    {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "collections.namedtuple"}
)
# Texts that are data to PyTorch: strings it passes on.
_FREE_TEXT = frozenset({"as_string", "as_strings", "torch_version"})
_DROPPED = ("extra/", "data/aotinductor/", "data/sample_inputs/")
# What the code of a TorchScript file is made of, as PyTorch has it. A quotation mark alone is none of that:
# where what one reads as text is code to the other, something could hide.
_TOKEN = re.compile(
    r"""#[^\n"']*|\s+|\\|(?P<text>\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"""
    r"""(?!\"{3})"(?:\\.|[^"\\\n])*"|(?!'{3})'(?:\\.|[^'\\\n])*')|(?P<name>\w+)|(?P<sign>.)""",
    re.DOTALL,
)


def refuse_file_access(source: Path) -> None:
    """Refuse a TorchScript file whose code opens files.

    Raises:
        ConversionError: it does, or it is damaged.
    """
    for name, data in _members(source, lambda name: "/code/" in name.lower() and name.lower().endswith(".py")):
        if found := _file_access(data.decode("utf-8", "replace")):
            raise ConversionError(
                f"the TorchScript code in {name.partition('/')[2]} opens files, or calls something named like what "
                f"does ({found})",
                hint="take it out of the model, or give it another name, and script it again",
            )


def _file_access(code: str) -> str:
    """Return where code names an operator that opens files, '' if nowhere.

    That is ``.save`` of anything, because `torch` may stand in it under another name, or getattr with that name.
    """
    tokens = [found for found in _TOKEN.finditer(code) if found.lastgroup]
    for i, token in enumerate(tokens):
        before = tokens[i - 1][0] if i else ""
        if token.lastgroup == "sign" and token[0] in "\"'":
            return "a text without an end"
        if before == "." and token[0] in _FILE_OPERATORS:
            return f"{tokens[i - 2][0] if i > 1 else ''}.{token[0]}"
        if token[0] == "getattr" and (name := _looked_up(islice(tokens, i + 1, None))) in (None, *_FILE_OPERATORS):
            return f"getattr {name or 'of a name put together'}"
    return ""


def _looked_up(tokens: Iterable[re.Match[str]]) -> str | None:
    """Return the name that ``(module, "name")`` looks up, None where it is no plain text."""
    depth = 0
    last: list[re.Match[str]] = []
    for token in tokens:
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if depth == 0:
            break
        last = [] if token[0] == "," and depth == 1 else [*last, token]
    plain = len(last) == 1 and last[0].lastgroup == "text" and re.fullmatch(r"""(["'])([\w.]*)\1""", last[0][0])
    return plain[2] if plain else None


def pickled_members(source: Path) -> list[bytes]:
    """Return the pickles that `torch.export.load` would read of a copy from `harmless_export`.

    Raises:
        ConversionError: the file is damaged.
    """
    members = _members(source, lambda name: name.lower().endswith(".pt") and not _is_sample(name))
    return [data for _, data in members if data]


def plain_copy(source: Path, folder: Path) -> Path:
    """Return a copy in `folder` of a PyTorch file, which holds what we read in it and nothing else.

    A zip file can be made such that its table of contents is one to Python and another to PyTorch.

    Raises:
        ConversionError: it is damaged.
    """
    copy = folder / source.name
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _members(source):
            archive.writestr(name, data)
    return copy


def harmless_export(source: Path, folder: Path) -> Path:
    """Return a copy in `folder` of an exported program: its graph with every text read, its tensors as they are.

    Raises:
        ConversionError: it is damaged, holds Python objects, or a text that is no plain name or shape.
    """
    copy = folder / "model.pt2"
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _members(source):
            inside = name.lower().partition("/")[2]
            if inside.startswith(_DROPPED) and not _is_sample(name):
                continue
            archive.writestr(name, _harmless(name, data))
    return copy


def _is_sample(name: str) -> bool:
    return "/data/sample_inputs/" in name.lower() or name.lower().startswith("serialized_example_inputs")


def _harmless(member: str, data: bytes) -> bytes:
    # PyTorch finds a member whatever the case of its name.
    name = member.lower()
    inside = name.partition("/")[2]
    if _is_sample(name):
        # The sample the model was exported with. Empty is what PyTorch writes where there is none.
        return b""
    if inside.startswith("models/") or name == "serialized_exported_program.json":
        return json.dumps(_harmless_program(_table(name, data))).encode()
    if name.endswith("_config.json"):
        _check_payloads(_table(name, data))
    elif name.endswith(".json"):
        raise ConversionError(f"{name} in the exported program is of a kind edgepack does not know", hint=_WAY_OUT)
    return data


def _members(source: Path, wanted: Any = lambda name: True) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            if len({info.filename for info in infos}) != len(infos):
                raise ConversionError(f"{source.name}: two files in it have the same name")
            for info in infos:
                if not info.is_dir() and wanted(info.filename):
                    if not is_bounded(archive, info):
                        raise ConversionError(
                            f"{source.name}: {info.filename} is packed in a way PyTorch never writes"
                        )
                    yield info.filename, archive.read(info)
    except DAMAGED as error:
        raise ConversionError(f"{source.name}: damaged PyTorch file ({type(error).__name__})") from None


def _table(name: str, data: bytes) -> dict[str, Any]:
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise ConversionError(f"{name} in the exported program is no JSON") from None
    if not isinstance(table, dict):
        raise ConversionError(f"{name} in the exported program is no table")
    return table


def _check_payloads(table: Mapping[str, Any]) -> None:
    config = table.get("config", {})
    if not isinstance(config, dict):
        raise ConversionError("the exported program's list of weights is no table")
    for name, payload in config.items():
        path = str(payload.get("path_name", "")) if isinstance(payload, dict) else ""
        if not isinstance(payload, dict) or payload.get("use_pickle") or not path.startswith(("weight_", "tensor_")):
            raise ConversionError(
                f"{name!r} in the exported program is a pickled Python object, which would execute code when loaded",
                hint="keep tensors alone in the model's parameters, buffers and constants",
            )


def _harmless_program(program: dict[str, Any]) -> dict[str, Any]:
    try:
        # Where each operator came from in the author's code, and checks of the sample's shape, as Python source.
        program = {**_without_metadata(program), "guards_code": []}
        _check(program, "")
    except RecursionError:
        raise ConversionError("the exported program is nested too deeply") from None
    return program


def _without_metadata(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: {} if key == "metadata" else _without_metadata(item) for key, item in value.items()}
    return [_without_metadata(item) for item in value] if isinstance(value, list) else value


def _check(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not _NAME.fullmatch(name):
                _refuse(name)
            if name in ("as_custom_obj", "custom_obj"):
                raise ConversionError("the exported program holds an object of a custom class", hint=_WAY_OUT)
            _check(item, name)
    elif isinstance(value, list):
        for item in value:
            _check(item, key)
    elif isinstance(value, str) and key not in _FREE_TEXT:
        _check_text(value, key)


def _check_text(text: str, key: str) -> None:
    if key == "target":
        _check_operator(text)
    elif key == "expr_str":
        _check_shape(text)
    elif key in ("in_spec", "out_spec"):
        _check_tree(text)
    elif not _NAME.fullmatch(text):
        _refuse(text)


def _check_operator(text: str) -> None:
    if _CONTROL_FLOW.match(text):
        raise ConversionError(
            f"the model decides while it runs ({text.removeprefix('torch.ops.higher_order.')}), which no road takes",
            hint="export each branch as a model of its own, or compute both and choose with torch.where",
        )
    parts = text.split(".")
    if not _OPERATORS.fullmatch(text) or set(parts) & set(_FILE_OPERATORS):
        raise ConversionError(
            f"the exported program calls {text[:80]!r}, which is none of PyTorch's own operators",
            hint="replace it by standard operators in the source model",
        )


def _check_shape(text: str) -> None:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        _refuse(text)
    if not all(_is_plain(node) for node in nodes):
        _refuse(text)


def _is_plain(node: ast.AST) -> bool:
    """Return whether one part of a shape is a number, a symbol, or an operation on these."""
    if isinstance(node, ast.Name):
        return bool(_SYMBOL.fullmatch(node.id)) or node.id in _SHAPE_FUNCTIONS or node.id == "int_oo"
    if isinstance(node, ast.Constant):
        # sympify() would evaluate a text once more, so it may be a symbol's name alone.
        return type(node.value) in (int, float, bool) or (
            isinstance(node.value, str) and bool(_SYMBOL.fullmatch(node.value))
        )
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _SHAPE_FUNCTIONS
    return isinstance(node, _SHAPE_NODES)


def _check_tree(text: str) -> None:
    try:
        pending = [json.loads(text)[1]] if text else []
        while pending:
            node = pending.pop()
            if node["type"] not in _TREES:
                raise ConversionError(
                    f"inputs or outputs of the exported program are in a {str(node['type'])[:80]!r}, "
                    "which edgepack does not know",
                    hint="let forward take and give tensors, tuples, lists and dicts of them",
                )
            pending += node["children_spec"]
    except (ValueError, LookupError, TypeError, RecursionError):
        _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ConversionError(f"the exported program holds the text {text[:80]!r} where a plain name belongs")
