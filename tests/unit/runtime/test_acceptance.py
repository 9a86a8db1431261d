"""Accepting a bundle: the floor rises after the self-test, and holds for whatever is opened later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import bundlekit
import realbundle
from edgepack_runtime.acceptance import accept_bundle
from edgepack_runtime.errors import (
    ExpiredError,
    FastForwardError,
    RollbackError,
    SchemaError,
    SelfTestError,
    StateError,
)
from edgepack_runtime.session import open_bundle, verify_bundle
from edgepack_runtime.statefile import StateFolder

CREATED, EXPIRES = bundlekit.HEADER.created, bundlekit.HEADER.expires
IN_TIME = CREATED + 1000


@pytest.fixture
def state(tmp_path) -> StateFolder:
    made = StateFolder(tmp_path / "state")
    made.create()
    return made


@pytest.fixture
def bundle(tmp_path):
    """Write a bundle whose header has been changed, and return its path."""

    def write(*, good: bool = True, **header: object) -> Path:
        what, board = realbundle.model(), realbundle.profile()
        golden = None if good else [replace(s, outputs={n: v + 9 for n, v in s.outputs.items()}) for s in what.golden]
        recipe = realbundle.recipe(what, realbundle.manifest(what, board), board, golden)
        path = tmp_path / "m.edgepack"
        path.write_bytes(bundlekit.make(recipe, header=replace(recipe.header, **header)).file())
        return path

    return write


def accept(path: Path, state: StateFolder, now: int = IN_TIME):
    return accept_bundle(path, device=realbundle.device(state=state), clock=lambda: now)


def floors(state: StateFolder) -> dict[str, int]:
    return state.read().floors_of("bench-board")


def test_an_accepted_bundle_is_the_floor(bundle, state):
    done = accept(bundle(security_version=7), state)
    assert (done.product, done.floor, done.replay.samples, floors(state)) == ("digits", 7, 3, {"digits": 7})


def test_an_older_bundle_is_not_opened_after_that(bundle, state):
    accept(bundle(security_version=7), state)
    with pytest.raises(RollbackError, match="6 is lower than 7"):
        open_bundle(bundle(security_version=6), device=realbundle.device(state=state))


def test_the_accepted_bundle_is_opened_after_that(bundle, state):
    path = bundle(security_version=7)
    accept(path, state)
    with open_bundle(path, device=realbundle.device(state=state)) as session:
        assert session.self_test().holds


def test_opening_a_newer_bundle_raises_no_floor(bundle, state):
    path, device = bundle(security_version=9), realbundle.device(state=state)
    with open_bundle(path, device=device) as session:
        session.self_test()
    verify_bundle(path, device=device, payload=True)
    assert floors(state) == {}


def test_a_bundle_that_fails_its_self_test_raises_no_floor(bundle, state):
    with pytest.raises(SelfTestError):
        accept(bundle(good=False, security_version=9), state)
    assert (floors(state), state.read().time_floor) == ({}, 0)


def test_a_bundle_that_leaps_too_far_is_not_accepted(bundle, state):
    with pytest.raises(FastForwardError):
        accept(bundle(security_version=2**64 - 1), state)
    assert floors(state) == {}


def test_the_higher_of_both_floors_counts(bundle, state):
    accept(bundle(security_version=7), state)
    device = realbundle.device(state=state, accepted={"digits": 8})
    with pytest.raises(RollbackError, match="7 is lower than 8"):
        open_bundle(bundle(security_version=7), device=device)


def test_a_floor_that_rose_meanwhile_is_not_lowered(bundle, state, monkeypatch):
    from edgepack_runtime import session

    tested = session.Session.self_test

    def while_another_accepts(self):
        state.update(lambda old: old.accepting(replace(self.bundle.header, security_version=8)))
        return tested(self)

    monkeypatch.setattr(session.Session, "self_test", while_another_accepts)
    with pytest.raises(RollbackError, match="7 is lower than 8"):
        accept(bundle(security_version=7), state)
    assert floors(state) == {"digits": 8}


def test_an_expired_bundle_is_not_accepted(bundle, state):
    with pytest.raises(ExpiredError):
        accept(bundle(), state, now=EXPIRES)


def test_an_expired_bundle_that_is_installed_keeps_running(bundle, state):
    accept(bundle(created=EXPIRES + 1, expires=0), state)
    path = bundle(expires=EXPIRES)
    with open_bundle(path, device=realbundle.device(state=state)) as session:
        assert session.self_test().holds


def test_a_clock_that_was_set_back_does_not_bring_an_expired_bundle_back(bundle, state):
    accept(bundle(created=EXPIRES + 1, expires=0), state)
    with pytest.raises(ExpiredError):
        accept(bundle(expires=EXPIRES), state, now=0)


def test_a_device_without_a_state_folder_cannot_accept(bundle):
    with pytest.raises(SchemaError, match="no state folder") as caught:
        accept_bundle(bundle(), device=realbundle.device())
    assert '"state"' in caught.value.hint


@pytest.mark.parametrize("use", [open_bundle, verify_bundle, accept_bundle])
def test_without_a_good_state_nothing_is_opened(bundle, state, use):
    for name in ("state.a", "state.b"):
        (state.path / name).write_bytes(b"rust")
    with pytest.raises(StateError, match="no copy is good"):
        use(bundle(), device=realbundle.device(state=state))


def test_a_state_without_a_profile_is_refused(state):
    with pytest.raises(SchemaError, match="needs a profile"):
        realbundle.device(state=state, profile=None)


def test_a_device_file_names_its_state_folder(tmp_path):
    from edgepack_runtime.device import Device

    path = realbundle.write_device(tmp_path, state="var")
    assert Device.from_file(path).state == StateFolder(tmp_path / "var")
