"""How keys, grants and trust look: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from edgepack.cli.show import console_for, print_table

if TYPE_CHECKING:
    from edgepack.keydoctor import Finding
    from edgepack.keys import KeyInfo

__all__ = ["show_findings", "show_keys"]


def _key_json(key: KeyInfo) -> dict[str, object]:
    return {
        "path": str(key.path),
        "kind": "public" if key.protection is None else "private",
        "role": key.role,
        "algorithm": key.algorithm,
        "key_id": key.key_id,
        "protection": None if key.protection is None else str(key.protection),
    }


def show_keys(keys: Sequence[KeyInfo], *, as_json: bool) -> None:
    """Print a line a key."""
    if as_json:
        print(json.dumps([_key_json(key) for key in keys], indent=2))
        return
    rows = [
        [
            str(key.path),
            "public" if key.protection is None else f"private, {key.protection}",
            key.role or "not labelled",
            key.algorithm or "not opened",
            key.key_id or "not opened",
        ]
        for key in keys
    ]
    print_table(console_for(stderr=False), ["file", "what", "role", "algorithm", "key id"], rows)


def show_findings(keys: Sequence[KeyInfo], findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print what is wrong with keys; when something is an error, also one line on standard error."""
    errors = [finding for finding in findings if finding.is_error]
    if as_json:
        rows = [
            {
                "severity": "error" if finding.is_error else "warning",
                "path": str(finding.path),
                "text": finding.text,
                "remedy": finding.remedy,
            }
            for finding in findings
        ]
        print(json.dumps({"keys": len(keys), "good": not errors, "findings": rows}, indent=2))
    elif findings:
        table = [["error" if f.is_error else "warning", str(f.path), f.text, f.remedy] for f in findings]
        print_table(console_for(stderr=False), ["", "file", "what is wrong", "what to do"], table)
    else:
        print(f"{len(keys)} keys, nothing wrong")
    if errors:
        first = f"{errors[0].path}: {errors[0].text}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        console_for(stderr=True).print(f"[red]edgepack: error:[/red] {escape(first + more)}", soft_wrap=True)
