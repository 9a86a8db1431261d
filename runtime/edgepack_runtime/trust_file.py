"""The trust document of this device as a file: read it, and replace it by the next one after that was checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepack_runtime._files import read_capped, write_whole
from edgepack_runtime.errors import IncompatibleError
from edgepack_runtime.trust_update import (
    MAX_TRUST_BYTES,
    TrustDocument,
    TrustState,
    apply_update,
    provision,
    trust_container,
)

__all__ = ["describe_trust", "read_trust", "update_trust"]


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
    files = [(trust_container(data), data) for data in map(_read, updates)]
    # The version is not believed yet: it only says in which order to try.
    files.sort(key=lambda file: _claimed_version(file[0].signed))
    for container, _ in files:
        state = apply_update(state, container)
    # Only now: what could not be applied must not be what is believed after the next start.
    if files:
        write_whole(path, files[-1][1])
    return state


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
