"""A bundle is tried out in a child: a crashing engine is a verdict, and changes nothing on the device."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

import bundlekit
import realbundle
from edgepack_runtime import loading, session, trial
from edgepack_runtime.acceptance import accept_bundle
from edgepack_runtime.cli import main
from edgepack_runtime.errors import EngineError, FileError, GrantError
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.trial import try_bundle


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "m.edgepack"
    path.write_bytes(realbundle.bundle())
    return path


@pytest.fixture
def crashing(monkeypatch):
    """Make the engine crash when it loads a model, in whatever process does it."""
    monkeypatch.setattr(loading, "load", lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV))


def test_a_bundle_that_runs_right_is_told_with_its_engine(bundle):
    done = try_bundle(bundle, device=realbundle.device())
    assert (done.replay.samples, done.replay.holds, done.engine) == (
        3,
        True,
        f"{realbundle.ENGINE} {realbundle.VERSION}",
    )


def test_this_process_never_opens_the_model(bundle, monkeypatch):
    opened = []
    monkeypatch.setattr(trial, "open_bundle", lambda *a, **k: opened.append(a) or session.open_bundle(*a, **k))
    try_bundle(bundle, device=realbundle.device())
    assert opened == []


def test_a_refusal_is_the_one_that_opening_gives(bundle):
    with pytest.raises(GrantError):
        try_bundle(bundle, device=realbundle.device(key=None))


@pytest.mark.usefixtures("crashing")
def test_a_crashing_engine_is_a_verdict(bundle):
    with pytest.raises(EngineError, match=r"self-test of digits on .*: its process was ended by SIGSEGV"):
        try_bundle(bundle, device=realbundle.device())


@pytest.mark.usefixtures("crashing")
def test_a_crashing_engine_raises_no_floor(bundle, tmp_path):
    state = StateFolder(tmp_path / "state")
    state.create()
    with pytest.raises(EngineError):
        accept_bundle(bundle, device=realbundle.device(state=state), clock=lambda: bundlekit.HEADER.created)
    assert state.read().floors == ()


@pytest.mark.usefixtures("crashing")
def test_the_command_tells_a_crash_without_a_traceback(bundle, tmp_path, capfd):
    device = realbundle.write_device(tmp_path)
    assert main(["verify", str(bundle), "--device", str(device), "--self-test"]) == 1
    error = capfd.readouterr().err
    # An emulator has its own say about the signal before that.
    assert f"edgepack-device: error: self-test of digits on {realbundle.ENGINE}: its process was ended by" in error
    assert "Traceback" not in error


def test_a_bundle_that_is_replaced_meanwhile_is_not_the_one_that_was_tried(bundle, tmp_path, monkeypatch):
    other = tmp_path / "other.edgepack"
    other.write_bytes(realbundle.bundle(tolerance=1e-3))
    tried = trial.apart

    def after_a_swap(work, **told):
        shutil.move(other, bundle)
        return tried(work, **told)

    monkeypatch.setattr(trial, "apart", after_a_swap)
    with pytest.raises(FileError, match="was replaced"):
        try_bundle(bundle, device=realbundle.device())
