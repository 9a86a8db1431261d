"""What the wheel for devices carries: every statement on its line, what its public names take and give; no comments.

A device has little room, and nobody reads code there. A traceback names the lines of the repository; ``help()`` says
the first line of what it says here, of what an application imports: the names in the package's ``__all__``. What only
a type checker reads is left out, imports for it too, and spaces that part nothing. The whole text is in the source
distribution.
"""

from __future__ import annotations

import ast
import io
import re
import tempfile
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "edgepack_runtime"
# Modules whose ``__all__`` is read: by `exported`, and by the host's worker.
LISTED = (f"{PACKAGE}/__init__.py", f"{PACKAGE}/errors.py")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lean(source: str, public: frozenset[str], name: str) -> str:
    """Return a module that does the same, line for line: no comments, and of `public` names' docstrings a line each.

    `name` is its path in the wheel. But for `LISTED` ones it has no ``__all__``: nothing imports all of a module.

    What a public class has under a name without an underscore is public with it. Other functions lose the types of
    what they take and give, which nothing evaluates.
    """
    lines = source.split("\n")
    tree = ast.parse(source)
    told = {part for node in tree.body if _name(node) in public for part in ast.walk(node) if _name(part)[:1] != "_"}
    origins = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"]
    standard = any(alias.name == "dataclass" for node in origins for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := _docstring(node)) is not None:
            first, last = text.lineno - 1, (text.end_lineno or text.lineno) - 1
            # A method of a protocol may have nothing else in it.
            if node not in told and len(node.body) > 1:
                kept = lines[first][: text.col_offset]
                if isinstance(node, ast.ClassDef) and node.decorator_list and standard:
                    # The standard library's dataclass without one would write it at import, from its signature.
                    kept += '"."'
            elif first != last:
                # The first line of a docstring of several lines ends in no quotes of its own.
                kept = lines[first].rstrip() + '"""'
            else:
                continue
            lines[first : last + 1] = [kept.rstrip(), *[""] * (last - first)]
    for row, start, end in sorted(_types(tree, told, lines), reverse=True):
        line = lines[row].encode()
        lines[row] = (line[:start] + line[end:]).decode()
    offered = exported(source) if any(_targets(node) == ["__all__"] for node in tree.body) else frozenset()
    for node in tree.body:
        if (name not in LISTED and _targets(node) == ["__all__"]) or _is_for_checkers(node):
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [""] * (last - first)
    lines = _closer(tree, lines)
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return _tight(_with_what_is_used("\n".join(lines), offered, "." * name.count("/")))


def _is_for_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


def _types(tree: ast.Module, told: set[ast.AST], lines: list[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the line of each type to leave out, and from which byte of it to which."""
    fields = {part for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and node.value is not None and node not in fields:
            start, kind = node.target.end_col_offset, node.annotation
            if node.lineno == kind.end_lineno and start is not None and kind.end_col_offset is not None:
                yield node.lineno - 1, start, kind.end_col_offset
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in told:
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            found = [(n.annotation, n.col_offset + len(n.arg.encode())) for n in named if n and n.annotation]
            if node.returns is not None:
                before = lines[node.returns.lineno - 1].encode()[: node.returns.col_offset]
                found.append((node.returns, before.rindex(b")") + 1))
            for kind, start in found:
                # One of several lines stays.
                if kind.lineno == kind.end_lineno and kind.end_col_offset is not None:
                    yield kind.lineno - 1, start, kind.end_col_offset


def _with_what_is_used(source: str, offered: frozenset[str], dots: str) -> str:
    """Return a module that imports what it uses or has `offered`; `dots` stand for the package in its imports."""
    lines, tree = source.split("\n"), ast.parse(source)
    types = [kind for node in ast.walk(tree) for kind in _annotations(node)]
    named = {name: name.id for kind in types for name in ast.walk(kind) if isinstance(name, ast.Name)}
    # Whoever sends a dataclass to another process, as a build does, looks its types up.
    fields = [part.annotation for part in ast.walk(tree) if isinstance(part, ast.AnnAssign)]
    asked = {name.id for kind in fields for name in ast.walk(kind) if isinstance(name, ast.Name)}
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in named}
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        words = [ast.unparse(a) for a in node.names if _bound(a) in read | offered | asked or a.name == "annotations"]
        lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and not types:
            continue
        if words:
            origin = f"from {node.module} " if isinstance(node, ast.ImportFrom) else ""
            lines[node.lineno - 1] = f"{origin}import {', '.join(words)}"
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and f"{part.module}.".startswith(f"{PACKAGE}."):
            row = part.lineno - 1
            lines[row] = re.sub(rf"from {PACKAGE}\.?", f"from {dots}", lines[row], count=1)
    return "\n".join(lines)


def _annotations(node: ast.AST) -> list[ast.expr]:
    return [kind for kind in (getattr(node, name, None) for name in ("annotation", "returns")) if kind is not None]


def _bound(alias: ast.alias) -> str:
    """Return the name that an import makes."""
    return alias.asname or alias.name.partition(".")[0]


def _tight(source: str) -> str:
    """Return it without the spaces beside operators and within brackets, and prove that it means the same."""
    edits, depth, within = [], 0, 0
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token, after in pairwise(tokens):
        kind = tokenize.tok_name[token.type]
        # From Python 3.12 on the parts of an f-string are tokens, and a space counts in some of them.
        within += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        (row, end), (next_row, start) = token.end, after.start
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if row == next_row and start > end and not within and tokenize.OP in (token.type, after.type):
            edits.append((row - 1, end, start))
        elif token.type == tokenize.NL and depth and not within:
            edits.append((next_row - 1, 0, start))
    lines = source.split("\n")
    for row, start, end in sorted(edits, reverse=True):
        lines[row] = lines[row][:start] + lines[row][end:]
    found = "\n".join(lines)
    if ast.dump(ast.parse(found)) != ast.dump(ast.parse(source)):
        raise ValueError("a space that was taken out parted something")
    return found


def _targets(node: ast.stmt) -> list[str]:
    return [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []


def _closer(tree: ast.Module, lines: list[str]) -> list[str]:
    """Return them with one space a level, which tells a device as much as four do; what is in a text stays."""
    inside = {
        row for text in ast.walk(tree) if isinstance(text, ast.Constant | ast.JoinedStr) for row in _later(text)
    }
    found = []
    for row, text in enumerate(lines, 1):
        bare = text.lstrip(" ")
        found.append(text if row in inside else " " * ((len(text) - len(bare) + 3) // 4) + bare)
    return found


def _later(text: ast.Constant | ast.JoinedStr) -> range:
    """Return the lines of a text after its first."""
    return range(text.lineno + 1, (text.end_lineno or text.lineno) + 1)


def _docstring(node: Documented) -> ast.Constant | None:
    first = node.body[0] if node.body else None
    text = first.value if isinstance(first, ast.Expr) else None
    return text if isinstance(text, ast.Constant) and isinstance(text.value, str) else None


def _name(node: ast.AST) -> str:
    return node.name if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else ""


def exported(source: str) -> frozenset[str]:
    """Return the names in the ``__all__`` of a package."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    raise ValueError("the package has no __all__")


class LeanWheel(BuildHookInterface[Any]):
    """Puts lean modules into a wheel; an editable installation has the checkout's own."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the lean modules to a temporary folder, and have the wheel take them from there."""
        if version == "editable":
            return
        # Kept by the hook, which lives as long as the build.
        self._folder = tempfile.TemporaryDirectory(prefix="edgepack-runtime-")
        root = Path(self.root)
        public = exported((root / PACKAGE / "__init__.py").read_text("utf-8"))
        for path in sorted((root / PACKAGE).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            target = Path(self._folder.name, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(lean(path.read_text("utf-8"), public, name), "utf-8")
            build_data["force_include"][str(target)] = name
