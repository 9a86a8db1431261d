"""The simulated disk forgets what was not synced, keeps what was, and fails when told to."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from diskmodel import SECTOR, Image, read_image, write_image
from simulated_disk import Fault, PowerCut, SimulatedDisk


def write(path: Path, data: bytes, *, sync: bool = False, flags: int = os.O_CREAT) -> int:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        count = os.write(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return count


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def left_by(root: Path, act: Callable[[], object], **options: object) -> list[Image]:
    """Return every folder that a cut after `act` could leave."""
    with SimulatedDisk(root, **options) as disk:
        act()
    assert disk.unbooked() == []
    return list(disk.images(random.Random(0)))


def test_what_was_there_before_is_on_the_disk(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("folder")
    assert left_by(tmp_path, lambda: None) == [{"folder": None, "folder/file": b"old", "link": b"-> folder"}]


def test_a_synced_file_in_a_synced_folder_stays(tmp_path):
    images = left_by(tmp_path, lambda: (write(tmp_path / "a", b"new", sync=True), sync_folder(tmp_path)))
    assert images == [{"a": b"new"}]


def test_the_name_of_a_synced_file_can_be_lost(tmp_path):
    images = left_by(tmp_path, lambda: write(tmp_path / "a", b"new", sync=True))
    assert images == [{}, {"a": b"new"}]


def test_a_file_that_was_not_synced_can_be_empty_or_zeros_or_whole(tmp_path):
    images = left_by(tmp_path, lambda: (write(tmp_path / "a", b"new"), sync_folder(tmp_path)))
    assert sorted(image["a"] for image in images) == [b"", b"\0\0\0", b"new"]


def test_an_overwritten_file_is_torn_between_sectors_and_never_inside_one(tmp_path):
    (tmp_path / "a").write_bytes(b"o" * 2 * SECTOR)
    images = left_by(tmp_path, lambda: write(tmp_path / "a", b"n" * 2 * SECTOR, flags=0))
    whole = {(image["a"][:SECTOR], image["a"][SECTOR:]) for image in images if len(image["a"]) == 2 * SECTOR}
    old, new = b"o" * SECTOR, b"n" * SECTOR
    assert whole == {(old, old), (old, new), (new, old), (new, new)}


def test_renames_are_lost_or_kept_in_any_combination(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    images = left_by(tmp_path, lambda: [(tmp_path / name).rename(tmp_path / f"{name}2") for name in "abc"])
    assert len({tuple(sorted(image)) for image in images}) == 8


def test_a_rename_never_leaves_both_names_or_none(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    images = left_by(tmp_path, lambda: (tmp_path / "a").replace(tmp_path / "b"))
    assert images == [{"a": b"new", "b": b"old"}, {"b": b"new"}]


def test_a_file_renamed_into_a_synced_folder_is_gone_from_where_it_was(tmp_path):
    def act() -> None:
        (tmp_path / "to").mkdir()
        sync_folder(tmp_path)
        write(tmp_path / "part", b"x", sync=True)
        (tmp_path / "part").rename(tmp_path / "to" / "whole")
        sync_folder(tmp_path / "to")

    assert left_by(tmp_path, act) == [{"to": None, "to/whole": b"x"}]


def test_a_renamed_folder_takes_its_files_along(tmp_path):
    (tmp_path / "slot").mkdir()
    (tmp_path / "slot" / "file").write_bytes(b"x")
    images = left_by(tmp_path, lambda: ((tmp_path / "slot").rename(tmp_path / "other"), sync_folder(tmp_path)))
    assert images == [{"other": None, "other/file": b"x"}]


def test_a_replaced_link_is_the_old_or_the_new_one(tmp_path):
    (tmp_path / "current").symlink_to("a")

    def act() -> None:
        (tmp_path / "next").symlink_to("b")
        sync_folder(tmp_path)
        (tmp_path / "next").replace(tmp_path / "current")

    assert left_by(tmp_path, act) == [{"current": b"-> a", "next": b"-> b"}, {"current": b"-> b"}]


def test_a_truncated_file_can_come_back(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    images = left_by(tmp_path, lambda: write(tmp_path / "a", b"", flags=os.O_TRUNC))
    assert {image["a"] for image in images} >= {b"", b"old"}


def test_after_a_sync_that_failed_another_one_brings_nothing_back(tmp_path):
    def act() -> None:
        with pytest.raises(OSError, match="Input/output"):
            write(tmp_path / "a", b"new", sync=True)
        descriptor = os.open(tmp_path / "a", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        sync_folder(tmp_path)

    images = left_by(tmp_path, act, fault=Fault(at=2, kind="EIO"))
    assert b"" in {image["a"] for image in images}


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO", "EINTR"])
def test_an_operation_fails_with_the_error_that_was_asked_for_and_does_nothing(tmp_path, kind):
    with SimulatedDisk(tmp_path, Fault(at=0, kind=kind)), pytest.raises(OSError) as caught:
        write(tmp_path / "a", b"new")
    assert (caught.value.errno, list(tmp_path.iterdir())) == (getattr(errno, kind), [])


def test_a_short_write_writes_half_and_says_so(tmp_path):
    with SimulatedDisk(tmp_path, Fault(at=1, kind="short write")):
        count = write(tmp_path / "a", b"1234")
    assert (count, (tmp_path / "a").read_bytes()) == (2, b"12")


@pytest.mark.parametrize(("kind", "there"), [("cut before", []), ("cut after", ["a"])])
def test_a_cut_comes_before_or_after_the_operation(tmp_path, kind, there):
    with SimulatedDisk(tmp_path, Fault(at=0, kind=kind)), pytest.raises(PowerCut):
        (tmp_path / "a").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == there


def test_no_cleanup_reaches_a_disk_that_is_off(tmp_path):
    def act() -> None:
        try:
            write(tmp_path / "a", b"new")
        finally:
            (tmp_path / "a").unlink()

    with SimulatedDisk(tmp_path, Fault(at=1, kind="cut before")), pytest.raises(PowerCut):
        act()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_goes_around_os_is_found(tmp_path):
    with SimulatedDisk(tmp_path) as disk:
        (tmp_path / "a").write_bytes(b"by an open file object")
    assert disk.unbooked() == ["a"]


def test_other_folders_are_none_of_its_business(tmp_path):
    (tmp_path / "ours").mkdir()
    with SimulatedDisk(tmp_path / "ours", Fault(at=0, kind="EIO")) as disk:
        write(tmp_path / "theirs", b"x", sync=True)
    assert disk.log == []


def test_the_real_functions_come_back(tmp_path):
    real = os.fsync
    with SimulatedDisk(tmp_path):
        inside = os.fsync
    assert (inside is real, os.fsync is real) == (False, True)


def test_an_image_is_read_as_it_was_written(tmp_path):
    image: Image = {"a": None, "a/b": b"x" * 700, "c": b"-> a"}
    write_image(image, tmp_path / "root")
    assert read_image(tmp_path / "root") == image
