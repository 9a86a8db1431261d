"""What the wheel for devices carries: every statement on its line, what public things give, and no comments.

A device has little room, and nobody reads code there. A traceback names the lines of the repository; ``help()`` says
the first line of what it says here. The whole text is in the source distribution.
"""

from __future__ import annotations

import ast
import io
import tempfile
import tokenize
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "edgepack_runtime"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lean(source: str) -> str:
    """Return a module that does the same, line for line: no comments, and of docstrings public ones' first lines."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Documented) and (text := _docstring(node)) is not None:
            first, last = text.lineno - 1, (text.end_lineno or text.lineno) - 1
            if not _is_public(node):
                kept = lines[first][: text.col_offset] + ("..." if len(node.body) == 1 else "")
            elif first != last:
                # The first line of a docstring of several lines ends in no quotes of its own.
                kept = lines[first].rstrip() + '"""'
            else:
                continue
            lines[first : last + 1] = [kept.rstrip(), *[""] * (last - first)]
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return "\n".join(lines)


def _docstring(node: Documented) -> ast.Constant | None:
    first = node.body[0] if node.body else None
    text = first.value if isinstance(first, ast.Expr) else None
    return text if isinstance(text, ast.Constant) and isinstance(text.value, str) else None


def _is_public(node: Documented) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:1] != "_"


class LeanWheel(BuildHookInterface[Any]):
    """Puts lean modules into a wheel; an editable installation has the checkout's own."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the lean modules to a temporary folder, and have the wheel take them from there."""
        if version == "editable":
            return
        # Kept by the hook, which lives as long as the build.
        self._folder = tempfile.TemporaryDirectory(prefix="edgepack-runtime-")
        root = Path(self.root)
        for path in sorted((root / PACKAGE).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            target = Path(self._folder.name, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(lean(path.read_text("utf-8")), "utf-8")
            build_data["force_include"][str(target)] = name
