"""Run the ONNX project's backend tests through every ONNX road; write results.csv and docs/onnx-coverage.md.

``python -m tools.onnx_coverage`` runs all of them: an hour on two cores. With ``--folder F --resume``, those that a
run before, with the same toolchains, wrote into the folder's journal are not run again. ``--only REGEX`` runs some
and prints what came out; ``--table`` writes the document anew from results.csv. Exit code 1 if a result is wrong.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from edgepack.toolchain import ensure, locate
from tools.onnx_coverage.campaign import run_campaign
from tools.onnx_coverage.journal import Journal, Outcome
from tools.onnx_coverage.results import WRONG, read_rows, write_rows
from tools.onnx_coverage.roads import MODULES
from tools.onnx_coverage.table import write_document

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.csv")
DOCUMENT = ROOT / "docs" / "onnx-coverage.md"
# The toolchain of each road; the first also has the tests.
TOOLCHAINS = {"onnx2tf": "onnx", "onnx-tf": "onnx-tf"}


def cases_in(folder: Path) -> list[Path]:
    """Return the folders of all cases, which are copied to `folder` if it does not have them yet."""
    cases = folder / "cases"
    if not cases.exists():
        python = ensure(locate("onnx"), offline=False, say=print)
        cases.mkdir(parents=True)
        subprocess.run([python, "-m", "tools.onnx_coverage.cases", cases], cwd=ROOT, check=True)
    return sorted(cases.iterdir())


def outcomes(folders: list[Path], road: str, jobs: int, journal: Journal, *, resume: bool) -> list[Outcome]:
    """Return what became of the cases on `road`; each is in the journal as soon as it is there."""
    toolchain = locate(TOOLCHAINS[road])
    python, used = ensure(toolchain, offline=False, say=print), toolchain.folder.name
    known = journal.outcomes(road, used) if resume else {}
    waiting = [folder for folder in folders if folder.name not in known]
    found = run_campaign(waiting, road, python, jobs, lambda outcome: journal.add(outcome, used)) if waiting else []
    return [*(known[folder.name] for folder in folders if folder.name in known), *found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="REGEX", help="cases whose SUITE.NAME it is found in")
    parser.add_argument("--update", action="store_true", help="with --only: keep what came out in results.csv")
    parser.add_argument("--road", action="append", choices=list(MODULES), help="this one; may be said again")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (2)")
    parser.add_argument("--folder", type=Path, help="keep cases and logs here (a temporary folder)")
    parser.add_argument("--resume", action="store_true", help="with --folder: run what its journal does not have")
    parser.add_argument("--table", action="store_true", help="only write the document, from results.csv")
    arguments = parser.parse_args()
    roads = arguments.road or list(MODULES)
    if not arguments.table:
        with tempfile.TemporaryDirectory() as temporary:
            kept = arguments.folder or Path(temporary)
            folders = cases_in(kept)
            chosen = [f for f in folders if not arguments.only or re.search(arguments.only, f.name)]
            journal, resume = Journal(kept / "journal.jsonl"), arguments.resume
            found = [o for road in roads for o in outcomes(chosen, road, arguments.jobs, journal, resume=resume)]
        for outcome in found:
            row = outcome.row
            if arguments.only or row.verdict == WRONG:
                print(f"{row.suite}.{row.case} {row.road}: {row.verdict} {row.reason}\n    {outcome.said}")
        if arguments.only and not arguments.update:
            return 1 if any(o.row.verdict == WRONG for o in found) else 0
        fresh = {(o.row.suite, o.row.case, o.row.road) for o in found}
        old = read_rows(RESULTS) if RESULTS.exists() else []
        write_rows([*(r for r in old if (r.suite, r.case, r.road) not in fresh), *(o.row for o in found)], RESULTS)
    rows = read_rows(RESULTS)
    if any(row.verdict == WRONG for row in rows):
        return 1
    write_document(rows, DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
