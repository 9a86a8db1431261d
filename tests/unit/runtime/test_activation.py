"""Opening what is active: starts are counted, health is reported, and the last known good comes back."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import bundlekit
import storekit
from edgepack_runtime import activation
from edgepack_runtime.activation import floor_of, open_active
from edgepack_runtime.errors import FileError, FormatError, RollbackError, SchemaError, StateError, StoreError
from edgepack_runtime.installation import activate_bundle, install_bundle, roll_back
from edgepack_runtime.session import open_bundle
from edgepack_runtime.slots import Health, Moment
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from storekit import CLOCK, PRODUCT, stored


@pytest.fixture
def root(tmp_path) -> Path:
    StateFolder(tmp_path / "state").create()
    return tmp_path


def install(root: Path, security_version: int, **options: object) -> None:
    path = root / "m.edgepack"
    path.write_bytes(storekit.bundle(security_version, **options))
    install_bundle(path, device=storekit.device(root), clock=lambda: CLOCK)


def activate(root: Path, health: Health | None = None) -> None:
    activate_bundle(PRODUCT, device=storekit.device(root), health=health)


@pytest.fixture
def on_trial(root):
    """Make 1.3 active and good, and 1.4 active on trial."""

    def make(health: Health | None = None) -> Path:
        install(root, 3)
        activate(root)
        install(root, 4)
        activate(root, health or Health())
        return root

    return make


def opened(root: Path, *, report: bool = False, **changes: object) -> tuple[str, str | None]:
    """Open what is active, and return its version and what the store had to say."""
    with open_active(PRODUCT, device=storekit.device(root, **changes)) as session:
        assert session.self_test().holds
        if report:
            session.report_healthy()
        return session.manifest.version, session.notice


def states(root: Path) -> list[str]:
    return [f"{slot.version} {slot.state.value}" for slot in stored(root).slots]


def floor(root: Path) -> int:
    return floor_of(storekit.device(root), PRODUCT)


def damage(root: Path, number: int) -> None:
    path = root / "store" / "slots" / f"{number}.edgepack"
    path.write_bytes(path.read_bytes()[:-1])


def test_the_active_bundle_is_opened(root):
    install(root, 3)
    activate(root)
    assert opened(root) == ("1.3", None)


def test_an_installed_bundle_is_not_opened_before_it_is_active(root):
    install(root, 3)
    activate(root)
    install(root, 4)
    assert opened(root) == ("1.3", None)


def test_opening_a_good_bundle_writes_nothing(root):
    install(root, 3)
    activate(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    opened(root, report=True)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_bundle_on_trial_is_opened_as_often_as_it_may_be(on_trial):
    root = on_trial(Health(starts=2))
    assert [opened(root)[0] for _ in range(4)] == ["1.4", "1.4", "1.3", "1.3"]


def test_the_fall_back_is_said_and_logged(on_trial, caplog):
    root = on_trial(Health(starts=1))
    opened(root)
    with caplog.at_level(logging.WARNING):
        notice = "digits 1.4: it was opened once and never reported healthy; 1.3 runs instead"
        assert opened(root) == ("1.3", notice)
    assert caplog.messages == [notice]


def test_a_report_ends_the_trial_and_raises_the_floor(on_trial):
    root = on_trial(Health(starts=1))
    assert (opened(root, report=True), states(root), floor(root)) == (
        ("1.4", None),
        ["1.4 good", "1.3 good"],
        4,
    )
    assert [opened(root) for _ in range(3)] == [("1.4", None)] * 3


def test_until_the_report_the_floor_stays(on_trial):
    root = on_trial()
    opened(root)
    assert floor(root) == 3


def test_reporting_again_is_allowed(on_trial):
    root = on_trial()
    with open_active(PRODUCT, device=storekit.device(root)) as session:
        session.report_healthy()
        session.report_healthy()
    assert states(root) == ["1.4 good", "1.3 good"]


def test_a_report_of_a_bundle_that_is_not_active_any_more_changes_nothing(on_trial):
    root = on_trial()
    with open_active(PRODUCT, device=storekit.device(root)) as session:
        roll_back(PRODUCT, device=storekit.device(root))
        session.report_healthy()
    assert (states(root), floor(root)) == (["1.3 good", "1.4 failed"], 3)


def test_a_session_of_a_path_can_report_too(root):
    path = root / "m.edgepack"
    path.write_bytes(storekit.bundle(3))
    with open_bundle(path, device=storekit.device(root)) as session:
        session.report_healthy()
    assert floor(root) == 0


def test_one_on_trial_that_does_not_open_is_given_up(on_trial):
    root = on_trial()
    damage(root, 2)
    version, notice = opened(root)
    assert (version, states(root)) == ("1.3", ["1.3 good", "1.4 failed"])
    assert notice.startswith("digits 1.4: it could not be opened (")
    assert opened(root) == ("1.3", notice)


def test_one_that_the_disk_does_not_give_is_not_given_up_before_its_starts_are(on_trial):
    root = on_trial(Health(starts=2))
    (root / "store" / "slots" / "2.edgepack").unlink()
    version, notice = opened(root)
    assert (version, notice.startswith("digits 1.4: it could not be opened (cannot open ")) == ("1.3", True)
    assert states(root) == ["1.4 trial", "1.3 good"]
    assert [opened(root)[0] for _ in range(2)] == ["1.3", "1.3"]
    assert states(root) == ["1.3 good", "1.4 failed"]


def test_one_that_was_good_and_does_not_open_is_replaced_for_this_time(root):
    install(root, 3)
    activate(root)
    install(root, 3, minor=1)
    activate(root)
    path = root / "store" / "slots" / "2.edgepack"
    whole = path.read_bytes()
    damage(root, 2)
    assert (opened(root)[0], states(root)) == ("1.3", ["1.3.1 good", "1.3 good"])
    path.write_bytes(whole)
    assert opened(root) == ("1.3.1", None)


def test_nothing_below_the_floor_is_opened_instead(root):
    install(root, 3)
    activate(root)
    install(root, 4)
    activate(root)
    damage(root, 2)
    with pytest.raises(FormatError, match="the file has"):
        opened(root)
    assert states(root) == ["1.4 good", "1.3 good"]


def test_a_floor_that_rose_past_the_last_known_good_ends_the_fall_back(on_trial):
    root = on_trial(Health(starts=1))
    opened(root)
    header = replace(bundlekit.HEADER, profile=storekit.PROFILE, security_version=4)
    StateFolder(root / "state").update(lambda old: old.accepting(header))
    assert (opened(root), states(root)[0]) == (("1.4", None), "1.4 trial")


def test_a_floor_set_by_hand_above_the_last_known_good_ends_the_fall_back(on_trial):
    root = on_trial(Health(starts=1))
    assert [opened(root, accepted={PRODUCT: 4}) for _ in range(3)] == [("1.4", None)] * 3


def test_with_nothing_to_fall_back_to_the_error_is_that_of_the_active_one(root):
    install(root, 3)
    activate(root, Health())
    damage(root, 1)
    with pytest.raises(FormatError, match="the file has"):
        opened(root)
    assert states(root) == ["1.3 trial"]


def test_if_both_fail_nobody_is_given_up(on_trial):
    root = on_trial()
    damage(root, 1)
    damage(root, 2)
    with pytest.raises(FormatError, match="the file has"):
        opened(root)
    assert states(root) == ["1.4 trial", "1.3 good"]


def test_a_first_bundle_on_trial_goes_on_without_a_report(root):
    install(root, 3)
    activate(root, Health(starts=1))
    assert [opened(root) for _ in range(3)] == [("1.3", None)] * 3


def test_a_start_that_cannot_be_counted_is_that_of_the_last_known_good(on_trial, monkeypatch):
    root = on_trial()

    def full(*arguments: object) -> None:
        raise FileError("cannot write store.json: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(StoreFolder, "update", full)
        version, notice = opened(root)
    assert (version, "its start could not be counted (cannot write" in notice) == ("1.3", True)
    assert (opened(root), states(root)) == (("1.4", None), ["1.4 trial", "1.3 good"])


def test_a_crash_while_it_is_opened_counts_as_a_start(on_trial):
    root = on_trial(Health(starts=1))
    script = (
        f"import os, sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "import storekit; from pathlib import Path\n"
        "from edgepack_runtime import activation\n"
        "activation.open_bundle = lambda *a, **k: os._exit(7)\n"
        f"activation.open_active('digits', device=storekit.device(Path({str(root)!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False)
    assert (done.returncode, opened(root)[0]) == (7, "1.3")


def test_after_its_minutes_the_last_known_good_comes_back(on_trial, monkeypatch):
    root = on_trial(Health(starts=9, seconds=60))
    clock = iter([Moment(boot="a", seconds=5), Moment(boot="a", seconds=64), Moment(boot="a", seconds=65)])
    monkeypatch.setattr(activation, "now", lambda: next(clock))
    assert [opened(root)[0] for _ in range(3)] == ["1.4", "1.4", "1.3"]


def test_time_is_counted_since_the_device_was_switched_on():
    now = activation.now()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert (len(now.boot), abs(now.seconds - uptime) < 60) == (36, True)


def test_a_floor_that_a_power_cut_kept_from_rising_rises_at_the_next_start(root):
    install(root, 3)
    activate(root)
    install(root, 4)
    StoreFolder(root / "store").change(PRODUCT, lambda old: old.activated(None))
    assert (floor(root), opened(root), floor(root)) == (3, ("1.4", None), 4)


def test_a_floor_that_cannot_rise_keeps_no_model_from_running(root, monkeypatch, caplog):
    install(root, 3)
    activate(root)
    install(root, 4)
    StoreFolder(root / "store").change(PRODUCT, lambda old: old.activated(None))

    def full(*arguments: object) -> None:
        raise FileError("cannot write state.a: No space left on device")

    monkeypatch.setattr(StateFolder, "update", full)
    assert opened(root)[0] == "1.4"
    assert caplog.messages == ["digits: the floor was not raised: cannot write state.a: No space left on device"]


def test_while_a_bundle_is_being_installed_the_active_one_opens(on_trial):
    root = on_trial()
    with StoreFolder(root / "store").installing():
        assert opened(root, report=True) == ("1.4", None)


def test_an_installer_that_was_quicker_is_followed(root, monkeypatch):
    install(root, 3)
    activate(root)
    install(root, 4)
    real, calls = activation.open_bundle, []

    def quicker(path: Path, *, device: object) -> object:
        calls.append(path.name)
        if len(calls) == 1:
            activate(root)
            install(root, 5)
            assert not path.exists()
        return real(path, device=device)

    monkeypatch.setattr(activation, "open_bundle", quicker)
    assert (opened(root), calls) == (("1.4", None), ["1.edgepack", "2.edgepack"])


def test_of_nothing_nothing_is_opened(root):
    with pytest.raises(StoreError, match="digits: no bundle is active") as caught:
        opened(root)
    assert "edgepack-device install" in caught.value.hint


def test_without_a_good_state_nothing_is_opened(root):
    install(root, 3)
    activate(root)
    for name in ("state.a", "state.b"):
        (root / "state" / name).write_bytes(b"rust")
    with pytest.raises(StateError, match="no copy is good"):
        opened(root)


def test_below_a_floor_set_by_hand_nothing_is_opened(root):
    install(root, 3)
    activate(root)
    with pytest.raises(RollbackError):
        opened(root, accepted={PRODUCT: 9})


@pytest.mark.parametrize("missing", ["store", "state"])
def test_without_a_store_or_a_state_folder_nothing_is_opened(root, missing):
    with pytest.raises(SchemaError, match=f"no {missing} folder"):
        open_active(PRODUCT, device=replace(storekit.device(root), **{missing: None}))
