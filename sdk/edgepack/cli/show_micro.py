"""How profiles and builds for microcontrollers look in a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepack.cli.show import console_for, escape, print_table
from edgepack.micro import MicroResult
from edgepack.micro_profile import Micro
from edgepack.profile_check import profile_rows

__all__ = ["show_checked_folder", "show_micro_build", "show_micro_profile", "show_micros"]


def show_micros(profiles: Sequence[Micro]) -> None:
    """Print a line a profile."""
    rows = [
        [
            profile.name,
            profile.hardware.arch,
            profile.engine if profile.npu is None else f"{profile.engine}, {profile.npu.accelerator}",
            f"{profile.budget.arena_bytes / 1024:,.0f} KiB",
            f"{profile.budget.flash_bytes / 1024:,.0f} KiB",
            profile.description,
        ]
        for profile in profiles
    ]
    columns = ["microcontroller", "arch", "engine", "arena", "flash for a model", "what it is"]
    print_table(console_for(stderr=False), columns, rows)


def show_micro_profile(profile: Micro, *, as_json: bool) -> None:
    """Print one profile, each figure with its source."""
    if as_json:
        print(json.dumps(profile.to_json(), indent=2))
        return
    print(f"{profile.name}: {profile.description}")
    rows = [list(row) for row in profile_rows(profile)]
    print_table(console_for(stderr=False), ["field", "value", "source"], rows)


def show_micro_build(results: Sequence[MicroResult], *, as_json: bool) -> None:
    """Print what was found out, and which files were written."""
    if as_json:
        print(json.dumps({"microcontrollers": [_to_json(result) for result in results]}, indent=2))
        return
    console = console_for(stderr=False)
    rows = [
        [result.profile.name, item.check, item.verdict, item.found, item.wanted]
        for result in results
        for item in result.evidence
    ]
    print_table(console, ["profile", "check", "how known", "found", "wanted"], rows)
    console.print()
    for result in results:
        sizes = ", ".join(f"{name} ({size:,} bytes)" for name, size in result.files.items())
        console.print(f"{escape(str(result.folder))}: {escape(sizes)}", soft_wrap=True)


def _to_json(result: MicroResult) -> dict[str, object]:
    return {
        "profile": result.profile.name,
        "folder": str(result.folder),
        "files": dict(result.files),
        "scheme": result.scheme,
        "evidence": [dataclasses.asdict(item) for item in result.evidence],
    }


def show_checked_folder(folder: Path, statement: Mapping[str, object], *, as_json: bool) -> None:
    """Print what a folder's signed evidence says."""
    if as_json:
        print(json.dumps(statement, indent=2))
        return
    evidence = statement.get("evidence")
    rows = [
        [str(item.get(name, "")) for name in ("check", "verdict", "found", "wanted", "environment")]
        for item in (evidence if isinstance(evidence, list) else [])
        if isinstance(item, dict)
    ]
    console = console_for(stderr=False)
    print_table(console, ["check", "how known", "found", "wanted", "where"], rows)
    what = f"{statement.get('product')} {statement.get('version')}"
    console.print(f"{escape(str(folder))}: {escape(what)}, signed by a trusted key, each file as it was signed")
