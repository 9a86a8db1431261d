"""Install bundles in the store, make one active, go back, clean up; nothing that was active is touched meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path

from edgepack_runtime._data import dataclass
from edgepack_runtime._files import write_whole
from edgepack_runtime.activation import floor_of, folders_of
from edgepack_runtime.admission import check_consistent, check_engine, check_required
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.container import Grant, pack_grants
from edgepack_runtime.device import Device
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.errors import BundleError, EdgepackError, FileError, StoreError
from edgepack_runtime.golden import Replay
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.observe import event, refusal_told
from edgepack_runtime.plaintext import forbid_core_dumps
from edgepack_runtime.session import verify_bundle, verify_file
from edgepack_runtime.sidecar import sidecar_grants
from edgepack_runtime.signing import key_id
from edgepack_runtime.slotcopy import Copied, copy_into_slot, front_of
from edgepack_runtime.slots import Health, Product, Slot, SlotState, shown
from edgepack_runtime.store import Store
from edgepack_runtime.trial import Trial, try_bundle
from edgepack_runtime.verify import VerifiedBundle

__all__ = [
    "Activated",
    "Installed",
    "ProductStatus",
    "activate_bundle",
    "collect_garbage",
    "install_bundle",
    "product_states",
    "roll_back",
]

_VERSION_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A bundle that lies in the store; `replay` and `copied` are None if it is the active one already."""

    product: str
    slot: Slot
    copied: Copied | None = None
    replay: Replay | None = None
    engine: str = ""

    @property
    def is_active(self) -> bool:
        """Whether there was nothing to do."""
        return self.replay is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """What became of a product, and the floor that is in force now."""

    product: Product
    floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductStatus:
    """A product's slots, its floor, and the bytes each slot takes on the disk."""

    product: Product
    floor: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A bundle whose signature and policy hold, with the grants that go with it; `digest` tells it from any other."""

    bundle: VerifiedBundle
    version: str
    grants: bytes = field(repr=False)
    digest: str

    def slot(self, number: int) -> Slot:
        return Slot(
            number=number,
            state=SlotState.INCOMING,
            digest=self.digest,
            version=self.version,
            security_version=self.bundle.header.security_version,
            length=self.bundle.container.preamble.file_length,
            granted=bool(self.grants),
        )


def install_bundle(
    path: str | Path,
    *,
    device: Device,
    grants: str | Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Installed:
    """Copy a bundle into the spare slot of its product, verify what lies there, and run its self-test, in a child.

    The active bundle is not touched, and no floor is raised. An installation that was interrupted goes on where it
    ended when it is made again. What the spare slot held is removed once the bundle has proven worth copying.

    Args:
        path: the bundle.
        device: with a store and a state folder.
        grants: as for `open_bundle`; what this device needs of it is copied too.
        clock: gives unix seconds.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: the store is damaged, or the spare slot is what a bundle on trial falls back to.
        StateError: there is no good state.
        FileError: a file cannot be read or written, there is too little room, or another process is installing.
        BundleError: as `accept_bundle`; nothing of the bundle stays in the store, but for a copy whose source is
            damaged, which goes on from there.
        EngineError: the engine is missing, of another version, failed or crashed.
        KeyFileError: the device's key is of a kind that cannot receive bundles.
    """
    folder, _ = folders_of(device)
    now = int(clock())
    with refusal_told(str(path)), BundleFile(Path(path)) as source:
        ready = _look_at(source, device, None if grants is None else Path(grants), now)
        product = ready.bundle.header.product
        with folder.installing():
            active = folder.read().product(product).active
            if active is not None and active.digest == ready.digest and _is_whole(folder.bundle(active), device):
                return Installed(product=product, slot=active)
            slot = _take_slot(product, ready, device)
            copied = copy_into_slot(source, ready.bundle, folder.bundle(slot))
            if (beside := folder.grants(slot)) is not None:
                write_whole(beside, ready.grants, mode=0o600)
            try:
                # From here on the source is not looked at: it counts what lies in the slot.
                verify_bundle(folder.bundle(slot), device=device, payload=True)
                proof = _prove(folder.bundle(slot), device, now)
            except BundleError:
                _drop(product, slot, device)
                raise
            folder.change(product, lambda old: old.installed(slot.number))
            _tell("installed", product, slot)
            return Installed(product=product, slot=slot, copied=copied, replay=proof.replay, engine=proof.engine)


def _look_at(source: BundleFile, device: Device, grants: Path | None, now: int) -> _Ready:
    """Return what a bundle is, once everything holds that can be known without its payload."""
    _, state = folders_of(device)
    bundle = verify_file(source, device, now)
    manifest = Manifest.from_bytes(bundle.manifest)
    check_consistent(bundle, manifest)
    check_required(manifest, device)
    check_engine(manifest, device)
    # Now and not when the floor is raised: a bundle that could never be accepted shall not be installed.
    state.read().accepting(bundle.header)
    beside: tuple[Grant, ...] = ()
    if bundle.header.suite is not PayloadSuite.PLAIN:
        forbid_core_dumps()
        beside = sidecar_grants(bundle.container, device.key, source.path, grants)
        bundle.unlock(device.key, beside).close()
    if device.key is not None:
        mine = key_id(device.key.public_key())
        beside = tuple(grant for grant in beside if grant.key_id == mine)
    packed = pack_grants(beside) if beside else b""
    front = hashlib.sha256(front_of(bundle)).digest()
    digest = hashlib.sha256(front + hashlib.sha256(packed).digest()).hexdigest()
    return _Ready(bundle=bundle, version=shown(manifest.version, _VERSION_LENGTH), grants=packed, digest=digest)


def _take_slot(product: str, ready: _Ready, device: Device) -> Slot:
    """Return the slot to copy to: one where this bundle lies already, in part or whole, or else an empty one."""
    folder, _ = folders_of(device)

    def taking(store: Store) -> Store:
        old = store.product(product)
        spare = old.spare
        resumed = spare if spare is not None and spare.digest == ready.digest else None
        slot = ready.slot(store.serial + 1 if resumed is None else resumed.number)
        new = old.receiving(slot)
        folder.refuse_lack_of_room(slot, None if resumed is not None else spare)
        return replace(store, serial=max(store.serial, slot.number)).replacing(new)

    taken = folder.update(taking).product(product).spare
    if taken is None:
        raise StoreError(f"{product}: the slot was taken away")
    folder.forget_strangers()
    return taken


def _is_whole(path: Path, device: Device) -> bool:
    try:
        verify_bundle(path, device=device, payload=True)
    except EdgepackError:
        return False
    return True


def _prove(path: Path, device: Device, clock: int | None = None) -> Trial:
    """Return what a bundle in the store has shown: that it opens here, could be accepted, and computes right."""
    _, state = folders_of(device)
    done = try_bundle(path, device=device, clock=clock)
    state.read().accepting(done.bundle.header)
    return done


def _drop(product: str, slot: Slot, device: Device) -> None:
    folder, _ = folders_of(device)
    # Why it is dropped is the news, and not that this failed; the next installation or `gc` does it then.
    with contextlib.suppress(FileError, StoreError):
        folder.change(product, lambda old: replace(old, spare=None) if old.spare == slot else old)
        folder.forget_strangers()


def activate_bundle(product: str, *, device: Device, health: Health | None = None) -> Activated:
    """Make the installed bundle of a product the one that `open_active` opens, after its self-test passed again.

    With `health` it is on trial: `Session.report_healthy` ends that, and raises the floor. Without, it counts as good
    and the floor is raised now. When this returns, all of that is on the disk. After any error, and after a power cut
    at any moment, the old or the new one is active; a floor that was not raised yet is raised when it is opened.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: nothing is installed, or the store is damaged.
        StateError: there is no good state.
        FileError: a file cannot be read or written, or another process is installing.
        BundleError: as `open_bundle`, or it fails its self-test.
        EngineError: the engine is missing, of another version, failed or crashed.
    """
    folder, state = folders_of(device)
    with refusal_told(product), folder.installing():
        slot = folder.read().product(product).installed_slot()
        header = _prove(folder.bundle(slot), device).bundle.header
        # The list first: a floor above the bundle that is still active would keep it from running.
        record = folder.change(product, lambda old: old.activated(health))
        if health is None:
            state.update(lambda old: old.accepting(header))
        _tell("activated", product, slot)
        return Activated(product=record, floor=floor_of(device, product))


def roll_back(product: str, *, device: Device) -> Activated:
    """Make the bundle before the active one active again, after its self-test passed.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: there is none before it, or the store is damaged.
        RollbackError: it is below the floor.
        StateError: there is no good state.
        FileError: a file cannot be read or written, or another process is installing.
        BundleError: as `open_bundle`, or it fails its self-test; nothing changes then.
        EngineError: the engine is missing, of another version, failed or crashed.
    """
    folder, _ = folders_of(device)
    with refusal_told(product), folder.installing():
        floor = floor_of(device, product)
        before = folder.read().product(product).rolled_back(floor).active_slot()
        _prove(folder.bundle(before), device)
        record = folder.change(product, lambda old: old.rolled_back(floor))
        _tell("rolled_back", product, before)
        return Activated(product=record, floor=floor)


def _tell(what: str, product: str, slot: Slot) -> None:
    words = what.replace("_", " ")
    event(what, f"{product} {slot.version} is {words}", product=product, version=slot.version)


def product_states(device: Device) -> tuple[ProductStatus, ...]:
    """Return what is installed, by product.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: the store is damaged.
        StateError: there is no good state.
        FileError: a file cannot be read.
    """
    folder, _ = folders_of(device)
    return tuple(
        ProductStatus(
            product=product,
            floor=floor_of(device, product.name),
            sizes=tuple(folder.size(slot) for slot in product.slots),
        )
        for product in folder.read().products
    )


def collect_garbage(device: Device) -> int:
    """Remove what can never run: leftovers, interrupted copies, what was given up or is below the floor.

    Returns:
        the bytes that were freed.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: the store is damaged.
        StateError: there is no good state.
        FileError: a file cannot be read or written, or another process is installing.
    """
    folder, _ = folders_of(device)
    before = folder.usage()
    with folder.installing():

        def cleaning(store: Store) -> Store:
            for product in store.products:
                store = store.replacing(product.cleaned(floor_of(device, product.name)))
            return store

        folder.update(cleaning)
        folder.forget_strangers()
    return max(0, before - folder.usage())
