"""A model as a bare file and as an encrypted bundle for this machine: the two that are measured by turns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.keys import make_identity
from edgepack.localprofile import local_profile
from edgepack.pack import GOLDEN_ENTRY, MODEL_ENTRY, Contents, Release, pack
from edgepack.signers import SignerRequest, open_signer
from edgepack_runtime.device import Device, load_trust
from edgepack_runtime.engines import load
from edgepack_runtime.golden import GoldenSample, pack_golden
from edgepack_runtime.keyfiles import load_device_key, load_recipient
from edgepack_runtime.manifest import Golden, Manifest, ModelDescription, Provenance

__all__ = ["Subject", "subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model. `bare` is the .tflite file, `bundle` the same encrypted, for the device of the two key files."""

    name: str
    bare: Path
    bundle: Path
    trust: Path
    device_key: Path

    @property
    def size(self) -> int:
        """Bytes of the .tflite file."""
        return self.bare.stat().st_size

    def device(self) -> Device:
        """Return the device that opens the bundle, on one thread."""
        return Device(
            profile="local", trust=load_trust(self.trust), key=load_device_key(self.device_key), num_threads=1
        )


def subject(name: str, model: bytes, folder: Path) -> Subject:
    """Return that model in a new folder, as a file and as a bundle."""
    folder.mkdir()
    identity = make_identity(folder / "keys")
    made = Subject(
        name=name,
        bare=folder / "model.tflite",
        bundle=folder / "model.edgepack",
        trust=identity.trust,
        device_key=identity.device_key,
    )
    made.bare.write_bytes(model)
    made.bundle.write_bytes(_bundle(made.bare, identity.signing_key, identity.recipient))
    return made


def _bundle(model: Path, signing_key: Path, recipient: Path) -> bytes:
    profile = local_profile()
    engine = load(profile.engine.name, str(model), num_threads=1)
    inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
    sample = GoldenSample(inputs=inputs, outputs=engine.run(inputs))
    manifest = Manifest(
        name="bench",
        version="1",
        licence="",
        profile=profile,
        model=ModelDescription(entry=MODEL_ENTRY, scheme="float32", inputs=engine.inputs, outputs=engine.outputs),
        golden=Golden(entry=GOLDEN_ENTRY, samples=1, tolerance=0.0),
        labels=(),
        provenance=Provenance(
            tool="bench",
            source_format="tflite",
            source_digest="",
            calibration_digest="",
            evaluation_digest="",
            steps=(),
            notes=(),
        ),
        evidence=(),
    )
    release = Release(
        signing_key=open_signer(SignerRequest(uri=str(signing_key))),
        recipients=(load_recipient(recipient),),
        security_version=1,
        created=int(time.time()),
    )
    golden = pack_golden([sample], engine.inputs, engine.outputs)
    return pack(Contents(model=model.read_bytes(), golden=golden), manifest, release)
