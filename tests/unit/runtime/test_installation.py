"""Installing, activating, going back and cleaning up, with a real model."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import bundlekit
import realbundle
import storekit
from edgepack_runtime import installation
from edgepack_runtime.activation import floor_of
from edgepack_runtime.container import pack_grants
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.errors import (
    BundleError,
    ExpiredError,
    FastForwardError,
    FileError,
    GrantError,
    IncompatibleError,
    PayloadError,
    RollbackError,
    SchemaError,
    SelfTestError,
    SignatureError,
    StateError,
    StoreError,
)
from edgepack_runtime.installation import (
    activate_bundle,
    collect_garbage,
    install_bundle,
    product_states,
    roll_back,
)
from edgepack_runtime.session import verify_bundle
from edgepack_runtime.slots import Health
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from storekit import CLOCK, PRODUCT, stored


@pytest.fixture
def root(tmp_path) -> Path:
    StateFolder(tmp_path / "state").create()
    return tmp_path


def write(root: Path, data: bytes) -> Path:
    path = root / "m.edgepack"
    path.write_bytes(data)
    return path


def install(root: Path, security_version: int, now: int = CLOCK, **options: object):
    path = write(root, storekit.bundle(security_version, **options))
    return install_bundle(path, device=storekit.device(root), clock=lambda: now)


def activate(root: Path, health: Health | None = None):
    return activate_bundle(PRODUCT, device=storekit.device(root), health=health)


def run(root: Path, *security_versions: int) -> None:
    for security_version in security_versions:
        install(root, security_version)
        activate(root)


def slots(root: Path) -> list[str]:
    return [f"{slot.version} {slot.state.value}" for slot in stored(root).slots]


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "store" / "slots").iterdir())


def floor(root: Path) -> int:
    return floor_of(storekit.device(root), PRODUCT)


def test_an_installed_bundle_is_copied_proven_and_not_active(root):
    done = install(root, 3)
    assert (done.copied.written, done.copied.found, done.replay.samples) == (done.slot.length, 0, 3)
    assert (slots(root), files(root), floor(root)) == (["1.3 installed"], ["1.edgepack"], 0)


def test_the_copy_is_the_file(root):
    install(root, 3)
    assert (root / "store" / "slots" / "1.edgepack").read_bytes() == (root / "m.edgepack").read_bytes()


def test_store_and_files_are_for_their_owner_alone(root):
    install(root, 3)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (root / "store").rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (root / "store", root / "store" / "slots")}
    assert (modes, folders) == ({0o600}, {0o700})


def test_activating_raises_the_floor(root):
    install(root, 3)
    done = activate(root)
    assert (done.floor, done.product.active_slot().version, slots(root)) == (3, "1.3", ["1.3 good"])


def test_a_trial_raises_no_floor(root):
    run(root, 3)
    install(root, 4)
    assert (activate(root, Health()).floor, slots(root)) == (3, ["1.4 trial", "1.3 good"])


def test_an_upgrade_takes_the_other_slot(root):
    run(root, 2, 3)
    install(root, 4)
    assert (slots(root), files(root)) == (["1.3 good", "1.4 installed"], ["2.edgepack", "3.edgepack"])


def test_installing_the_active_bundle_again_does_nothing(root):
    run(root, 3)
    before = (root / "store" / "store.json").read_bytes()
    assert (install_again(root).is_active, (root / "store" / "store.json").read_bytes()) == (True, before)


def install_again(root: Path):
    return install_bundle(root / "m.edgepack", device=storekit.device(root), clock=lambda: CLOCK)


def test_installing_the_active_bundle_again_repairs_it_in_the_other_slot(root):
    run(root, 3)
    path = root / "store" / "slots" / "1.edgepack"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert (install_again(root).is_active, slots(root)) == (False, ["1.3 good", "1.3 installed"])


def test_installing_again_copies_nothing_twice(root):
    first = install(root, 3)
    again = install_again(root)
    assert (again.copied.written, again.copied.found) == (0, first.slot.length)
    assert (slots(root), files(root)) == (["1.3 installed"], ["1.edgepack"])


def test_another_bundle_replaces_one_that_was_never_activated(root):
    install(root, 3)
    install(root, 4)
    assert (slots(root), files(root)) == (["1.4 installed"], ["2.edgepack"])


def test_a_damaged_part_of_what_lies_there_is_copied_again(root):
    install(root, 3)
    path = root / "store" / "slots" / "1.edgepack"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    done = install_again(root)
    assert (0 < done.copied.written < done.copied.found, path.read_bytes()) == (True, whole)


def test_what_is_longer_than_the_bundle_is_cut(root):
    install(root, 3)
    path = root / "store" / "slots" / "1.edgepack"
    whole = path.read_bytes()
    path.write_bytes(whole + b"more")
    install_again(root)
    assert path.read_bytes() == whole


def test_a_damaged_source_is_refused_and_the_copy_goes_on_with_a_good_one(root):
    whole = storekit.bundle(3)
    write(root, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(PayloadError, match=r"segment 0 of 1 of notes\.txt") as caught:
        install_again(root)
    assert ("goes on from here" in caught.value.hint, slots(root)) == (True, ["1.3 incoming"])
    write(root, whole)
    done = install_again(root)
    assert (0 < done.copied.written < done.copied.found, slots(root)) == (True, ["1.3 installed"])


def test_what_counts_is_the_copy_and_not_the_source(root, monkeypatch):
    copy = installation.copy_into_slot

    def copy_and_damage(source, bundle, target):
        done = copy(source, bundle, target)
        target.write_bytes(target.read_bytes()[:-1] + b"x")
        return done

    monkeypatch.setattr(installation, "copy_into_slot", copy_and_damage)
    with pytest.raises(PayloadError):
        install(root, 3)
    assert (slots(root), files(root)) == ([], [])


def test_a_bundle_that_fails_its_self_test_does_not_stay(root):
    run(root, 3)
    with pytest.raises(SelfTestError):
        install(root, 4, good=False)
    assert (slots(root), files(root), floor(root)) == (["1.3 good"], ["1.edgepack"], 3)


def untrusted(security_version: int) -> bytes:
    what, board = realbundle.model(), realbundle.profile()
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board)
    header = replace(recipe.header, security_version=security_version)
    return bundlekit.make(recipe, header=header, signers=(bundlekit.ed25519("a stranger"),)).file()


def of_another_engine(security_version: int) -> bytes:
    what, board = realbundle.model(), realbundle.profile(version="9.9")
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board)
    return bundlekit.make(recipe, header=replace(recipe.header, security_version=security_version)).file()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (lambda: untrusted(4), SignatureError),
        (lambda: of_another_engine(4), IncompatibleError),
        (lambda: storekit.bundle(2), RollbackError),
        (lambda: storekit.bundle(2**40), FastForwardError),
        (lambda: storekit.bundle(4, expires=CLOCK), ExpiredError),
        (lambda: replace(storekit.parts(4), grants=()).file(), GrantError),
        (lambda: b"no bundle", BundleError),
    ],
    ids=["a stranger's", "another engine", "too old", "too far", "expired", "no grant", "no bundle"],
)
def test_what_this_device_would_not_run_is_not_even_copied(root, data, error):
    run(root, 2, 3)
    before = stored(root)
    with pytest.raises(error):
        install_bundle(write(root, data()), device=storekit.device(root), clock=lambda: CLOCK)
    assert (stored(root), files(root)) == (before, ["1.edgepack", "2.edgepack"])


def test_an_expired_bundle_that_is_installed_can_be_activated(root):
    install(root, 3, expires=CLOCK + 1)
    assert activate(root).product.active_slot().version == "1.3"


def test_the_grant_beside_a_bundle_is_copied_for_this_device_alone(root):
    parts = storekit.parts(3, recipients=(bundlekit.x25519(), bundlekit.x25519("another")))
    path = write(root, replace(parts, grants=()).file())
    path.with_name("m.edgepack.grant").write_bytes(pack_grants(parts.grants))
    install_bundle(path, device=storekit.device(root), clock=lambda: CLOCK)
    mine = storekit.grants_for(bundlekit.x25519(), parts)
    assert (len(parts.grants), len(mine)) == (2, 1)
    assert (root / "store" / "slots" / "1.edgepack.grant").read_bytes() == pack_grants(mine)
    assert activate(root).floor == 3


def test_a_grants_file_can_be_named(root):
    parts = storekit.parts(3)
    path = write(root, replace(parts, grants=()).file())
    (root / "mine").write_bytes(pack_grants(parts.grants))
    install_bundle(path, device=storekit.device(root), grants=root / "mine", clock=lambda: CLOCK)
    assert files(root) == ["1.edgepack", "1.edgepack.grant"]


@pytest.mark.parametrize("key", [None, bundlekit.x25519()], ids=["no key", "a key"])
def test_a_bundle_in_clear_needs_no_key_and_no_grant(root, key):
    device = storekit.device(root, key=key)
    path = write(root, replace(storekit.parts(3, suite=PayloadSuite.PLAIN), grants=()).file())
    path.with_name("m.edgepack.grant").write_bytes(b"stale")
    install_bundle(path, device=device, clock=lambda: CLOCK)
    assert (files(root), activate_bundle(PRODUCT, device=device).floor) == (["1.edgepack"], 3)


def test_nothing_in_clear_lies_on_the_disk(root):
    run(root, 3)
    install(root, 4)
    everything = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert [piece for piece in storekit.plaintexts() if piece in everything] == []
    assert any(piece in realbundle.model().data for piece in storekit.plaintexts())


def with_room_for(monkeypatch, free: int) -> None:
    real = os.statvfs

    def statvfs(path):
        found = list(real(path))
        found[1], found[4] = 1, free
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_without_room_nothing_is_copied_and_both_figures_are_named(root, monkeypatch):
    run(root, 2, 3)
    before = (slots(root), files(root))
    with_room_for(monkeypatch, 1000)
    wanted = len(storekit.bundle(4)) + 2**20
    with pytest.raises(FileError, match=rf": \d+ bytes are free or can be freed, {wanted} are wanted") as caught:
        install(root, 4)
    assert ("edgepack-device gc" in caught.value.hint, (slots(root), files(root))) == (True, before)


def test_what_is_replaced_counts_as_room(root, monkeypatch):
    run(root, 2, 3)
    old = (root / "store" / "slots" / "1.edgepack").stat().st_blocks * 512
    with_room_for(monkeypatch, len(storekit.bundle(4)) + 2**20 - old)
    assert install(root, 4).copied.found == 0


def test_what_is_replaced_is_gone_before_the_copy_begins(root, monkeypatch):
    run(root, 2, 3)
    copy, seen = installation.copy_into_slot, []

    def copy_and_look(source, bundle, target):
        seen.extend(files(root))
        return copy(source, bundle, target)

    monkeypatch.setattr(installation, "copy_into_slot", copy_and_look)
    install(root, 4)
    assert seen == ["2.edgepack"]


def test_only_one_process_installs(root):
    run(root, 3)
    descriptor = os.open(root / "store" / "slots", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    device = storekit.device(root)
    for act in (
        lambda: install(root, 4),
        lambda: activate(root),
        lambda: roll_back(PRODUCT, device=device),
        lambda: collect_garbage(device),
    ):
        with pytest.raises(FileError, match="another process is installing a bundle"):
            act()
    os.close(descriptor)
    assert install(root, 4).slot.version == "1.4"


def test_a_bundle_damaged_since_it_was_installed_is_not_activated(root):
    run(root, 3)
    install(root, 4)
    path = root / "store" / "slots" / "2.edgepack"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError):
        activate(root)
    assert (slots(root), floor(root)) == (["1.3 good", "1.4 installed"], 3)


def test_nothing_is_activated_twice(root):
    run(root, 3)
    with pytest.raises(StoreError, match="nothing is installed that is not active yet"):
        activate(root)


def test_going_back_and_forth_between_equal_security_versions(root):
    run(root, 3)
    install(root, 3, minor=1)
    activate(root)
    device = storekit.device(root)
    assert roll_back(PRODUCT, device=device).product.active_slot().version == "1.3"
    assert roll_back(PRODUCT, device=device).product.active_slot().version == "1.3.1"


def test_a_trial_can_be_rolled_back(root):
    run(root, 3)
    install(root, 4)
    activate(root, Health())
    roll_back(PRODUCT, device=storekit.device(root))
    assert (slots(root), floor(root)) == (["1.3 good", "1.4 failed"], 3)


def test_nothing_below_the_floor_is_gone_back_to(root):
    run(root, 3, 4)
    with pytest.raises(RollbackError, match="security version 3 is lower than 4"):
        roll_back(PRODUCT, device=storekit.device(root))
    assert slots(root) == ["1.4 good", "1.3 good"]


def test_a_floor_set_by_hand_counts_too(root):
    run(root, 3)
    install(root, 3, minor=1)
    activate(root)
    with pytest.raises(RollbackError, match="is lower than 9"):
        roll_back(PRODUCT, device=storekit.device(root, accepted={PRODUCT: 9}))


def test_one_that_does_not_open_any_more_is_not_gone_back_to(root):
    run(root, 3)
    install(root, 3, minor=1)
    activate(root)
    (root / "store" / "slots" / "1.edgepack").write_bytes(b"rust")
    with pytest.raises(BundleError):
        roll_back(PRODUCT, device=storekit.device(root))
    assert slots(root) == ["1.3.1 good", "1.3 good"]


def test_cleaning_up_frees_what_can_never_run(root):
    run(root, 3, 4)
    taken = (root / "store" / "slots" / "1.edgepack").stat().st_blocks * 512
    assert (collect_garbage(storekit.device(root)), slots(root), files(root)) == (taken, ["1.4 good"], ["2.edgepack"])


def test_cleaning_up_leaves_what_may_still_run(root):
    run(root, 3)
    install(root, 4)
    assert (collect_garbage(storekit.device(root)), slots(root)) == (0, ["1.3 good", "1.4 installed"])


def test_the_status_has_floor_and_sizes(root):
    run(root, 3)
    install(root, 4)
    (status,) = product_states(storekit.device(root))
    lengths = [slot.length for slot in status.product.slots]
    assert (status.floor, [size >= length for size, length in zip(status.sizes, lengths, strict=True)]) == (
        3,
        [True] * 2,
    )


@pytest.mark.parametrize(("missing", "hint"), [("store", '"store"'), ("state", '"state"')])
def test_without_a_store_or_a_state_folder_nothing_can_be_installed(root, missing, hint):
    device = replace(storekit.device(root), **{missing: None})
    for act in (
        lambda: install_bundle(write(root, storekit.bundle(3)), device=device),
        lambda: activate_bundle(PRODUCT, device=device),
        lambda: roll_back(PRODUCT, device=device),
        lambda: collect_garbage(device),
        lambda: product_states(device),
    ):
        with pytest.raises(SchemaError, match=f"no {missing} folder") as caught:
            act()
        assert hint in caught.value.hint
    assert not (root / "store").exists()


def test_without_a_good_state_nothing_is_installed(tmp_path):
    with pytest.raises(StateError, match="no state yet"):
        install(tmp_path, 3)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("damage", ["rust", "lost"])
def test_with_a_damaged_list_no_bundle_is_removed(root, damage):
    run(root, 3)
    path = root / "store" / "store.json"
    if damage == "rust":
        path.write_bytes(b"rust")
    else:
        path.unlink()
    for act in (lambda: install(root, 4), lambda: StoreFolder(root / "store").read()):
        with pytest.raises(StoreError) as caught:
            act()
        assert str(root / "store" / "slots") in caught.value.hint
    assert files(root) == ["1.edgepack"]


def test_leftovers_go_at_the_next_read(root):
    run(root, 3)
    for name in ("store/.store.json.0123.part", "store/slots/.1.edgepack.grant.0123.part", "store/slots/9.edgepack"):
        (root / name).write_bytes(b"half")
    stored(root)
    assert sorted(path.name for path in (root / "store").rglob("*")) == ["1.edgepack", "slots", "store.json"]


def test_the_files_of_a_running_installer_are_left_alone(root):
    run(root, 3)
    half = root / "store" / "slots" / ".2.edgepack.grant.0123.part"
    half.write_bytes(b"half")
    descriptor = os.open(root / "store" / "slots", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    stored(root)
    os.close(descriptor)
    assert half.exists()


def test_changes_at_the_same_time_do_not_lose_one_another(root):
    def count() -> None:
        for _ in range(5):
            StoreFolder(root / "store").update(lambda store: replace(store, serial=store.serial + 1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert StoreFolder(root / "store").read().serial == 40


def test_what_is_installed_is_what_was_signed(root):
    install(root, 3)
    bundle, _ = verify_bundle(root / "store" / "slots" / "1.edgepack", device=storekit.device(root), payload=True)
    assert bundle.header.security_version == 3
