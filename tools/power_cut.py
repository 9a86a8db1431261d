"""Fail and cut the power at every operation that changes a device's state or store: ``python -m tools.power_cut``.

It prints, for each change, how many fault points there were, how many disk images they left, and whether a fresh
start found the old or the new state. ``python -m tools.power_cut store`` takes the changes of the store only, and
``--every 7`` each seventh fault point. ``--drills`` makes known mistakes instead, each of which must be noticed, and
``--kills 200`` kills a real installer 200 times. Exit code 0 if all is as it must be. The disk is simulated, but for
the kills: `tests/faults/simulated_disk.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

__all__ = ["main"]

TESTS = Path(__file__).resolve().parents[1] / "tests"
AREAS = ("state", "store")
FEWEST = 500


def main(words: list[str] | None = None) -> int:
    """Run the campaign, or the drills, and print what was found; return the exit code."""
    parser = argparse.ArgumentParser(prog="power_cut", description="Fault campaign over the state and the store.")
    parser.add_argument(
        "areas", nargs="*", default=AREAS, metavar="area", help=f"of {', '.join(AREAS)}; default: all"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th fault point only")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--drills", action="store_true", help="make known mistakes, which must be noticed")
    what.add_argument(
        "--kills", type=int, metavar="N", help="instead, kill -9 a process that installs, so many times"
    )
    args = parser.parse_args(words)
    if strange := set(args.areas) - set(AREAS):
        parser.error(f"no such area: {', '.join(sorted(strange))}")
    for folder in (TESTS, TESTS / "faults"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    if args.kills is not None:
        return _kill(args.kills)
    campaign = importlib.import_module("campaign")
    codes = []
    for area in args.areas:
        scenarios = importlib.import_module(f"{area}_scenarios")
        codes.append(_drill(campaign, scenarios) if args.drills else _run(campaign, scenarios, area, args.every))
    return max(codes)


def _workplace() -> tempfile.TemporaryDirectory[str]:
    # Thousands of small folders: in memory where there is such a place, as no real disk is under test.
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(
        prefix="edgepack-cut-", dir=memory if os.access(memory, os.W_OK | os.X_OK) else None
    )


def _run(campaign: ModuleType, scenarios: ModuleType, area: str, every: int) -> int:
    total = campaign.Findings()
    for scenario in scenarios.SCENARIOS:
        with _workplace() as folder:
            found = campaign.run(scenario, Path(folder), every=every)
        print(f"{scenario.name}: {found}", flush=True)
        total.add(found)
    print(f"in all of the {area}: {total}")
    for violation in total.violations:
        print(f"  {violation}")
    return 0 if total.points >= FEWEST // every and not total.violations else 1


def _drill(campaign: ModuleType, scenarios: ModuleType) -> int:
    missed = 0
    by_name = {scenario.name: scenario for scenario in scenarios.SCENARIOS}
    for drill in scenarios.DRILLS:
        with _workplace() as folder, drill.made():
            found = campaign.run(by_name[drill.scenario], Path(folder), deaf_to=drill.deaf_to)
        noticed = [violation for violation in found.violations if drill.noticed in violation]
        missed += not noticed
        print(f"{drill.name}: {noticed[0] if noticed else 'NOT NOTICED'}")
    return 1 if missed else 0


def _kill(count: int) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    with tempfile.TemporaryDirectory(prefix="edgepack-kill-") as folder:
        command = [sys.executable, str(TESTS / "faults" / "kill_installer.py"), folder, str(count)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    print(
        f"{found['kills']} kills, {found['half_copied']} of them in the middle of an installation; {found['wrong']}"
    )
    # Otherwise the kills came too late, or always at the same place.
    meant = found["kills"] == count and found["half_copied"] > 0 and found["distinct"] > 1
    return 0 if meant and not found["wrong"] else 1


if __name__ == "__main__":
    sys.exit(main())
