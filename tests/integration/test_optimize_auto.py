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


def _as_in_a_terminal() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def stopped(shop, folder: Path, number: signal.Signals, lines: int) -> tuple[int, str, bytes]:
    """Stop the search as a terminal does, all its processes, once its journal has so many lines."""
    journal = folder / "auto" / "digits-raspberry-pi-4.candidates"
    process = subprocess.Popen(
        command(shop.folder),
        cwd=folder,
        env=os.environ | {"EDGEPACK_HOME": str(shop.folder / "identity")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_as_in_a_terminal,  # noqa: PLW1509 - one thread
    )
    deadline = time.monotonic() + 240
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, "no candidate was measured"
        assert process.poll() is None, f"the build ended before it could be stopped: {process.communicate()[1]}"
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, journal.read_bytes()


@pytest.fixture(scope="module")
def interrupted(shop, tmp_path_factory):
    """The search, stopped by Ctrl-C with its second candidate under way."""
    folder = tmp_path_factory.mktemp("search")
    return folder, stopped(shop, folder, signal.SIGINT, 2)


@pytest.fixture(scope="module")
def searched(shop, interrupted):
    """The search gone on with, killed with its third candidate under way, and run again."""
    folder, _ = interrupted
    _, _, kept = stopped(shop, folder, signal.SIGKILL, 3)
    done = shop.run(*command(shop.folder, "--json")[3:], cwd=folder)
    assert done.code == 0, done.err
    return done, kept, (folder / "auto" / "digits-raspberry-pi-4.candidates").read_bytes()


def test_ctrl_c_ends_a_search_in_one_line_that_says_what_is_kept(interrupted):
    _, (code, said, _) = interrupted
    told = "stopped: 1 candidates are kept in auto/digits-raspberry-pi-4.candidates; the same command goes on there"
    last = [line for line in said.splitlines() if line.strip()][-1]
    assert (code, told in last, "Traceback" in said) == (130, True, False), said


def test_a_killed_search_goes_on_with_what_it_measured(interrupted, searched):
    done, kept, after = searched
    assert "2 candidates were measured before; they are not measured again" in done.err
    assert after.startswith(kept)
    assert kept.startswith(interrupted[1][2])


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


def test_by_latency_the_fastest_candidate_within_the_budget_is_shipped(shop, interrupted, searched):
    folder, _ = interrupted
    done = shop.run(*command(shop.folder, "--objective", "latency", "--json")[3:], cwd=folder)
    assert done.code == 0, done.err
    tried = done.json()["bundles"][0]["search"]["tried"]
    (shipped,) = [one["trial"] for one in tried if one["fate"] == "shipped"]
    inside = [one["trial"]["ratio"] for one in tried if one["fate"].startswith(("shipped", "within the budget"))]
    assert (len(inside) > 1, shipped["ratio"]) == (True, min(inside))
