"""Devices with a store, and bundles of several versions and parts to install there."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import bundlekit
import realbundle
from edgepack_runtime.container import Grant
from edgepack_runtime.device import Device
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.manifest import Requirement
from edgepack_runtime.processing import Processing
from edgepack_runtime.signing import key_id
from edgepack_runtime.slots import Health, Product, Slot, SlotState
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from edgepack_runtime.table import EntryRole

PRODUCT, PROFILE = bundlekit.HEADER.product, "bench-board"
CLOCK = bundlekit.HEADER.created + 1000
# What `slots` are made of in the tests of the rules.
LABELS = b"zero\none\n" * 150


def slot(number: int, state: SlotState, security_version: int | None = None) -> Slot:
    return Slot(
        number=number,
        state=state,
        digest=f"{number:064x}",
        version=f"1.{number}",
        security_version=number if security_version is None else security_version,
        length=10,
        granted=False,
    )


GOOD = Product(name=PRODUCT, active=slot(1, SlotState.GOOD))
READY = replace(GOOD, spare=slot(2, SlotState.INSTALLED))
ON_TRIAL = READY.activated(Health(starts=2))


def device(root: Path, **changes: object) -> Device:
    """Return a device that keeps its state and its store below `root`."""
    return realbundle.device(state=StateFolder(root / "state"), store=StoreFolder(root / "store"), **changes)


def stored(root: Path) -> Product:
    """Return what the store below `root` has of the product."""
    return StoreFolder(root / "store").read().product(PRODUCT)


@functools.cache
def parts(
    security_version: int,
    *,
    minor: int = 0,
    good: bool = True,
    asset: bytes = b"n" * 700,
    requires: tuple[Requirement, ...] = (),
    processing: Processing | None = None,
    **changes: object,
) -> bundlekit.Parts:
    """Return a bundle of four segments, version ``1.N``, or ``1.N.M`` with the same security version as ``1.N``.

    One that is not good fails its self-test.
    """
    what, board = realbundle.model(), realbundle.profile()
    version = f"1.{security_version}" + (f".{minor}" if minor else "")
    golden = None if good else [replace(s, outputs={n: v + 9 for n, v in s.outputs.items()}) for s in what.golden]
    text = replace(realbundle.manifest(what, board), version=version, requires=requires, processing=processing)
    recipe = realbundle.recipe(what, text, board, golden)
    more = (("labels.txt", EntryRole.LABELS, LABELS), ("notes.txt", EntryRole.ASSET, asset))
    bundle_id = bundlekit.seed(f"bundle {version}", 16)
    recipients = changes.pop("recipients", recipe.recipients)
    header = replace(recipe.header, security_version=security_version, bundle_id=bundle_id, **changes)
    return bundlekit.make(
        recipe, header=header, entries=tuple(sorted((*recipe.entries, *more))), recipients=recipients
    )


def grants_for(key: DeviceKey, parts: bundlekit.Parts) -> list[Grant]:
    return [grant for grant in parts.grants if grant.key_id == key_id(key.public_key())]


def bundle(security_version: int, **options: object) -> bytes:
    return parts(security_version, **options).file()


def plaintexts() -> list[bytes]:
    """Return pieces of what is encrypted in the bundles, to be looked for where it must not be."""
    data = realbundle.model().data
    return [data[at : at + 48] for at in range(0, len(data) - 48, 48) if len(set(data[at : at + 48])) > 16] + [
        LABELS[:64]
    ]
