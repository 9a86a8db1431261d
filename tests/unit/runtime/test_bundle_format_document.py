"""The worked example of docs/bundle-format.md is a bundle, and the one this library writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tools.vectors.profile import FULL

import realbundle
from bundlekit import Recipe, make, open_all
from doctext import section, text_of
from edgepack_runtime.container import Preamble
from edgepack_runtime.manifest import AS_IS, MIXED, VERDICTS
from edgepack_runtime.processing import _RULES
from edgepack_runtime.profile import ARCHITECTURES, ENGINES, SCHEMES
from edgepack_runtime.table import EntryRole
from edgepack_runtime.tensors import DTYPES

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


def _names(value: object) -> set[str]:
    """Return the names of all members in a tree of JSON."""
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in _names(item)}
    return {name for item in value for name in _names(item)} if isinstance(value, list) else set()


def test_the_members_documented_are_those_of_a_manifest() -> None:
    written = realbundle.manifest(realbundle.model("int8"), realbundle.profile())
    told = set(re.findall(r"`([^`\s]+)`", section(text_of(DOCUMENT), "### Members")))
    choices = {
        *ARCHITECTURES,
        *DTYPES,
        *ENGINES,
        *SCHEMES,
        *VERDICTS,
        AS_IS,
        MIXED,
        "measured",
        "published",
        "assumed",
    }
    # No members: how versions look. Not in this manifest: what its profile does not set.
    more = _names(FULL["profile"]) | {"latency_ms", "budget.latency_ms", "requires", "product", "security_version"}
    more |= {"processing"}
    members = _names(json.loads(written.to_bytes())) | more
    assert told - {"glibc", "musl", "3."} == members | choices


def test_the_members_and_choices_of_processing_are_those_documented() -> None:
    told = set(re.findall(r"`([^`\s]+)`", section(text_of(DOCUMENT), "### What happens before and behind a model")))
    choices = {word for part in _RULES.values() for rule in part.values() for word in _choices(rule)}
    assert told - {"processing"} == _RULES.keys() | {name for part in _RULES.values() for name in part} | choices


def _choices(rule: object) -> set[str]:
    return {word for word in rule if isinstance(word, str)} if isinstance(rule, tuple) else set()
