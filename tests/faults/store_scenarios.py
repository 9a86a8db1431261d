"""The changes of a device's store as scenarios, and the drills: mistakes that the campaign must find."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from campaign import Drill, Scenario, written_in_place
from diskmodel import SECTOR
from simulated_disk import Fault, PowerCut, SimulatedDisk

import realbundle
import storekit
from edgepack_runtime import installation, session, slotcopy, storefile
from edgepack_runtime._files import is_leftover, write_whole
from edgepack_runtime.activation import floor_of, open_active
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.container import pack_grants
from edgepack_runtime.device import Device
from edgepack_runtime.errors import FileError, PayloadError, SelfTestError
from edgepack_runtime.installation import activate_bundle, collect_garbage, install_bundle, roll_back
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.plaintext import PlaintextModel
from edgepack_runtime.session import verify_bundle, verify_file
from edgepack_runtime.slots import Health, Slot, SlotState
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from edgepack_runtime.trial import Trial
from edgepack_runtime.verify import UnlockedBundle
from storekit import CLOCK, PRODUCT

# More starts than a campaign makes of one folder.
PATIENT = Health(starts=1000)


@functools.cache
def _bundles() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgepack-faults-")


@functools.cache
def source(security_version: int, *, minor: int = 0, good: bool = True) -> Path:
    """Return a bundle file outside the disk under test."""
    path = Path(_bundles().name) / f"{security_version}-{minor}-{good}.edgepack"
    path.write_bytes(storekit.bundle(security_version, minor=minor, good=good))
    return path


@functools.cache
def source_with_sidecar(security_version: int) -> Path:
    """Return a bundle without a grant, beside a file that has it."""
    parts = storekit.parts(security_version)
    path = Path(_bundles().name) / f"{security_version}-sidecar.edgepack"
    path.write_bytes(dataclasses.replace(parts, grants=()).file())
    path.with_name(f"{path.name}.grant").write_bytes(pack_grants(parts.grants))
    return path


@functools.cache
def damaged_source(security_version: int) -> Path:
    """Return a bundle whose last segment is not what was signed."""
    path = Path(_bundles().name) / f"{security_version}-damaged.edgepack"
    data = bytearray(storekit.bundle(security_version))
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def provision(root: Path) -> None:
    StateFolder(root / "state").create()


def install(root: Path, path: Path) -> None:
    install_bundle(path, device=storekit.device(root), clock=lambda: CLOCK)


def activate(root: Path, health: Health | None = None) -> None:
    activate_bundle(PRODUCT, device=storekit.device(root), health=health)


def start_once(root: Path) -> None:
    open_active(PRODUCT, device=storekit.device(root)).close()


def report(root: Path) -> None:
    with open_active(PRODUCT, device=storekit.device(root)) as session:
        if session.manifest.version != "1.4":
            # Its start could not be counted, so that another one runs: it is not reported healthy.
            raise FileError("the bundle on trial was not opened")
        session.report_healthy()


def running(root: Path, *security_versions: int) -> None:
    """Provision, then install and activate one bundle after the other."""
    provision(root)
    for security_version in security_versions:
        install(root, source(security_version))
        activate(root)


def on_trial(root: Path, health: Health = PATIENT) -> None:
    running(root, 3)
    install(root, source(4))
    activate(root, health)


def overdue(root: Path) -> None:
    on_trial(root, Health(starts=1))
    start_once(root)


def damaged_on_trial(root: Path) -> None:
    on_trial(root)
    path = root / "store" / "slots" / "2.edgepack"
    path.write_bytes(path.read_bytes()[:-1])


def given_up(root: Path) -> None:
    damaged_on_trial(root)
    start_once(root)
    (root / "store" / "slots" / "77.edgepack").write_bytes(b"of no slot")


def interrupted(root: Path) -> None:
    """Cut the power in the middle of a copy, after some segments were written."""
    running(root, 2, 3)
    with tempfile.TemporaryDirectory() as rehearsal:
        shutil.copytree(root, rehearsal, dirs_exist_ok=True)
        writes = writes_of_bundles(Path(rehearsal), lambda: install(Path(rehearsal), source(4)))
    with SimulatedDisk(root, Fault(at=writes[-1], kind="cut before")), contextlib.suppress(PowerCut):
        install(root, source(4))
    # As a cut leaves it: a sector of the labels, in the middle, did not reach the disk.
    path = root / "store" / "slots" / "3.edgepack"
    data = bytearray(path.read_bytes())
    assert _labels_at() + SECTOR < len(data) < len(storekit.bundle(4))
    data[_labels_at() : _labels_at() + SECTOR] = bytes(SECTOR)
    path.write_bytes(data)


def _labels_at() -> int:
    with BundleFile(source(4)) as file:
        labels = verify_file(file, realbundle.device(), None).entry("labels.txt")
        return file.container.preamble.front_length + labels.offset


def writes_of_bundles(root: Path, act: Callable[[], object]) -> list[int]:
    """Return which operations of `act` are writes to a bundle's file."""
    with SimulatedDisk(root) as disk:
        act()
    return [i for i, what in enumerate(disk.log) if what.startswith("write ") and what.endswith(".edgepack")]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a fresh process finds: what runs, the floor, and what is ready or was given up."""

    runs: str | None
    floor: int
    ready: str | None
    failed: str | None


def start(root: Path) -> Found:
    """Open what is active, and look at everything that lies there."""
    device = storekit.device(root)
    runs = None
    if storekit.stored(root).active is not None:
        with open_active(PRODUCT, device=device) as session:
            runs = session.manifest.version
    folder = StoreFolder(root / "store")
    store = folder.read()
    spare = store.product(PRODUCT).spare
    if spare is not None and spare.state is SlotState.INSTALLED:
        verify_bundle(folder.bundle(spare), device=device, payload=True)
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    known = {f"store/slots/{name}" for name in store.files()} | {"store/store.json"}
    strangers = {name for name in files if name.startswith("store/")} - known
    assert not strangers, f"left over after a start: {sorted(strangers)}"
    assert not any(is_leftover(Path(name).name) for name in files), f"left over after a start: {sorted(files)}"
    in_clear = sorted(name for name, data in files.items() if any(piece in data for piece in storekit.plaintexts()))
    assert not in_clear, f"plaintext on the disk: {in_clear}"
    return Found(
        runs=runs,
        floor=floor_of(device, PRODUCT),
        ready=spare.version if spare is not None and spare.state is SlotState.INSTALLED else None,
        failed=spare.version if spare is not None and spare.state is SlotState.FAILED else None,
    )


def refused(error: type[Exception], act: Callable[[], object]) -> None:
    with contextlib.suppress(error):
        act()


SCENARIOS = (
    Scenario(
        name="first installation",
        prepare=provision,
        act=lambda root: install(root, source(3)),
        start=start,
    ),
    Scenario(
        name="first activation",
        prepare=lambda root: (provision(root), install(root, source(3))),
        act=activate,
        start=start,
    ),
    Scenario(
        name="upgrade",
        prepare=lambda root: running(root, 2, 3),
        act=lambda root: install(root, source(4)),
        start=start,
    ),
    Scenario(
        name="installation with a grant beside it",
        prepare=lambda root: running(root, 3),
        act=lambda root: install(root, source_with_sidecar(4)),
        start=start,
    ),
    Scenario(
        name="interrupted copy, resumed",
        prepare=interrupted,
        act=lambda root: install(root, source(4)),
        start=start,
    ),
    Scenario(
        name="installation of a model that fails its self-test",
        prepare=lambda root: running(root, 3),
        act=lambda root: refused(SelfTestError, lambda: install(root, source(4, good=False))),
        start=start,
        changes_nothing=True,
    ),
    Scenario(
        name="installation from a damaged file",
        prepare=lambda root: running(root, 3),
        act=lambda root: refused(PayloadError, lambda: install(root, damaged_source(4))),
        start=start,
        changes_nothing=True,
    ),
    Scenario(
        name="activation",
        prepare=lambda root: (running(root, 3), install(root, source(4))),
        act=activate,
        start=start,
    ),
    Scenario(
        name="activation on trial",
        prepare=lambda root: (running(root, 3), install(root, source(4))),
        act=lambda root: activate(root, PATIENT),
        start=start,
    ),
    Scenario(name="report of health", prepare=on_trial, act=report, start=start),
    Scenario(
        name="fall back from one that never reports",
        prepare=overdue,
        act=start_once,
        start=start,
        changes_nothing=True,
    ),
    Scenario(
        name="fall back from one that does not open",
        prepare=damaged_on_trial,
        act=start_once,
        start=start,
        changes_nothing=True,
    ),
    Scenario(
        name="rollback from a trial",
        prepare=on_trial,
        act=lambda root: roll_back(PRODUCT, device=storekit.device(root)),
        start=start,
    ),
    Scenario(
        name="rollback",
        prepare=lambda root: (running(root, 3), install(root, source(3, minor=1)), activate(root)),
        act=lambda root: roll_back(PRODUCT, device=storekit.device(root)),
        start=start,
    ),
    Scenario(name="gc", prepare=given_up, act=lambda root: collect_garbage(storekit.device(root)), start=start),
)


@contextlib.contextmanager
def _floor_with_the_self_test(*, of_an_installation: bool) -> Iterator[None]:
    proved = installation._prove

    def prove(path: Path, device: Device, clock: int | None = None) -> Trial:
        proof = proved(path, device, clock)
        # Only an installation minds what time it is.
        if device.state is not None and (clock is not None) == of_an_installation:
            device.state.update(lambda old: old.accepting(proof.bundle.header))
        return proof

    with patch.object(installation, "_prove", prove):
        yield


@contextlib.contextmanager
def _plaintext_in_a_cache() -> Iterator[None]:
    decrypt = session.decrypt_model

    def decrypt_model(unlocked: UnlockedBundle, manifest: Manifest, file: BundleFile) -> PlaintextModel:
        write_whole(file.path.parents[2] / "cache", realbundle.model().data)
        return decrypt(unlocked, manifest, file)

    with patch.object(session, "decrypt_model", decrypt_model):
        yield


@contextlib.contextmanager
def _what_lies_there_is_trusted(*, to_the_end: bool) -> Iterator[None]:
    def holds(self: slotcopy._SlotFile, piece: slotcopy._Piece) -> bool:
        return piece.offset + piece.size <= self.length

    with contextlib.ExitStack() as made:
        made.enter_context(patch.object(slotcopy._SlotFile, "holds", holds))
        if to_the_end:
            made.enter_context(patch.object(installation, "verify_bundle", lambda *args, **options: None))
        yield


@contextlib.contextmanager
def _nobody_tidies() -> Iterator[None]:
    nothing = lambda *args: None  # noqa: E731
    with patch.object(StoreFolder, "_tidy", nothing), patch.object(StoreFolder, "_tidy_slots", nothing):
        yield


@contextlib.contextmanager
def _installed_before_it_is_proven() -> Iterator[None]:
    take = installation._take_slot

    def take_slot(product: str, ready: installation._Ready, device: Device) -> Slot:
        slot = take(product, ready, device)
        assert device.store is not None
        device.store.change(product, lambda old: old.installed(slot.number))
        return slot

    with patch.object(installation, "_take_slot", take_slot):
        yield


DRILLS = (
    Drill(
        name="a copy is not synced",
        scenario="first installation",
        deaf_to=frozenset({"files"}),
        noticed="no start: PayloadError",
    ),
    Drill(
        name="folders are not synced",
        scenario="activation",
        deaf_to=frozenset({"folders"}),
        noticed="after the change was reported as done",
    ),
    Drill(
        name="the list is written in place",
        scenario="activation on trial",
        made=lambda: patch.object(storefile, "write_whole", written_in_place),
        noticed="no start: StoreError",
    ),
    Drill(
        name="the floor rises before the switch",
        scenario="activation",
        made=lambda: _floor_with_the_self_test(of_an_installation=False),
        noticed="no start: RollbackError",
    ),
    Drill(
        name="the floor rises with the installation",
        scenario="upgrade",
        made=lambda: _floor_with_the_self_test(of_an_installation=True),
        noticed="after the change: raised RollbackError",
    ),
    Drill(
        name="an interrupted copy is trusted",
        scenario="interrupted copy, resumed",
        made=lambda: _what_lies_there_is_trusted(to_the_end=False),
        noticed="no fault: raised PayloadError",
    ),
    Drill(
        name="an interrupted copy is trusted to the end",
        scenario="interrupted copy, resumed",
        made=lambda: _what_lies_there_is_trusted(to_the_end=True),
        noticed="after the change: raised PayloadError",
    ),
    Drill(
        name="installed before it is proven",
        scenario="installation of a model that fails its self-test",
        made=_installed_before_it_is_proven,
        noticed="changed what is in force",
    ),
    Drill(
        name="the decrypted model goes to a cache",
        scenario="activation on trial",
        made=_plaintext_in_a_cache,
        noticed="plaintext on the disk",
    ),
    Drill(name="nobody tidies", scenario="upgrade", made=_nobody_tidies, noticed="left over after a start"),
)
