"""Run a bundle's self-test in a child process: an engine that crashes or hangs on it is a verdict, and no crash."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from edgepack_runtime._data import dataclass
from edgepack_runtime.apart import Answer, apart
from edgepack_runtime.device import Device
from edgepack_runtime.errors import FileError
from edgepack_runtime.golden import Replay
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.session import open_bundle, verify_bundle
from edgepack_runtime.verify import VerifiedBundle

__all__ = ["Trial", "try_bundle"]

# For loading and some runs of the slowest model on the slowest board; what takes longer hangs.
_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A bundle that runs right here, how close its golden outputs were, and name and version of the engine."""

    bundle: VerifiedBundle
    manifest: Manifest
    replay: Replay
    engine: str


def try_bundle(
    path: str | Path, *, device: Device, grants: str | Path | None = None, clock: int | None = None
) -> Trial:
    """Return what opening a bundle and replaying its golden tensors gave, all of it done in a child process.

    The model is never in clear in this process. For the arguments see `open_bundle`.

    Raises:
        FileError: a file cannot be read, or was replaced meanwhile.
        BundleError: as `open_bundle`, or it fails its self-test.
        StateError: the device has a state folder, and no good state in it.
        EngineError: the engine is missing, of another version, failed, crashed, or gave no answer in ten minutes.
        KeyFileError: the device's key is of a kind that cannot receive bundles.
    """
    bundle, manifest = verify_bundle(path, device=device)

    def work() -> Answer:
        with open_bundle(path, device=device, grants=grants, clock=clock) as session:
            replay = session.self_test()
            return {"of": _digest(session.bundle), "replay": asdict(replay), "engine": session.engine}

    wanted = bundle.header
    what = f"self-test of {wanted.product} on {wanted.engine}"
    answer = apart(work, what=what, seconds=_SECONDS)
    if answer["of"] != _digest(bundle):
        raise FileError(f"{path}: was replaced by another bundle meanwhile", hint="do it again")
    return Trial(bundle=bundle, manifest=manifest, replay=Replay(**answer["replay"]), engine=answer["engine"])


def _digest(bundle: VerifiedBundle) -> str:
    return hashlib.sha256(bundle.container.signed).hexdigest()
