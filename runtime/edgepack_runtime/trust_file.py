"""The trust document of this device: read it, and replace it by the next one after that was checked.

It is the file that device.json names, and a device with a state folder keeps newer ones there: one write then brings
the document and the floors it resets. The newer of both is in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepack_runtime._files import read_capped, write_whole
from edgepack_runtime.errors import IncompatibleError
from edgepack_runtime.state import DeviceState, StoredTrust
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.trust_update import (
    MAX_TRUST_BYTES,
    TrustDocument,
    TrustState,
    apply_update,
    provision,
    trust_container,
)

__all__ = ["describe_trust", "read_trust", "trust_in_force", "update_stored_trust", "update_trust"]


def read_trust(path: Path) -> TrustState:
    """Return what the owner of this device put there.

    Raises:
        FileError: it cannot be read.
        BundleError: it is no trust document, or too few of its own root keys signed it.
    """
    return provision(trust_container(_read(path)))


def update_trust(path: Path, updates: Sequence[Path]) -> TrustState:
    """Return the state after all `updates`, which is what `path` holds then; if any is refused, nothing is written.

    Args:
        path: the trust document in force.
        updates: the next versions, in any order.

    Raises:
        FileError: a file cannot be read or written.
        BundleError: an update is refused.
    """
    state = read_trust(path)
    applied = _apply_all(state, updates)
    # Only now: what could not be applied must not be what is believed after the next start.
    if applied:
        state, data = applied[-1]
        write_whole(path, data)
    return state


def _apply_all(state: TrustState, updates: Sequence[Path]) -> list[tuple[TrustState, bytes]]:
    """Return the state after each update, and the bytes of the update."""
    files = [(trust_container(data), data) for data in map(_read, updates)]
    # The version is not believed yet: it only says in which order to try.
    files.sort(key=lambda file: _claimed_version(file[0].signed))
    applied = []
    for container, data in files:
        state = apply_update(state, container)
        applied.append((state, data))
    return applied


def trust_in_force(provisioned: TrustState | None, stored: StoredTrust) -> TrustState | None:
    """Return the newer one of the document the owner put there and the one in the device's state; None for neither.

    Raises:
        BundleError: the stored document is none.
    """
    if stored.version > (0 if provisioned is None else provisioned.document.version):
        # It was checked against its predecessor before it was stored, and the state is authenticated.
        return provision(trust_container(stored.document))
    return provisioned


def update_stored_trust(
    folder: StateFolder, provisioned: TrustState | None, profile: str, updates: Sequence[Path]
) -> TrustState:
    """Return the state after all `updates`, which the state folder holds then, with the floors they reset.

    If any is refused, nothing is written.

    Args:
        folder: the device's state.
        provisioned: the trust document its owner put there.
        profile: what the device is.
        updates: the next versions, in any order.

    Raises:
        FileError: a file cannot be read or written.
        BundleError: an update is refused, or the device has a plain trust file.
        StateError: there is no good state.
    """
    reached: list[TrustState] = []

    def change(old: DeviceState) -> DeviceState:
        current = trust_in_force(provisioned, old.trust)
        if current is None:
            raise IncompatibleError(
                "this device has a plain trust file, which has no roots and takes no updates",
                hint="`edgepack trust init` makes a trust document",
            )
        reached.append(current)
        for state, data in _apply_all(current, updates):
            document = state.document
            resets = {floor.product: floor.security_version for floor in document.floors}
            old = old.trusting(StoredTrust(version=document.version, document=data), resets, profile)
            reached.append(state)
        return old

    folder.update(change)
    return reached[-1]


def _claimed_version(signed: bytes) -> int:
    return int.from_bytes(signed[16:24], "little")


def _read(path: Path) -> bytes:
    data = read_capped(path, MAX_TRUST_BYTES)
    if data.lstrip()[:1] == b"{":
        raise IncompatibleError(
            f"{path} is a plain trust file, which has no roots and takes no updates",
            hint="`edgepack trust init` makes a trust document",
        )
    return data


def describe_trust(document: TrustDocument) -> dict[str, object]:
    """Return what a document says, as plain data for people and programs."""
    return {
        "version": document.version,
        "root_threshold": f"{document.root.threshold} of {len(document.root.keys)}",
        "root": [f"{key.key_id.hex()} {key.name}" for key in document.root.keys],
        "release_threshold": f"{document.release.threshold} of {len(document.release.keys)}",
        "release": [f"{key.key_id.hex()} {key.name}" for key in document.release.keys],
        "revoked_key": sorted(key.hex() for key in document.release.revoked_keys),
        "revoked_bundle": sorted(bundle.hex() for bundle in document.release.revoked_bundles),
        "floor_reset": [f"{floor.product} {floor.security_version}" for floor in document.floors],
    }
