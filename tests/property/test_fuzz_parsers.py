"""Every parser of outside bytes has a fuzz target that reaches it: `tools/fuzz/parsers.py`, held to the code."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.fuzz.parsers import DECODERS, IN_A_CHILD, NOT_OUTSIDE, PARSERS  # noqa: E402
from tools.fuzz.report import KEPT_RECORD, Campaign, add_to, read_from, table  # noqa: E402
from tools.fuzz.targets import MISSING, TARGETS  # noqa: E402


def decoders_in(text: str) -> set[str]:
    """Return the decoding calls in a module's text."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found |= {name, name.rpartition(".")[2]} & DECODERS
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for root in (ROOT / "runtime", ROOT / "sdk"):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def is_excused(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NOT_OUTSIDE)


def test_every_module_that_decodes_bytes_has_a_target_or_a_reason() -> None:
    listed = {name.partition(":")[0] for name in PARSERS}
    found = {name: decoders_in(path.read_text("utf-8")) for name, path in modules()}
    assert {n: calls for n, calls in found.items() if calls and n not in listed and not is_excused(n)} == {}


def test_a_module_without_a_target_is_noticed() -> None:
    text = (
        "import json\nimport struct\n\ndef read(data):\n    struct.unpack('<I', data)\n    return json.loads(data)\n"
    )
    assert decoders_in(text) == {"json.loads", "struct.unpack"}


def test_reasons_are_given_for_modules_that_are_there_and_decode() -> None:
    found = [name for name, path in modules() if decoders_in(path.read_text("utf-8"))]
    assert [name for name in NOT_OUTSIDE if not any(f"{module}.".startswith(f"{name}.") for module in found)] == []


def test_every_target_is_named_for_a_parser() -> None:
    assert {name for names in PARSERS.values() for name in names} == TARGETS.keys() | MISSING.keys()


def called_by(name: str) -> set[str]:
    """Return the functions that a target's seeds call, as ``module:function``."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found.add(f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}")

    target = TARGETS[name]
    seeds = target.seeds()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for seed in seeds:
            target.check(seed)
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - IN_A_CHILD))
def test_the_seeds_of_a_target_reach_its_parsers(name: str) -> None:
    wanted = {parser for parser, targets in PARSERS.items() if name in targets}
    assert wanted - called_by(name) == set()


@pytest.mark.parametrize("parser", PARSERS)
def test_a_parser_is_there_by_its_name(parser: str) -> None:
    module, _, name = parser.partition(":")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


CAMPAIGN = Campaign(
    target="table", seconds=60, cpu_seconds=50, inputs=1000, start_edges=30, edges=40, found="", commit="abc1234"
)


def test_a_record_of_campaigns_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "campaigns.csv"
    found = replace(CAMPAIGN, found="KeyError: 'a, b'")
    add_to(path, CAMPAIGN)
    add_to(path, found)
    assert read_from(path) == [CAMPAIGN, found]


def test_the_table_sums_a_targets_campaigns_and_names_targets_that_never_ran() -> None:
    lines = table([CAMPAIGN, replace(CAMPAIGN, start_edges=20, found="OverTime: 2 s", commit="def5678")]).splitlines()
    assert "| `table` | 120 | 100 | 2,000 | 20 | 40 | 1 | def5678 |" in lines
    assert "| `bundle` | 0 | 0 | 0 | | | | never |" in lines


def test_the_document_has_the_table_of_the_campaigns_that_were_run() -> None:
    assert table(read_from(KEPT_RECORD)) in (ROOT / "docs" / "fuzzing.md").read_text("utf-8")
