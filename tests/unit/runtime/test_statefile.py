"""The state folder on a real disk: two copies, a mark, a lock."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import bundlekit
from edgepack_runtime import _folders, statefile
from edgepack_runtime._files import read_if_there
from edgepack_runtime.errors import FileError, RollbackError, StateError
from edgepack_runtime.state import DeviceState, Floor, StoredTrust
from edgepack_runtime.statefile import StateFolder

PROFILE = bundlekit.HEADER.profile
FLOOR = Floor(product="digits", profile=PROFILE, security_version=3)
FILES = ["provisioned", "state.a", "state.b", "state.key"]


@pytest.fixture
def folder(tmp_path) -> StateFolder:
    made = StateFolder(tmp_path / "var" / "state")
    made.create([FLOOR])
    return made


def accepting(security_version: int):
    return lambda old: old.accepting(replace(bundlekit.HEADER, security_version=security_version))


def floor(folder: StateFolder) -> int:
    return folder.read().floors_of(PROFILE)["digits"]


def names(folder: StateFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_a_new_state_has_the_floors_it_was_given(folder):
    assert folder.read() == DeviceState(generation=1, floors=(FLOOR,))


def test_folder_and_files_are_for_their_owner_alone(folder):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert (stat.S_IMODE(folder.path.stat().st_mode), modes) == (0o700, {0o600})


def test_there_are_four_files_and_no_leftovers(folder):
    folder.update(accepting(7))
    assert names(folder) == FILES


def test_a_change_is_there_at_the_next_read(folder):
    folder.update(accepting(7))
    assert floor(StateFolder(folder.path)) == 7


@pytest.mark.parametrize("lost", ["state.a", "state.b"])
def test_losing_one_copy_loses_nothing(folder, lost):
    folder.update(accepting(7))
    (folder.path / lost).unlink()
    assert floor(folder) == 7


@pytest.mark.parametrize("damaged", ["state.a", "state.b"])
def test_damage_to_one_copy_is_healed_by_the_next_change(folder, damaged):
    (folder.path / damaged).write_bytes(b"rust")
    folder.update(accepting(7))
    assert (folder.path / "state.a").read_bytes() == (folder.path / "state.b").read_bytes()


def test_the_copy_with_the_higher_generation_is_in_force(folder):
    old = (folder.path / "state.a").read_bytes()
    folder.update(accepting(7))
    (folder.path / "state.a").write_bytes(old)
    assert floor(folder) == 7


def test_a_change_that_changes_nothing_writes_nothing(folder):
    folder.update(accepting(7))
    before = (folder.path / "state.a").stat().st_ino, folder.read().generation
    folder.update(accepting(7))
    assert ((folder.path / "state.a").stat().st_ino, folder.read().generation) == before


def test_a_refused_change_writes_nothing(folder):
    with pytest.raises(RollbackError):
        folder.update(accepting(2))
    assert folder.read().generation == 1


def test_a_change_that_forgets_a_floor_is_refused(folder):
    with pytest.raises(StateError, match=r"floor of digits .* would fall"):
        folder.update(lambda old: replace(old, floors=()))
    assert floor(folder) == 3


def test_a_trust_update_is_kept_beside_the_floors(folder):
    folder.update(lambda old: replace(old, trust=StoredTrust(version=2, document=b"trust")))
    assert (folder.read().trust.document, floor(folder)) == (b"trust", 3)


def test_a_device_without_a_state_is_told_how_to_make_one(tmp_path):
    with pytest.raises(StateError, match="has no state yet") as caught:
        StateFolder(tmp_path / "state").read()
    assert "state create" in caught.value.hint


@pytest.mark.parametrize("change", [lambda f: f.read(), lambda f: f.update(lambda old: old)])
def test_a_device_whose_copies_are_both_gone_fails_closed(folder, change):
    for name in ("state.a", "state.b"):
        (folder.path / name).unlink()
    with pytest.raises(StateError, match="no copy is good") as caught:
        change(folder)
    assert "state repair" in caught.value.hint


@pytest.mark.parametrize("damage", [lambda key: key.unlink(), lambda key: key.write_bytes(b"short")])
def test_without_its_key_no_copy_is_good(folder, damage):
    damage(folder.path / "state.key")
    with pytest.raises(StateError, match="no copy is good"):
        folder.read()


def test_the_state_of_another_device_is_not_ours(folder, tmp_path):
    other = StateFolder(tmp_path / "other")
    other.create()
    for name in ("state.a", "state.b"):
        (folder.path / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(StateError, match="no copy is good"):
        folder.read()


def test_a_state_is_not_made_twice(folder):
    with pytest.raises(StateError, match="has a state already"):
        folder.create()
    assert floor(folder) == 3


def test_taking_the_mark_away_does_not_make_a_new_device(folder):
    folder.update(accepting(7))
    (folder.path / "provisioned").unlink()
    folder.create([FLOOR])
    assert floor(folder) == 7


def test_damaged_copies_without_a_mark_are_no_interrupted_beginning(folder):
    (folder.path / "provisioned").unlink()
    for name in ("state.a", "state.b"):
        (folder.path / name).write_bytes(b"rust")
    with pytest.raises(StateError, match="no copy is good"):
        folder.create()


def test_a_good_state_is_not_repaired(folder):
    with pytest.raises(StateError, match="nothing to repair"):
        folder.repair([])
    assert floor(folder) == 3


def test_a_repaired_state_has_the_floors_it_was_given(folder):
    for name in ("state.a", "state.b"):
        (folder.path / name).write_bytes(b"rust")
    folder.repair([replace(FLOOR, security_version=6)])
    assert floor(folder) == 6


def test_a_copy_that_the_disk_does_not_give_can_be_repaired(folder, monkeypatch):
    def read(path: Path, cap: int) -> bytes | None:
        if path.name == "state.a":
            raise FileError("cannot read state.a: Input/output error")
        return read_if_there(path, cap)

    with monkeypatch.context() as broken:
        broken.setattr(statefile, "read_if_there", read)
        folder.repair([replace(FLOOR, security_version=6)])
    assert floor(folder) == 6


def test_copies_from_before_a_repair_are_worthless_after_it(folder):
    old = (folder.path / "state.a").read_bytes()
    for name in ("state.a", "state.b"):
        (folder.path / name).write_bytes(b"rust")
    folder.repair([replace(FLOOR, security_version=6)])
    for name in ("state.a", "state.b"):
        (folder.path / name).write_bytes(old)
    with pytest.raises(StateError, match="no copy is good"):
        folder.read()


def test_a_copy_that_the_disk_does_not_give_is_an_error_as_it_could_be_the_newest(folder):
    (folder.path / "state.a").unlink()
    (folder.path / "state.a").mkdir()
    with pytest.raises(FileError, match=r"cannot read .*state.a: Is a directory"):
        folder.read()


def test_what_a_power_cut_left_is_gone_after_the_next_start(folder):
    (folder.path / ".state.a.0123.part").write_bytes(b"half")
    folder.read()
    assert names(folder) == FILES


def test_a_file_that_is_being_written_is_left_alone(folder):
    (folder.path / ".state.a.0123.part").write_bytes(b"half")
    descriptor = os.open(folder.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    folder.read()
    os.close(descriptor)
    assert ".state.a.0123.part" in names(folder)


def test_a_process_does_not_wait_forever_for_another(folder, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(_folders.time, "monotonic", lambda: next(clock))
    descriptor = os.open(folder.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(FileError, match="another process is changing the state"):
        folder.update(accepting(7))
    os.close(descriptor)


def test_changes_at_the_same_time_do_not_lose_one_another(folder):
    products = [f"p{i}" for i in range(8)]

    def accept(product: str) -> None:
        header = replace(bundlekit.HEADER, product=product, security_version=1)
        StateFolder(folder.path).update(lambda old: old.accepting(header))

    threads = [threading.Thread(target=accept, args=(product,)) for product in products]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(folder.read().floors_of(PROFILE)) == {"digits", *products}


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(FileError, match="state"):
        StateFolder(tmp_path / "state").create()


def test_the_state_is_written_nowhere_else(folder):
    assert [path.name for path in Path(folder.path.parent).iterdir()] == ["state"]
