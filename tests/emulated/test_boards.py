"""What runs on an emulated board: the runtime's own tests, and real bundles with the outputs they have here."""

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

import realbundle
from edgepack.pack import Contents
from edgepack.profiles import load_profile
from edgepack.proof import prove_on_board
from edgepack.userland import board
from edgepack_runtime.golden import pack_golden
from pytestalone import link_pytest

pytestmark = pytest.mark.slow
# They start a process, which an emulated program cannot; one counts descriptors, and the emulator's own come and go.
NATIVE_ONLY = (
    "test_activation.py::test_a_crash_while_it_is_opened_counts_as_a_start",
    "test_device.py::test_a_key_and_its_passphrase_may_come_from_pipes",
    "test_engines.py::test_the_engines_are_found_in_an_archive_too",
    "test_engines.py::test_listing_the_installed_engines_imports_none_of_them",
    "test_enrolment.py::test_a_process_that_made_a_key_dumps_no_core",
    "test_files.py::test_a_full_disk",
    "test_files.py::test_a_secret_is_waited_for",
    "test_files.py::test_without_hard_links",
    "test_observe.py::test_an_application_that_does_not_log_does_not_import_logging",
    "test_plaintext.py::test_without_core_dumps_an_ordinary_user_still_opens_the_model",
    "test_session.py::test_a_closed_session_and_a_refused_bundle_hold_no_descriptors",
    "test_stored_trust.py::test_two_updates_at_one_time_cannot_bring_an_older_document_back",
)
ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "tests" / "data" / "mnist"
# A bundle's path from its bytes to its outputs, and the device's own files.
DEVICE_TESTS = ("container", "encryption", "engines", "grants", "pool", "session", "sidecar", "signing", "statefile",
                "table", "trial", "trust", "verify")  # fmt: skip
# The store, updates, and what comes before and behind a model: these take minutes. What is left of tests/unit/runtime
# is about starting processes, or needs hypothesis or Pillow, part of which is native.
LONGER_TESTS = ("acceptance", "activation", "ahead", "boxes", "data", "device", "enrolment", "files", "installation",
                "live", "observe", "pictures", "plaintext", "predict", "processing_declaration", "profile",
                "requires", "revocation", "slots", "sound", "state", "store", "stored_trust",
                "trust_update")  # fmt: skip


def test_a_program_on_the_board_sees_the_profiles_processor(emulated):
    command = [str(emulated.python), "-c", "import os, platform; print(platform.machine(), os.cpu_count())"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath}, check=False)
    hardware = emulated.profile.hardware
    assert done.stdout.split() == [hardware.arch, str(hardware.cores)], done.stderr


def run_on_boards(names, userlands, pytest_folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Return how the runtime's own tests ended, by profile; both boards run beside each other."""
    folders = [ROOT / "runtime", ROOT / "tests", link_pytest(pytest_folder, foreign=True)]
    tests = ["-m", "not slow and not long", *(f"tests/unit/runtime/test_{name}.py" for name in names)]
    tests += [f"--deselect=tests/unit/runtime/{name}" for name in NATIVE_ONLY]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        with board(load_profile(name), userlands[name]) as python:
            command = [str(python), "-B", "-m", "pytest", "-p", "no:cacheprovider", *tests]
            environment = {"PATH": os.defpath, "HOME": "/", "PYTHONPATH": os.pathsep.join(map(str, folders))}
            return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)

    with ThreadPoolExecutor() as pool:
        return dict(zip(userlands, pool.map(run, userlands), strict=True))


@pytest.fixture(scope="module")
def device_tests(userlands, tmp_path_factory):
    return run_on_boards(DEVICE_TESTS, userlands, tmp_path_factory.mktemp("pytest"))


@pytest.fixture(scope="module")
def longer_tests(userlands, tmp_path_factory):
    return run_on_boards(LONGER_TESTS, userlands, tmp_path_factory.mktemp("pytest"))


def test_the_runtimes_own_tests_pass_on_the_board(emulated, device_tests):
    done = device_tests[emulated.profile.name]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.long
def test_the_tests_of_the_store_and_of_predictions_pass_on_the_board(emulated, longer_tests):
    done = longer_tests[emulated.profile.name]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.fixture(scope="module")
def proven(userlands, tmp_path_factory):
    """Return the manifests, by profile, of one build of the digits for both boards, proven on them."""
    folder = tmp_path_factory.mktemp("proven")
    with np.load(DIGITS / "digits.npz") as archive:
        x = (archive["x"][:, None] / 255).astype(np.float32)
    np.savez(folder / "calibration.npz", Input3=x[:60])
    profiles = [item for name in userlands for item in ("--profile", name)]
    command = [sys.executable, "-m", "edgepack", "build", str(DIGITS / "model.onnx"), *profiles, "--emulate",
               "--json", "--calibration", "calibration.npz", "-o", "dist"]  # fmt: skip
    environment = os.environ | {"EDGEPACK_HOME": str(folder / "identity")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return {bundle["profile"]: bundle["manifest"] for bundle in json.loads(done.stdout)["bundles"]}


def test_an_encrypted_bundle_gives_on_the_board_what_it_gives_here(emulated, proven):
    (evidence,) = [e for e in proven[emulated.profile.name]["evidence"] if e["verdict"] == "emulated"]
    # int8 kernels of both engines are the same on ARM and x86; the last step to float may round the last bit.
    assert evidence["holds"]
    assert evidence["value"] < 1e-6
    assert f"emulated {emulated.profile.hardware.arch}" in evidence["environment"]


def test_a_bundle_whose_outputs_are_others_on_the_board_does_not_hold(emulated):
    model = realbundle.model()
    engine = emulated.profile.engine
    manifest = realbundle.manifest(model, emulated.profile)
    moved = tuple(replace(g, outputs={n: a + 1 for n, a in g.outputs.items()}) for g in model.golden)
    contents = Contents(model=model.data, golden=pack_golden(model.golden, model.inputs, model.outputs))
    right, wrong = (
        prove_on_board(contents, manifest, golden, emulated.where, None).holds for golden in (model.golden, moved)
    )
    assert (engine.name, right, wrong) == (emulated.where.engine, True, False)
