"""Accept a bundle: raise this device's version floor to it, once its model has shown that it runs right here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edgepack_runtime._data import dataclass
from edgepack_runtime.device import Device
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.golden import Replay
from edgepack_runtime.trial import try_bundle

__all__ = ["Accepted", "accept_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A bundle this device has accepted: nothing of its product below `floor` is opened here any more."""

    product: str
    version: str
    floor: int
    replay: Replay
    engine: str


def accept_bundle(
    path: str | Path,
    *,
    device: Device,
    grants: str | Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Accepted:
    """Open a bundle as one to install, run its self-test, and only then raise the floor of its product to it.

    The self-test runs in a child process (`edgepack_runtime.trial`).

    When this returns, the floor is on the disk. After any error, and after a power cut at any moment, the state is
    the old or the new one. Accepting the same bundle again changes nothing.

    Args:
        path: the bundle.
        device: with a state folder.
        grants: as for `open_bundle`.
        clock: gives unix seconds.

    Raises:
        SchemaError: the device has no state folder.
        StateError: there is no good state in it.
        FileError: a file cannot be read or written, or another process is changing the state.
        BundleError: as `open_bundle`; or it has expired, leaps too far ahead, or fails its self-test.
        EngineError: the engine is missing, of another version, failed or crashed.
    """
    if device.state is None:
        raise SchemaError(
            "this device has no state folder that a floor could be kept in",
            hint='add "state": "FOLDER" to device.json, then `edgepack-device state create`',
        )
    done = try_bundle(path, device=device, grants=grants, clock=int(clock()))
    header = done.bundle.header
    # The order is the promise: a model that does not run here must not keep its predecessor from running. The floor
    # may have risen since the bundle was opened; `accepting` looks again, under the lock.
    state = device.state.update(lambda old: old.accepting(header))
    return Accepted(
        product=done.manifest.name,
        version=done.manifest.version,
        floor=state.floors_of(header.profile)[header.product],
        replay=done.replay,
        engine=done.engine,
    )
