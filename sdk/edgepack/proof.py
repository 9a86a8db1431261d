"""Run a finished bundle on the board it is for, without the board: our runtime, in an emulated userland.

What is run there is the bundle's own path from the signature to the outputs: verified, unwrapped, decrypted and
replayed by `edgepack_runtime` under the profile's exact engine and on its processor's instructions. The bundle that
is signed later differs in its signature, its grants, its content key, what it requires of other products, and in
the evidence that this proof adds: no key of the release or of a device is needed here, or could be seen by what
runs here.
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edgepack.errors import WorkerError
from edgepack.pack import Contents, Release, pack
from edgepack.tolerances import on_another_processor
from edgepack.userland import Userland, board, cpu_model
from edgepack.worker import Limits, Workplace, run_task
from edgepack_runtime.container import Signature
from edgepack_runtime.device import Device
from edgepack_runtime.errors import BundleError, EngineError
from edgepack_runtime.golden import GoldenSample, Replay, compare_golden
from edgepack_runtime.manifest import Evidence, Manifest
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.session import open_bundle
from edgepack_runtime.signing import PAYLOAD_TYPE, key_id, sign
from edgepack_runtime.tensors import Array
from edgepack_runtime.trust import TrustedKeys

__all__ = ["BundleRun", "BundleRunResult", "prove_on_board", "run_bundle"]

CHECK = "golden outputs on the emulated board"
# Emulated, a second of inference is up to some hundred seconds.
_LIMITS = Limits(seconds=3600, cpu_seconds=7200)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRun:
    """A bundle to run as a device does: raw keys of 32 bytes, Ed25519 that signed it and X25519 that opens it."""

    bundle: bytes
    release_key: bytes
    device_key: bytes = field(repr=False)
    profile: str
    feeds: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRunResult:
    """What came out: arrays [n, *output shape] by output name, the engine that gave them, and where it ran."""

    outputs: Mapping[str, Array]
    engine: str
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _ThrowawayKey:
    """A release key for one trial; it is never written anywhere."""

    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The public half."""
        return self.private_key.public_key()

    @property
    def key_id(self) -> bytes:
        """The SHA-256 of the public key's SubjectPublicKeyInfo."""
        return key_id(self.public_key)

    def sign(self, signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> Signature:
        """Return the signature over a signed region."""
        return sign(self.private_key, signed, payload_type)


def run_bundle(request: BundleRun) -> BundleRunResult:
    """Return a bundle's outputs on every sample, through the whole runtime (runs in the child, on the board).

    Raises:
        BundleError: the runtime refuses the bundle.
        EngineError: the engine cannot load or run the model, or is of another version.
        InputError: the samples do not fit it.
        FileError: the bundle cannot be written or read.
    """
    path = Path("trial.edgepack")
    path.write_bytes(request.bundle)
    device = Device(
        profile=request.profile,
        trust=TrustedKeys.of([Ed25519PublicKey.from_public_bytes(request.release_key)], threshold=1),
        key=X25519PrivateKey.from_private_bytes(request.device_key),
    )
    with open_bundle(path, device=device) as session:
        count = len(next(iter(request.feeds.values())))
        rows = [
            session.run({name: np.asarray(array[i], order="C") for name, array in request.feeds.items()})
            for i in range(count)
        ]
        engine = session.engine
    gc.collect()
    return BundleRunResult(
        outputs={name: np.stack([row[name] for row in rows]) for name in rows[0]},
        engine=engine,
        machine=platform.machine(),
    )


def prove_on_board(
    contents: Contents,
    manifest: Manifest,
    golden: Sequence[GoldenSample],
    where: Userland,
    log: Callable[[str], None] | None,
) -> Evidence:
    """Return the evidence that the bundle's golden outputs come out on the emulated board; it may not hold.

    Args:
        contents: what the bundle will hold.
        manifest: its manifest, but for this evidence.
        golden: the samples in `contents`, unpacked.
        where: the made userland of the profile's architecture and engine.
        log: told what the emulated programs print.
    """
    profile = manifest.profile
    tolerance = on_another_processor(contents.model, profile, manifest.golden.tolerance)
    release, device = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    trial = Release(
        signing_key=_ThrowawayKey(private_key=release),
        recipients=(device.public_key(),),
        security_version=0,
        created=0,
    )
    request = BundleRun(
        # What other products the board has is the fleet's matter, and not tried here.
        bundle=pack(contents, replace(manifest, requires=()), trial),
        release_key=release.public_key().public_bytes_raw(),
        device_key=device.private_bytes_raw(),
        profile=profile.name,
        feeds={spec.name: np.stack([g.inputs[spec.name] for g in golden]) for spec in manifest.model.inputs},
    )
    exact = tolerance < manifest.golden.tolerance
    wanted = "this machine's integers" if exact else f"at most {tolerance:.2%} of the range from this machine's"
    try:
        with board(profile, where) as python:
            place = Workplace(python=python, limits=_LIMITS, log=log)
            result = run_task("edgepack.proof:run_bundle", request, BundleRunResult, place)
    except (BundleError, EngineError, WorkerError) as error:
        return _evidence(profile, f"{error.message}", wanted, holds=False)
    replay = compare_golden(result.outputs, golden, tolerance)
    return _evidence(profile, _told(replay, result.outputs, golden), wanted, holds=replay.holds, value=replay.error)


def _told(replay: Replay, outputs: Mapping[str, Array], golden: Sequence[GoldenSample]) -> str:
    values = differing = 0
    for name, found in outputs.items():
        wanted = np.stack([sample.outputs[name] for sample in golden])
        values += wanted.size
        same = wanted == found
        if wanted.dtype.kind == "f":
            same |= np.isnan(wanted) & np.isnan(found)
        differing += int((~same).sum())
    if not differing:
        return f"{replay.samples} samples, all {values} values identical"
    return (
        f"{replay.samples} samples, {differing} of {values} values differ, "
        f"by {replay.error:.2g} of the range at most ({replay.output})"
    )


def _evidence(
    profile: DeviceProfile, found: str, wanted: str, *, holds: bool, value: float | None = None
) -> Evidence:
    model, _, same = cpu_model(profile.hardware)
    core = model if same else f"{model} for {profile.hardware.cpu}"
    return Evidence(
        check=CHECK,
        holds=holds,
        verdict="emulated",
        found=found,
        wanted=wanted,
        environment=f"{profile.engine.name} {profile.engine.version} on emulated {profile.hardware.arch}, {core}",
        value=value,
    )
