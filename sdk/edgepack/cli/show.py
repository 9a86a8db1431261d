"""How results look: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from edgepack.errors import GateError
from edgepack.reporter import Reporter
from edgepack_runtime.errors import EdgepackError
from edgepack_runtime.moments import expiry_in_words, utc

if TYPE_CHECKING:
    from edgepack.builder import BuildResult
    from edgepack.candidate import Candidate
    from edgepack.gate import Drop
    from edgepack.validation import Report
    from edgepack_runtime.manifest import Evidence, Manifest
    from edgepack_runtime.profile import DeviceProfile
    from edgepack_runtime.verify import VerifiedBundle

__all__ = [
    "ConsoleReporter",
    "console_for",
    "escape",
    "print_table",
    "show_build",
    "show_bundle",
    "show_error",
    "show_profile",
    "show_profiles",
    "show_report",
]

# Wide enough that nothing is cut where there is no terminal whose width could be asked for.
_WIDTH = 200


def escape(text: str, keep: str = "") -> str:
    r"""Return text that a terminal shows and does not obey, safe from rich's markup.

    Names in files are a stranger's words: what cannot be printed, but for `keep`, is written as in ``\x1b``.
    """
    return escape_markup("".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text))


def console_for(*, stderr: bool) -> Console:
    """Return the console of a stream; wide where nobody looks at it."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


class ConsoleReporter(Reporter):
    """Speaks on standard error; shows what goes on only on a terminal."""

    def __init__(self, *, verbose: bool) -> None:
        self._console = console_for(stderr=True)
        self._verbose = verbose
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        """Print one line, once however often it is said."""
        if text in self._said:
            return
        self._said.add(text)
        self._console.print(f"edgepack: {escape(text)}", soft_wrap=True)

    def log(self, text: str) -> None:
        """Print a child's words with --verbose."""
        if self._verbose:
            self._console.print(escape(text, keep="\n\t"), soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a spinner, and how long the step took; nothing where nobody watches."""
        if not self._console.is_terminal:
            yield
            return
        start = time.monotonic()
        with self._console.status(escape(text)):
            yield
        self._console.print(f"[green]✓[/green] {escape(text)} [dim]{time.monotonic() - start:.1f} s[/dim]")


def show_error(error: EdgepackError, *, as_json: bool) -> None:
    """Print an error: one line, the table of a refused build, the way out."""
    refusals = error.refusals if isinstance(error, GateError) else ()
    if as_json:
        text = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        print(json.dumps(text | {"refusals": [dataclasses.asdict(row) for row in refusals]}, indent=2))
    console = console_for(stderr=True)
    console.print(f"[red]edgepack: error:[/red] {escape(error.message)}", soft_wrap=True)
    if refusals and not as_json:
        rows = [[r.profile, r.scheme, r.check, r.found, r.wanted, r.remedy] for r in refusals]
        print_table(console, ["profile", "precision", "check", "found", "wanted", "what to do"], rows)
    if error.hint:
        console.print(f"  hint: {escape(error.hint)}", soft_wrap=True)


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells under their columns' names."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _size(count: int) -> str:
    return f"{count / 1000:,.1f} kB" if count < 10_000_000 else f"{count / 1_000_000:,.1f} MB"


def _quality(candidate: Candidate) -> str:
    if candidate.drops:
        return "; ".join(_drop_words(drop, alone=len(candidate.drops) == 1) for drop in candidate.drops)
    worst = min(candidate.parities, key=lambda p: p.correlation)
    return f"correlation with the float source {worst.correlation:.4f} ({worst.output})"


def _drop_words(drop: Drop, *, alone: bool) -> str:
    where = "" if alone else f"{drop.output}: "
    before = f"float {drop.source.value:.4f}, " if drop.labelled else ""
    kind = "" if drop.labelled else " with float"
    return (
        f"{where}{drop.metric}{kind} {drop.candidate.value:.4f}, {before}"
        f"drop {drop.drop.value:+.4f} [{drop.drop.low:+.4f}, {drop.drop.high:+.4f}]"
    )


def show_build(results: Sequence[BuildResult], *, as_json: bool) -> None:
    """Print what was built, what was measured, and where it was."""
    if as_json:
        print(json.dumps({"bundles": [_build_json(result) for result in results]}, indent=2))
        return
    console = console_for(stderr=False)
    rows = []
    for result in results:
        for candidate in result.candidates:
            shipped = not candidate.refusals
            engine = result.profile.engine
            lab = candidate.lab
            rows.append(
                [
                    result.profile.name,
                    candidate.scheme,
                    _size(len(candidate.model.data)) if candidate.model else "-",
                    _quality(candidate) if candidate.parities else "-",
                    _size(lab.ram_bytes) if lab else "-",
                    f"{engine.name} {engine.version}",
                    "shipped" if shipped else "refused: " + ", ".join(r.check for r in candidate.refusals),
                ]
            )
    columns = ["profile", "precision", "model", "measured under the exact engine", "peak RAM", "engine", "verdict"]
    print_table(console, columns, rows)
    console.print()
    for result in results:
        console.print(
            f"{escape(str(result.path))}  {_size(result.bundle_bytes)}, signed, {result.protection.short}",
            soft_wrap=True,
        )


def _build_json(result: BuildResult) -> dict[str, object]:
    return {
        "profile": result.profile.name,
        "path": str(result.path),
        "bundle_bytes": result.bundle_bytes,
        "model_bytes": result.model_bytes,
        "scheme": result.candidates[-1].scheme,
        "recipients": result.recipients,
        "protection": result.protection.level,
        "candidates": [
            {
                "scheme": candidate.scheme,
                "drops": [dataclasses.asdict(drop) for drop in candidate.drops],
                "parity": [dataclasses.asdict(parity) for parity in candidate.parities],
                "refusals": [dataclasses.asdict(refusal) for refusal in candidate.refusals],
            }
            for candidate in result.candidates
        ],
        "search": None if result.search is None else dataclasses.asdict(result.search),
        "manifest": json.loads(result.manifest.to_bytes()),
    }


def _evidence_rows(evidence: Sequence[Evidence]) -> list[list[str]]:
    return [
        ["ok" if e.holds else "FAILS", e.check, f"{e.verdict}, {e.environment}", e.found, e.wanted] for e in evidence
    ]


def show_bundle(bundle: VerifiedBundle, manifest: Manifest, *, as_json: bool) -> None:
    """Print what a bundle says of itself."""
    from edgepack_runtime.protection import protection_of

    header, signers = bundle.header, [key.hex() for key in bundle.signers]
    protection = protection_of(header.suite, len(bundle.container.grants))
    grants = [grant.key_id.hex() for grant in bundle.container.grants]
    if as_json:
        text = {
            "signed_by": signers,
            "bundle_id": header.bundle_id.hex(),
            "recipients": grants,
            "protection": protection.level,
            "security_version": header.security_version,
            "created": header.created,
            "expires": header.expires,
            "entries": [
                {"name": e.name, "role": e.role.name.lower(), "stored_bytes": e.stored_length} for e in bundle.entries
            ],
            "manifest": json.loads(bundle.manifest),
        }
        print(json.dumps(text, indent=2))
        return
    console = console_for(stderr=False)
    rows = [
        ["product", f"{manifest.name} {manifest.version}, security version {header.security_version}"],
        ["built for", f"{header.profile} ({manifest.profile.description})"],
        ["runs on", f"{header.engine} {header.engine_version}"],
        ["model", f"{manifest.model.scheme}, from {manifest.provenance.source_format}"],
        ["steps", ", ".join(step.use for step in manifest.provenance.steps)],
        *(["input", str(spec)] for spec in manifest.model.inputs),
        *(["output", str(spec)] for spec in manifest.model.outputs),
        ["signed", f"{utc(header.created)} by {', '.join(key[:16] for key in signers)}"],
        ["expiry", expiry_in_words(header.expires)],
        *(["requires", f"{r.product}, security version {r.security_version} or later"] for r in manifest.requires),
        *([["declares", ", ".join(manifest.processing.to_json())]] if manifest.processing else []),
        ["bundle id", header.bundle_id.hex()],
        ["protection", protection.text],
        *(["recipient", key] for key in grants),
        *([f"entry {e.name}", f"{e.role.name.lower()}, {_size(e.stored_length)}"] for e in bundle.entries),
        *(["note", text] for text in manifest.provenance.notes),
    ]
    print_table(console, ["", ""], rows)
    console.print()
    print_table(console, ["", "evidence", "known by", "found", "wanted"], _evidence_rows(manifest.evidence))


def show_report(report: Report, *, as_json: bool) -> None:
    """Print a validation, check by check; when something fails, also one line on standard error."""
    if as_json:
        checks = [dataclasses.asdict(check) for check in report.checks]
        text = {"bundle": str(report.path), "profile": report.profile.name, "good": report.good, "checks": checks}
        print(json.dumps(text, indent=2))
    else:
        print_table(
            console_for(stderr=False), ["", "check", "known by", "found", "wanted"], _evidence_rows(report.checks)
        )
    failed = [check for check in report.checks if not check.holds]
    if failed:
        console = console_for(stderr=True)
        first = f"{failed[0].check}: {failed[0].found}"
        console.print(
            f"[red]edgepack: error:[/red] {escape(str(report.path))} must not run on {report.profile.name}: "
            f"{escape(first)}" + (f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""),
            soft_wrap=True,
        )


def show_profiles(profiles: Sequence[DeviceProfile], *, as_json: bool) -> None:
    """Print a line a profile."""
    if as_json:
        print(json.dumps([profile.to_json() for profile in profiles], indent=2))
        return
    rows = [
        [p.name, p.hardware.arch, f"{p.engine.name} {p.engine.version}", _size(p.budget.ram_bytes), p.description]
        for p in profiles
    ]
    print_table(console_for(stderr=False), ["name", "arch", "engine", "RAM for a model", "what it is"], rows)


def show_profile(profile: DeviceProfile, *, as_json: bool) -> None:
    """Print one profile, each figure with its source."""
    if as_json:
        print(json.dumps(profile.to_json(), indent=2))
        return
    from edgepack.profile_check import profile_rows

    console = console_for(stderr=False)
    console.print(f"[bold]{escape(profile.name)}[/bold]: {escape(profile.description)}", soft_wrap=True)
    rows = [list(row) for row in profile_rows(profile)]
    print_table(console, ["field", "value", "source"], rows)
