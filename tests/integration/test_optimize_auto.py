"""``--optimize auto`` as a user runs it: the choice, its figures, and a search that is killed and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parent.parent / "data" / "mnist"
ASKED = ("--optimize", "auto", "--max-drop", "0.03", "--candidates", "4", "--profile", "raspberry-pi-4")
ASKED += ("--precision", "dynamic_range", "--precision", "float32")


def command(folder: Path, *more: str) -> list[str]:
    data = ["--calibration", str(folder / "calibration.npz"), "--evaluation", str(folder / "evaluation.npz")]
    return [
        sys.executable, "-m", "edgepack", "build", str(DIGITS / "model.onnx"), *data, "--name", "digits",
        "-o", "auto", *ASKED, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def searched(shop, tmp_path_factory):
    """The search, killed with its second candidate under way, and run again."""
    folder = tmp_path_factory.mktemp("search")
    environment = os.environ | {"EDGEPACK_HOME": str(shop.folder / "identity")}
    journal = folder / "auto" / "digits-raspberry-pi-4.candidates"
    process = subprocess.Popen(command(shop.folder), cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < deadline, "no candidate was measured"
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes()
    done = shop.run(*command(shop.folder, "--json")[3:], cwd=folder)
    assert done.code == 0, done.err
    return done, kept, journal.read_bytes()


def test_a_killed_search_goes_on_with_what_it_measured(searched):
    done, kept, after = searched
    assert "1 candidates were measured before; they are not measured again" in done.err
    assert after.startswith(kept)


def test_the_smallest_candidate_within_the_budget_is_shipped(searched):
    (bundle,) = searched[0].json()["bundles"]
    tried = bundle["search"]["tried"]
    (shipped,) = [one["trial"] for one in tried if one["fate"] == "shipped"]
    assert shipped["size"] == bundle["model_bytes"] == min(one["trial"]["size"] for one in tried)


def test_every_candidate_has_a_fate_and_its_recipe(searched):
    (bundle,) = searched[0].json()["bundles"]
    tried = bundle["search"]["tried"]
    assert [one["trial"]["scheme"] for one in tried][:3] == ["dynamic_range", "float32", "mixed"]
    assert all(one["fate"] and one["trial"]["options"] and one["trial"]["size"] for one in tried)


def test_the_choice_is_judged_on_samples_nothing_was_chosen_by(searched):
    (bundle,) = searched[0].json()["bundles"]
    search, (drop,) = bundle["search"], bundle["candidates"][-1]["drops"]
    assert search["chosen_on"] + search["judged_on"] == 1000
    assert drop["samples"] == search["judged_on"] == 600
    assert drop["drop"]["high"] <= 0.03


def test_what_was_chosen_among_is_signed(searched):
    (bundle,) = searched[0].json()["bundles"]
    notes = bundle["manifest"]["provenance"]["notes"]
    assert [note for note in notes if note.startswith("--optimize auto:") and "judged on the 600 others" in note]


def test_a_search_without_samples_to_hold_out_is_refused(shop):
    calibration = str(shop.folder / "calibration.npz")
    done = shop.run("build", DIGITS / "model.onnx", "--calibration", calibration, "-o", "none", *ASKED)
    assert done.code == 1
    assert "0 are too few for both" in done.err
