"""What the wheel for devices carries: every statement on its line, what its public names take and give; no comments.

A device has little room, and nobody reads code there. A traceback names the lines of the repository; ``help()`` says
the first line of what it says here, of what an application imports: the names in the package's ``__all__``. The whole
text is in the source distribution.
"""

from __future__ import annotations

import ast
import io
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "edgepack_runtime"
# Modules whose ``__all__`` is read: by `exported`, and by the host's worker.
LISTED = (f"{PACKAGE}/__init__.py", f"{PACKAGE}/errors.py")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lean(source: str, public: frozenset[str], listed: bool = True) -> str:
    """Return a module that does the same, line for line: no comments, and of `public` names' docstrings a line each.

    Where its names are not `listed`, it has no ``__all__``: nothing imports all of a module.

    What a public class has under a name without an underscore is public with it. Other functions lose the types of
    what they take and give, which nothing evaluates.
    """
    lines = source.split("\n")
    tree = ast.parse(source)
    told = {part for node in tree.body if _name(node) in public for part in ast.walk(node) if _name(part)[:1] != "_"}
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := _docstring(node)) is not None:
            first, last = text.lineno - 1, (text.end_lineno or text.lineno) - 1
            # A method of a protocol may have nothing else in it.
            if node not in told and len(node.body) > 1:
                kept = lines[first][: text.col_offset]
                if isinstance(node, ast.ClassDef) and node.decorator_list:
                    # A dataclass without one would write it at import, from its signature.
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
    for node in tree.body if not listed else ():
        if _targets(node) == ["__all__"]:
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [""] * (last - first)
    lines = _closer(tree, lines)
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return "\n".join(lines)


def _types(tree: ast.Module, told: set[ast.AST], lines: list[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the line of each type to leave out, and from which byte of it to which."""
    for node in ast.walk(tree):
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
            target.write_text(lean(path.read_text("utf-8"), public, name in LISTED), "utf-8")
            build_data["force_include"][str(target)] = name
