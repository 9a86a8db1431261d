"""Fail and cut the power at every operation of every change of a device's state: ``python -m tools.power_cut``.

It prints, for each change, how many fault points there were, how many disk images they left, and whether a fresh
start found the old or the new state. ``--drills`` makes known mistakes instead, each of which must be noticed. Exit
code 0 if all is as it must be. The disk is simulated: `tests/faults/simulated_disk.py`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

__all__ = ["main"]

TESTS = Path(__file__).resolve().parents[1] / "tests"
FEWEST = 500


def main(words: list[str] | None = None) -> int:
    """Run the campaign, or the drills, and print what was found; return the exit code."""
    parser = argparse.ArgumentParser(prog="power_cut", description="Fault campaign over the state of a device.")
    parser.add_argument("--drills", action="store_true", help="make known mistakes, which must be noticed")
    args = parser.parse_args(words)
    for folder in (TESTS, TESTS / "faults"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    campaign, scenarios = importlib.import_module("campaign"), importlib.import_module("state_scenarios")
    return _drill(campaign, scenarios) if args.drills else _run(campaign, scenarios)


def _workplace() -> tempfile.TemporaryDirectory[str]:
    # Thousands of small folders: in memory where there is such a place, as no real disk is under test.
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(
        prefix="edgepack-cut-", dir=memory if os.access(memory, os.W_OK | os.X_OK) else None
    )


def _run(campaign: ModuleType, scenarios: ModuleType) -> int:
    total = campaign.Findings()
    for scenario in scenarios.SCENARIOS:
        with _workplace() as folder:
            found = campaign.run(scenario, Path(folder))
        print(f"{scenario.name}: {found}")
        total.add(found)
    print(f"in all: {total}")
    for violation in total.violations:
        print(f"  {violation}")
    return 0 if total.points >= FEWEST and not total.violations else 1


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


if __name__ == "__main__":
    sys.exit(main())
