"""Open whatever is active in the store, or the last known good if that does not open or never reported healthy."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgepack_runtime.device import Device
from edgepack_runtime.errors import BundleError, EdgepackError, EngineError, FileError, SchemaError, StoreError
from edgepack_runtime.observe import event
from edgepack_runtime.session import Session, open_bundle
from edgepack_runtime.slots import Moment, Product, Slot, SlotState
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from edgepack_runtime.table import Header

__all__ = ["floor_of", "folders_of", "now", "open_active"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def folders_of(device: Device) -> tuple[StoreFolder, StateFolder]:
    """Return the folders in which a device keeps its bundles and its floors.

    Raises:
        SchemaError: it has none.
    """
    if device.store is None:
        raise SchemaError(
            "this device has no store folder that bundles could be installed in",
            hint='add "store": "FOLDER" to device.json',
        )
    if device.state is None:
        raise SchemaError(
            "this device has no state folder that a floor could be kept in",
            hint='add "state": "FOLDER" to device.json, then `edgepack-device state create`',
        )
    return device.store, device.state


def floor_of(device: Device, product: str) -> int:
    """Return the lowest security version of a product that this device opens.

    Raises:
        SchemaError: the device has no state folder.
        StateError: there is no good state in it.
        FileError: the state cannot be read.
    """
    _, state = folders_of(device)
    return device.floors(state.read()).get(product, 0)


def open_active(product: str, *, device: Device) -> Session:
    """Return a session of the active bundle of a product, opened as by `open_bundle`.

    Each opening of a bundle on trial counts as a start. If it used up its starts or its time without
    `Session.report_healthy`, or is refused, the last known good bundle becomes the active one for good. If the disk
    fails, or a bundle that had proven good cannot be opened, the other one is opened for this time. Either way
    `Session.notice` says so, and a warning is logged. Nothing below the version floor is ever opened, and if there is
    nothing to fall back to, the active bundle goes on, or its error is raised.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: nothing of the product is active, or the store is damaged.
        StateError: there is no good state.
        FileError: a file cannot be read.
        BundleError: as `open_bundle`.
        EngineError: the engine is missing, of another version, or refuses the model.
    """
    folder, _ = folders_of(device)
    floor = floor_of(device, product)
    record = folder.read().product(product)
    uncounted: FileError | None = None
    if record.trial is not None:
        try:
            record = folder.change(product, lambda old: old.started(floor, now()))
        except FileError as error:
            uncounted = error
    active, good = record.active_slot(), record.good_spare(floor)
    if uncounted is not None and good is not None:
        # A start that nobody could count could go wrong forever.
        session = _opened(good, device)
        _say(session, product, replace(active, note=f"its start could not be counted ({uncounted.message})"), good)
        return session
    try:
        session = _opened(active, device)
    except (BundleError, EngineError, FileError) as error:
        if folder.read().product(product).active != active:
            # An installer was quicker than this: look again.
            return open_active(product, device=device)
        return _open_instead(record, good, error, device)
    _settle(session, record, floor, device)
    return session


def _opened(slot: Slot, device: Device) -> Session:
    folder, _ = folders_of(device)
    session = open_bundle(folder.bundle(slot), device=device)
    session.slot = slot.number
    return session


def _open_instead(record: Product, good: Slot | None, error: EdgepackError, device: Device) -> Session:
    """Return a session of the last known good bundle, as the active one failed with `error`."""
    folder, _ = folders_of(device)
    if good is None:
        raise error
    try:
        session = _opened(good, device)
    except (BundleError, EngineError, FileError):
        # Both fail, so that it may be this device; the error of the one that should run says more.
        raise error from None
    why, failed = f"it could not be opened ({error.message})", record.active_slot()
    _say(session, record.name, replace(failed, note=why), good)
    if isinstance(error, FileError):
        # The disk failed, and says nothing about the bundle; should it fail each time, the starts run out.
        return session
    # Should that fail, the next start does the same again.
    with contextlib.suppress(FileError, StoreError):
        folder.change(record.name, lambda old: old.given_up(failed.number, why))
    return session


def _settle(session: Session, record: Product, floor: int, device: Device) -> None:
    """Do what follows from opening the active bundle: wait for its report, or raise the floor if that is due."""
    active, spare, header = record.active_slot(), record.spare, session.bundle.header
    if active.state is SlotState.TRIAL:
        session.on_healthy = partial(_report, session, record.name, active.number, device)
    elif header.security_version > floor:
        # The power was cut between the switch and this.
        try:
            _raise_floor(header, device)
        except EdgepackError as error:
            why = f"{record.name}: the floor was not raised: {error.message}"
            event("floor_not_raised", why, warning=True, product=record.name)
    if spare is not None and spare.state is SlotState.FAILED:
        _say(session, record.name, spare, active)


def _report(session: Session, product: str, number: int, device: Device) -> None:
    folder, _ = folders_of(device)
    # The list first: with a floor above the last known good, a trial could end with nothing that may run.
    active = folder.change(product, lambda old: old.proven(number)).active
    if active is not None and active.number == number:
        _raise_floor(session.bundle.header, device)
    session.on_healthy = None
    version = session.manifest.version
    event("healthy", f"{product} {version} is reported healthy", product=product, version=version)


def _raise_floor(header: Header, device: Device) -> None:
    _, state = folders_of(device)
    state.update(lambda old: old.accepting(header))


def _say(session: Session, product: str, given_up: Slot, running: Slot) -> None:
    session.notice = f"{product} {given_up.version}: {given_up.note}; {running.version} runs instead"
    versions = {"given_up": given_up.version, "running": running.version}
    event("fell_back", session.notice, warning=True, product=product, **versions)


def now() -> Moment:
    """Return the moment this is, by a clock that nobody sets."""
    try:
        boot = _BOOT.read_text("ascii").strip()
    except OSError:
        boot = ""
    return Moment(boot=boot, seconds=int(time.clock_gettime(time.CLOCK_BOOTTIME)))
