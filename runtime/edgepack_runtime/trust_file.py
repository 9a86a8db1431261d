"""The trust document of this device: read it, and replace it by the next one after that was checked.

It is the file that device.json names, and a device with a state folder keeps newer ones there: one write then brings
the document and the floors it resets. The newer of both is in force.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgepack_runtime._files import read_capped, write_whole
from edgepack_runtime._folders import locked
from edgepack_runtime.container import Container
from edgepack_runtime.errors import BundleError, IncompatibleError
from edgepack_runtime.state import DeviceState, StoredTrust
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.trust import MAX_TRUST_BYTES
from edgepack_runtime.trust_update import (
    TrustDocument,
    TrustState,
    apply_update,
    provision,
    trust_container,
)

__all__ = [
    "describe_trust",
    "read_trust",
    "read_unbelieved",
    "trust_in",
    "trust_in_force",
    "update_stored_trust",
    "update_trust",
]

_PATIENCE = 10.0


def read_trust(path: Path) -> TrustState:
    """Return what the owner of this device put there.

    Raises:
        FileError: it cannot be read.
        BundleError: it is no trust document, or too few of its own root keys signed it.
    """
    return trust_in(_read(path), path)


def trust_in(data: bytes, path: str | Path) -> TrustState:
    """Return what the owner of this device put there, from the bytes of the file.

    Raises:
        BundleError: it is no trust document, or too few of its own root keys signed it.
    """
    with _named(path):
        return provision(trust_container(data))


def read_unbelieved(path: Path) -> Container:
    """Return the container of a trust document that nobody vouches for yet: an update, or a draft.

    Raises:
        FileError: it cannot be read.
        BundleError: it is no trust document.
    """
    data = _read(path)
    with _named(path):
        return trust_container(data)


def update_trust(path: Path, updates: Sequence[Path], *, stateless: bool = False) -> TrustState:
    """Return the state after all `updates`, which is what `path` holds then; if any is refused, nothing is written.

    Args:
        path: the trust document in force.
        updates: the next versions, in any order.
        stateless: whether this device keeps no state, and so has no floors that an update could reset.

    Raises:
        FileError: a file cannot be read or written, or another process is updating it.
        BundleError: an update is refused, or resets floors and this device may have some.
    """
    read_trust(path)
    # Of two updates at one time, the one with the older documents must not have the last word.
    with locked(path.parent, patience=_PATIENCE, busy="updating the trust document"):
        state = read_trust(path)
        applied = _apply_all(state, updates)
        for reached, _ in applied if not stateless else ():
            if reached.document.floors:
                raise IncompatibleError(
                    f"trust document: version {reached.document.version} resets floors, which are not in {path}",
                    hint="edgepack-device trust update --device FILE resets those in the state, if there is one",
                )
        # Only now: what could not be applied must not be what is believed after the next start.
        if applied:
            state, data = applied[-1]
            write_whole(path, data)
    return state


def _apply_all(state: TrustState, updates: Sequence[Path]) -> list[tuple[TrustState, bytes]]:
    """Return the state after each update, and the bytes of the update."""
    files = []
    for path in updates:
        data = _read(path)
        with _named(path):
            files.append((trust_container(data), data, path))
    # The version is not believed yet: it only says in which order to try.
    files.sort(key=lambda file: _claimed_version(file[0].signed))
    applied = []
    for container, data, path in files:
        with _named(path):
            state = apply_update(state, container)
        applied.append((state, data))
    return applied


@contextlib.contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Name the file in a refusal: there is a bundle, too, and it might be taken for that."""
    try:
        yield
    except BundleError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from None


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
    if data.lstrip()[:1] == b"{" or b"-----BEGIN PUBLIC KEY-----" in data:
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
