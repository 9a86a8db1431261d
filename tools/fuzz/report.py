"""What campaigns were run, and what they found: ``python -m tools.fuzz.report`` prints the table of docs/fuzzing.md.

Every campaign adds a line to ``.build/fuzz/campaigns.csv``; a campaign belongs to the commit it ran on. Lines worth
keeping are moved to ``tools/fuzz/campaigns.csv``, which the table is made of.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tools.fuzz.parsers import PARSERS

__all__ = ["KEPT_RECORD", "RECORD", "Campaign", "add_to", "commit", "read_from", "table"]

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / ".build" / "fuzz" / "campaigns.csv"
KEPT_RECORD = ROOT / "tools" / "fuzz" / "campaigns.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One run of one target. `start_edges` is what the inputs it began with cover, `edges` what all of them do."""

    target: str
    seconds: int
    cpu_seconds: int
    inputs: int
    start_edges: int
    edges: int
    found: str
    commit: str


def commit() -> str:
    """Return the commit of the checkout, with a plus sign if files differ from it; nothing outside of git."""
    said = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=7"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.stdout.strip()


def add_to(path: Path, campaign: Campaign) -> None:
    """Add a line; a table that is not there is begun."""
    names = [field.name for field in fields(Campaign)]
    begin = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        if begin:
            writer.writeheader()
        writer.writerow(asdict(campaign))


def read_from(path: Path) -> list[Campaign]:
    """Return the campaigns in a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Campaign(
                target=row["target"],
                seconds=int(row["seconds"]),
                cpu_seconds=int(row["cpu_seconds"]),
                inputs=int(row["inputs"]),
                start_edges=int(row["start_edges"]),
                edges=int(row["edges"]),
                found=row["found"],
                commit=row["commit"],
            )
            for row in csv.DictReader(file)
        ]


def table(campaigns: Iterable[Campaign]) -> str:
    """Return the campaigns as a Markdown table, a row a target; one that never ran says so."""
    lines = [
        "| Target | Seconds | of CPU | Inputs | Edges, from | to | Findings | Last on |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    by_target: dict[str, list[Campaign]] = {name: [] for names in PARSERS.values() for name in names}
    for campaign in campaigns:
        by_target.setdefault(campaign.target, []).append(campaign)
    for name, ran in sorted(by_target.items()):
        if not ran:
            lines.append(f"| `{name}` | 0 | 0 | 0 | | | | never |")
            continue
        sums = (sum(c.seconds for c in ran), sum(c.cpu_seconds for c in ran), sum(c.inputs for c in ran))
        numbers = " | ".join(f"{number:,}" for number in sums)
        found = sum(bool(campaign.found) for campaign in ran)
        edges = f"{min(c.start_edges for c in ran)} | {max(c.edges for c in ran)}"
        lines.append(f"| `{name}` | {numbers} | {edges} | {found} | {ran[-1].commit} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table of the record that is kept, or of the records that are named."""
    records = [Path(name) for name in sys.argv[1:]] or [KEPT_RECORD]
    print(table(one for record in records for one in read_from(record)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
