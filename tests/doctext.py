"""Read the documents: fenced blocks, prose, sections, tables, numbers in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["fences", "number", "prose", "rows", "section", "text_of"]


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def fences(text: str) -> Iterator[tuple[str, str]]:
    """Yield language and content of each fenced block."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def prose(text: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of its level or above."""
    level, _, _ = heading.partition(" ")
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start:], re.MULTILINE)
    return text[start:] if end is None else text[start : start + end.start()]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each table row whose first cell is code, without backticks."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def number(text: str, pattern: str) -> float:
    """Return the number at the place of ``#`` in `pattern`, which must be in the text once."""
    (found,) = re.findall(re.escape(pattern).replace(r"\#", r"([\d.,]*\d)"), " ".join(text.split()))
    return float(found.replace(",", ""))
