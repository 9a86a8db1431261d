"""Probes of this machine and inside the emulated boards: a bundle is built for the profile of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack.probe_import import profile_of_probe
from edgepack.probed import Probe, read_probe
from edgepack.profile_check import ERROR, check_profile
from edgepack.profiles import load_profile, write_profile
from edgepack.userland import board
from edgepack_runtime.capabilities import SCHEMES
from edgepack_runtime.probing import probe

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "tests" / "data" / "mnist"


@pytest.fixture(scope="module")
def probes(userlands) -> dict[str, Probe]:
    """Return what both boards found of themselves, beside each other, and what this machine did."""

    def run(name: str) -> Probe:
        with board(load_profile(name), userlands[name]) as python:
            command = [str(python), "-B", "-m", "edgepack_runtime.cli", "probe", "--json"]
            environment = {"PATH": os.defpath, "HOME": "/", "PYTHONPATH": str(ROOT / "runtime")}
            done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return read_probe(done.stdout, name)

    with ThreadPoolExecutor() as pool:
        found = dict(zip(userlands, pool.map(run, userlands), strict=True))
    return found | {"here": read_probe(json.dumps(probe()).encode(), "here")}


@pytest.fixture(scope="module")
def built(probes, tmp_path_factory) -> dict[str, dict]:
    """Return the manifests of one build for the profiles that were made of the probes, by board."""
    folder = tmp_path_factory.mktemp("probed")
    named = []
    for name, found in probes.items():
        path = write_profile(profile_of_probe(found, f"probed-{name}").profile, folder)
        named += ["--profile", str(path)]
    with np.load(DIGITS / "digits.npz") as archive:
        np.savez(folder / "calibration.npz", Input3=(archive["x"][:60, None] / 255).astype(np.float32))
    command = [sys.executable, "-m", "edgepack", "build", str(DIGITS / "model.onnx"), *named, "--json"]
    command += ["--calibration", "calibration.npz", "-o", "dist"]
    environment = os.environ | {"EDGEPACK_HOME": str(folder / "identity")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    manifests = [bundle["manifest"] for bundle in json.loads(done.stdout)["bundles"]]
    return {manifest["profile"]["name"].removeprefix("probed-"): manifest for manifest in manifests}


@pytest.mark.parametrize("name", ["raspberry-pi-4", "raspberry-pi-3"])
def test_the_profile_of_a_probed_board_passes_its_check(probes, name):
    board_profile, profile = load_profile(name), profile_of_probe(probes[name], "probed").profile
    assert [finding for finding in check_profile(profile) if finding.severity == ERROR] == []
    assert profile.hardware.arch == board_profile.hardware.arch
    # Its one engine, in the version that was installed.
    wanted = replace(board_profile.engine, num_threads=profile.engine.num_threads, also=(), delegates=())
    assert profile.engine == wanted


@pytest.mark.parametrize("name", ["raspberry-pi-4", "raspberry-pi-3"])
def test_every_scheme_that_is_built_is_right_on_both_boards(probes, name):
    assert profile_of_probe(probes[name], "probed").profile.quantization[:5] == (*SCHEMES[:4], "int16x8")


def test_dense_layers_that_tflite_runtime_computes_wrong_on_a_pc_are_wrong_on_the_board_too(probes):
    (engine,) = probes["raspberry-pi-3"].engines
    found = engine.model("dynamic_range/per_channel/unstamped/FULLY_CONNECTED")
    assert (found.verdict, found.error > 0.5) == ("wrong", True)


@pytest.mark.long
@pytest.mark.parametrize("name", ["raspberry-pi-4", "raspberry-pi-3", "here"])
def test_a_bundle_is_built_for_the_profile_of_a_probed_board(probes, built, name):
    manifest = built[name]
    assert manifest["profile"]["engine"]["version"] == probes[name].engines[0].version
    assert manifest["profile"]["sources"]["quantization.supported"]["kind"] == "measured"
    assert all(item["holds"] for item in manifest["evidence"])
