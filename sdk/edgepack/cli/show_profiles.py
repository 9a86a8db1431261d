"""How findings about profiles and differences between them look in a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from edgepack.cli.show import console_for, print_table
from edgepack.profile_check import ERROR, Difference, ProfileFinding
from edgepack_runtime.profile import DeviceProfile

__all__ = ["show_differences", "show_findings", "show_imported"]


def show_findings(profile: str, findings: Sequence[ProfileFinding], *, as_json: bool) -> None:
    """Print what was found about a profile, and whether anything could run on such a board."""
    good = not any(finding.severity == ERROR for finding in findings)
    if as_json:
        table = {"profile": profile, "good": good, "findings": [dataclasses.asdict(f) for f in findings]}
        print(json.dumps(table, indent=2))
        return
    if findings:
        rows = [[f.severity, f.field, f.text, f.remedy] for f in findings]
        print_table(console_for(stderr=False), ["", "field", "found", "what to do"], rows)
    print(f"{profile}: well formed, and its engine runs there" if good else f"{profile}: nothing runs there")


def show_differences(
    first: DeviceProfile, second: DeviceProfile, differences: Sequence[Difference], *, as_json: bool
) -> None:
    """Print the fields in which two profiles differ."""
    if as_json:
        print(json.dumps([dataclasses.asdict(d) for d in differences], indent=2))
        return
    rows = [[d.field, d.first, d.second] for d in differences]
    if rows:
        print_table(console_for(stderr=False), ["field", first.name, second.name], rows)
    else:
        print(f"{first.name} and {second.name} are the same")


def show_imported(path: Path, notes: Sequence[str]) -> None:
    """Print where the profile of a probed board is, and what is worth knowing of it."""
    print(f"{path}: written; its budgets are assumed: set what the application may really take")
    for note in notes:
        print(f"  note: {note}")
