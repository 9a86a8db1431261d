"""How keys, grants and trust look: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from edgepack.cli.show import console_for, print_table

if TYPE_CHECKING:
    from edgepack.amend import Granted, GrantRow, Removed, Signed
    from edgepack.keydoctor import Finding
    from edgepack.keys import KeyInfo
    from edgepack.trustdoc import Draft

__all__ = [
    "show_draft",
    "show_findings",
    "show_granted",
    "show_grants",
    "show_keys",
    "show_removed",
    "show_signed",
]


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


def show_signed(done: Signed, *, as_json: bool) -> None:
    """Print who has signed a bundle now."""
    signers = [key.hex() for key in done.signers]
    if as_json:
        print(json.dumps({"added": done.signer.hex(), "signatures": signers}, indent=2))
        return
    header = done.bundle.header
    print(f"signed {header.product} for {header.profile}, security version {header.security_version}")
    for key in signers:
        print(f"  {key}{'  (added now)' if key == done.signer.hex() else ''}")


def show_granted(done: Granted, *, as_json: bool) -> None:
    """Print who was added."""
    if as_json:
        table = {
            "added": [recipient.key_id.hex() for recipient in done.added],
            "present": [recipient.key_id.hex() for recipient in done.present],
            "path": None if done.path is None else str(done.path),
        }
        print(json.dumps(table, indent=2))
        return
    for recipient in done.added:
        print(f"{done.path}: {recipient.name} can open it ({recipient.key_id.hex()[:16]})")
    for recipient in done.present:
        print(f"{recipient.name} could open it already ({recipient.key_id.hex()[:16]})")


def _grants_json(rows: Sequence[GrantRow]) -> list[dict[str, str]]:
    return [{"key_id": row.key_id.hex(), "kind": row.kind, "path": str(row.path)} for row in rows]


def show_grants(rows: Sequence[GrantRow], *, as_json: bool) -> None:
    """Print a line a grant."""
    if as_json:
        print(json.dumps(_grants_json(rows), indent=2))
        return
    table = [[row.key_id.hex(), row.kind, str(row.path)] for row in rows]
    print_table(console_for(stderr=False), ["key id", "kind", "in"], table)


def show_removed(done: Removed, *, as_json: bool) -> None:
    """Print who was removed, and what that does not do."""
    if as_json:
        print(json.dumps({"removed": _grants_json(done.grants)}, indent=2))
    else:
        for row in done.grants:
            print(f"{row.path}: no grant any more for {row.key_id.hex()}")
    print(
        "edgepack: a device that has a copy of this bundle keeps it; only bundles to come stay closed to it",
        file=sys.stderr,
    )


def show_draft(draft: Draft, path: Path, *, as_json: bool) -> None:
    """Print a trust document, and whose signatures it has and lacks."""
    from edgepack_runtime.trust_file import describe_trust

    table = describe_trust(draft.document)
    if as_json:
        standings = [{"role": s.role, "have": s.have, "want": s.want} for s in draft.standings]
        # What was not asked is not known.
        complete = draft.is_complete and (True if draft.is_held_against_the_last else None)
        print(json.dumps({"path": str(path), **table, "signatures": standings, "complete": complete}, indent=2))
        return
    rows = [
        [name.replace("_", " "), str(item)]
        for name, value in table.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    rows += [["signed by", f"{s.have} of the {s.want} needed: {s.role}"] for s in draft.standings]
    print_table(console_for(stderr=False), ["", str(path)], rows)
    if not draft.is_complete:
        print(
            f"edgepack: a draft, no device takes it yet: edgepack trust sign {path} --key ROOT_KEY", file=sys.stderr
        )
    elif not draft.is_held_against_the_last:
        print(
            f"edgepack: devices also want the root keys of version {draft.document.version - 1}: name it with "
            "--current to see whether they have signed",
            file=sys.stderr,
        )
