"""A power cut, a full disk or a kill at any moment leaves the old or the new state; every drill is noticed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import state_scenarios
import store_scenarios
from campaign import run
from simulated_disk import Fault, SimulatedDisk
from tools import power_cut

from edgepack_runtime.errors import FileError

BY_NAME = {s.name: s for s in (*state_scenarios.SCENARIOS, *store_scenarios.SCENARIOS)}
DRILLS = (*state_scenarios.DRILLS, *store_scenarios.DRILLS)
KILLS = 200


@pytest.mark.slow
# All points of the state take more than a minute, all of the store a quarter of an hour: `python -m tools.power_cut`.
@pytest.mark.parametrize(
    "words",
    [
        ["state", "--every", "4"],
        pytest.param(["state"], marks=pytest.mark.long),
        pytest.param(["store", "--every", "9"], marks=pytest.mark.long),
    ],
    ids=["state in part", "state", "store"],
)
def test_at_each_fault_point_of_every_change_what_was_before_or_comes_after_is_found(capsys, words):
    assert power_cut.main(words) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name.replace(" ", "-"))
def test_the_campaign_notices_a_mistake(tmp_path, drill):
    with drill.made():
        found = run(BY_NAME[drill.scenario], tmp_path, deaf_to=drill.deaf_to)
    assert [violation for violation in found.violations if drill.noticed in violation] != []


def test_a_model_that_fails_its_self_test_changes_nothing_at_any_fault_point(tmp_path):
    assert run(BY_NAME["a model that fails its self-test"], tmp_path).violations == []


def test_what_a_start_has_found_is_found_again_after_a_power_cut(tmp_path):
    state_scenarios.provision(tmp_path)
    folder = state_scenarios.state_in(tmp_path)
    old = folder.read()
    newer = replace(old, generation=2, time_floor=7).to_bytes((folder.path / "state.key").read_bytes())
    (folder.path / "new").write_bytes(newer)
    with SimulatedDisk(tmp_path) as disk:
        # As by a process that was killed before it could sync the folder.
        (folder.path / "new").replace(folder.path / "state.a")
        found = folder.read()
    left = [image["state/state.a"] for image in disk.images(random.Random(0))]
    assert (found.time_floor, left) == (7, [newer])


@pytest.mark.slow
def test_kill_nine_at_random_moments_leaves_the_last_reported_floor_or_the_next(tmp_path):
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    for version in range(1, 100):
        (bundles / f"{version:03}").write_bytes(state_scenarios.bundle(version).read_bytes())
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), *filter(None, sys.path)])}
    command = [sys.executable, str(here / "kill_nine.py"), str(bundles), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    # Otherwise the kills came too late, or always at the same place.
    assert found["kills"] == KILLS
    assert found["distinct_floors"] >= 5


@pytest.mark.slow
def test_kill_nine_of_an_installer_leaves_the_last_reported_bundle_or_the_next(capsys):
    # 200 of them: `python -m tools.power_cut --kills 200`.
    assert power_cut.main(["--kills", "40"]) == 0, capsys.readouterr().out


def test_after_a_sync_that_failed_an_installation_begins_anew(tmp_path):
    store_scenarios.provision(tmp_path)
    rehearsal = tmp_path.with_name("rehearsal")
    shutil.copytree(tmp_path, rehearsal)
    with SimulatedDisk(rehearsal) as disk:
        store_scenarios.install(rehearsal, store_scenarios.source(3))
    at = [i for i, what in enumerate(disk.log) if what.startswith("sync ") and what.endswith("/1.edgepack")]
    with SimulatedDisk(tmp_path, Fault(at=at[0], kind="EIO")) as disk:
        with pytest.raises(FileError, match="Input/output error"):
            store_scenarios.install(tmp_path, store_scenarios.source(3))
        # The bytes are still in memory, where they look as if they were on the disk.
        store_scenarios.install(tmp_path, store_scenarios.source(3))
    left = {image["store/slots/1.edgepack"] for image in disk.images(random.Random(0))}
    assert left == {store_scenarios.source(3).read_bytes()}
