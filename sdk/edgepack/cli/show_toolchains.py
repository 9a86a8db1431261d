"""How toolchains, and what is found of them, are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgepack.cli.show import console_for, escape, print_table
from edgepack.toolchaindoctor import ERROR, GOOD, Finding, Installed, size_in_words

__all__ = ["show_findings", "show_toolchains"]


def show_toolchains(found: Sequence[Installed], *, as_json: bool) -> None:
    """Print a line a toolchain."""
    if as_json:
        table = [
            {
                "name": item.toolchain.name,
                "installed": item.toolchain.installed,
                "bytes": item.bytes,
                "folder": str(item.toolchain.folder),
                "purpose": item.toolchain.purpose,
            }
            for item in found
        ]
        print(json.dumps(table, indent=2))
        return
    lines = [
        [
            item.toolchain.name,
            size_in_words(item.bytes) if item.toolchain.installed else "not installed",
            item.toolchain.purpose,
            str(item.toolchain.folder) if item.toolchain.installed else "",
        ]
        for item in found
    ]
    print_table(console_for(stderr=False), ["toolchain", "on disk", "for", "in"], lines)


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print what was found; when something is broken, also one line on standard error."""
    errors = [finding for finding in findings if finding.severity == ERROR]
    if as_json:
        rows = [{"subject": f.subject, "severity": f.severity, "text": f.text, "remedy": f.remedy} for f in findings]
        print(json.dumps({"good": not errors, "findings": rows}, indent=2))
    else:
        table = [["" if f.severity == GOOD else f.severity, f.subject, f.text, f.remedy] for f in findings]
        print_table(console_for(stderr=False), ["", "of", "found", "what to do"], table)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        line = escape(f"{errors[0].subject}: {errors[0].text}{more}")
        console_for(stderr=True).print(f"[red]edgepack: error:[/red] {line}", soft_wrap=True)
