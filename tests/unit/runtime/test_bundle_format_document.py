"""The worked example of docs/bundle-format.md is a bundle, and the one this library writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bundlekit import Recipe, make, open_all
from edgepack_runtime.container import Preamble
from edgepack_runtime.table import EntryRole

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "bundle-format.md"
CORE = ("container", "encryption", "grants", "signing", "table", "verify")


@pytest.fixture(scope="module")
def example() -> bytes:
    lines = DOCUMENT.read_text(encoding="utf-8").split("```hex\n")[1].split("\n```")[0].splitlines()
    assert [int(line[:4], 16) for line in lines] == [16 * i for i in range(len(lines))]
    return bytes.fromhex("".join(line[4:] for line in lines))


def test_the_example_opens(example: bytes) -> None:
    assert open_all(example) == {"labels.txt": b"one\n"}


def test_the_example_is_what_this_library_writes_but_for_the_random_grant(example: bytes) -> None:
    ours = make(Recipe(entries=(("labels.txt", EntryRole.LABELS, b"one\n"),))).file()
    preamble = Preamble.parse(example)
    sealed = slice(preamble.front_length - 80, preamble.front_length)
    assert (ours[: sealed.start], ours[sealed.stop :]) == (example[: sealed.start], example[sealed.stop :])


def test_the_code_cites_every_step_and_no_other() -> None:
    steps = re.findall(r"^(\d+)\. ", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    cited: set[int] = set()
    for module in CORE:
        source = (ROOT / "runtime" / "edgepack_runtime" / f"{module}.py").read_text(encoding="utf-8")
        for first, last in re.findall(r"\b[Ss]teps? (\d+)(?:(?:, \d+)? (?:to|and) (\d+))?", source):
            cited |= set(range(int(first), int(last or first) + 1))
    assert sorted(cited) == [int(step) for step in steps]
