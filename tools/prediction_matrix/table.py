"""The matrix as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.prediction_matrix.matrix import Row

DOCUMENT = Path(__file__).parents[2] / "docs" / "prediction-matrix.md"
_BEGIN, _END = "<!-- table: python -m tools.prediction_matrix --table -->\n", "<!-- end of the table -->\n"
_CELLS = {
    ("good", "right"): "right",
    ("refused", "fails"): "(fails)",
    ("refused", "wrong"): "(wrong)",
    ("refused", "right"): "(right)",
    ("good", "wrong"): "**wrong**",
    ("good", "fails"): "**fails**",
}


def render(rows: Sequence[Row]) -> str:
    """Return a line for each model that is not predicted to be right, and right, on every engine; then the others."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row.model, {})[row.engine] = _CELLS[row.prediction, row.happened]
    plain = [model for model, found in cells.items() if set(found.values()) == {"right"}]
    lines = [
        "| model | " + " | ".join(engine.replace("==", " ").replace("ai-edge-", "") for engine in engines) + " |",
        "|---|" + "---|" * len(engines),
    ]
    for model, found in cells.items():
        if model not in plain:
            lines.append(f"| `{model}` | " + " | ".join(found[engine] for engine in engines) + " |")
    named = ", ".join(f"`{model}`" for model in plain)
    return "\n".join([*lines, "", f"Right on all {len(engines)} engines, as predicted: {named}.", ""])


def in_document(text: str, table: str) -> str:
    """Return a document with the table between its marks replaced."""
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    return f"{text[:begin]}\n{table}\n{text[end:]}"


def write_table(rows: Sequence[Row]) -> None:
    """Put the table into the document."""
    text = DOCUMENT.read_text("utf-8")
    DOCUMENT.write_text(in_document(text, render(rows)), "utf-8")
