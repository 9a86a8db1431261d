"""Bundles of real models for whichever engine is installed: signed, encrypted, and opened by the whole runtime.

It needs the runtime only, so that the tests that use it also run on a device.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import bundlekit
from edgepack_runtime._fields import canonical_json
from edgepack_runtime.device import Device
from edgepack_runtime.engines import installed, load
from edgepack_runtime.golden import GoldenSample, pack_golden
from edgepack_runtime.manifest import Evidence, Golden, Manifest, ModelDescription, Provenance, Step
from edgepack_runtime.profile import Budget, DeviceProfile, EngineRequirement, Hardware, Software, Source
from edgepack_runtime.table import EntryRole
from edgepack_runtime.tensors import Array, TensorSpec

MODELS = Path(__file__).resolve().parent / "data" / "engines"
ENGINE, VERSION = installed()[0]
_FIGURES = (
    "budget.ram_bytes", "budget.storage_bytes", "engine.num_threads", "engine.version", "hardware.cores",
    "hardware.cpu_features", "hardware.ram_bytes", "quantization.supported",
)  # fmt: skip


def profile(engine: str = ENGINE, version: str = VERSION) -> DeviceProfile:
    """Return the profile `bench-board`, for an engine in a version."""
    return DeviceProfile(
        name="bench-board",
        description="A board on the bench",
        aliases=(),
        hardware=Hardware(board="b", soc="s", arch="x86_64", cpu="c", cores=2, cpu_features=(), ram_bytes=1 << 30),
        software=Software(os="Linux", libc="glibc 2.36", python="3.11"),
        engine=EngineRequirement(name=engine, version=version, num_threads=1),
        budget=Budget(ram_bytes=1 << 29, storage_bytes=1 << 29),
        quantization=("float32",),
        sources=tuple((path, Source(kind="assumed", text="for tests")) for path in _FIGURES),
    )


@dataclass(frozen=True, kw_only=True)
class RealModel:
    """A .tflite file with its specs and golden samples, as the engine here computes them."""

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: tuple[GoldenSample, ...]
    stateful: bool


@functools.cache
def model(name: str = "two_by_two") -> RealModel:
    """Return a model of `tests/data/engines`."""
    return of_file(MODELS / f"{name}.tflite")


def of_file(path: Path) -> RealModel:
    """Return the model in a file, with what the engine here makes of three samples, one after the other."""
    engine = load(ENGINE, str(path), num_threads=1)
    golden = []
    for i in range(3):
        feeds = {spec.name: feed(spec, i) for spec in engine.inputs}
        golden.append(GoldenSample(inputs=feeds, outputs=engine.run(feeds)))
    found = RealModel(
        data=path.read_bytes(),
        inputs=engine.inputs,
        outputs=engine.outputs,
        golden=tuple(golden),
        stateful=path.stem == "stateful",
    )
    engine.close()
    return found


def feed(spec: TensorSpec, seed: int = 0) -> Array:
    """Return an array that fits `spec`."""
    values = np.random.default_rng(seed).integers(-9, 9, spec.shape)
    return values.astype(spec.dtype)


def manifest(what: RealModel, board: DeviceProfile, samples: int = 3, tolerance: float = 1e-4) -> Manifest:
    """Return a manifest that fits."""
    return Manifest(
        name=bundlekit.HEADER.product,
        version="1.2",
        licence="MIT",
        profile=board,
        model=ModelDescription(
            entry="model.tflite",
            scheme="float32",
            inputs=what.inputs,
            outputs=what.outputs,
            stateful=what.stateful,
        ),
        golden=Golden(entry="golden.bin", samples=samples, tolerance=tolerance),
        labels=("zero", "one"),
        provenance=Provenance(
            tool="edgepack 0",
            source_format="tflite",
            source_digest="ab" * 32,
            calibration_digest="cd" * 32,
            evaluation_digest="",
            steps=(Step(use="convert", tool="t 1", options="{}", input_digest="00", output_digest="11"),),
            notes=("a note",),
        ),
        evidence=(
            Evidence(
                check="accuracy drop", holds=True, verdict="measured", found="0.001", wanted="0.01",
                environment="here", value=0.001, low=0.0, high=0.002,
            ),
            Evidence(check="storage", holds=True, verdict="estimated", found="1", wanted="2", environment="static"),
        ),
    )  # fmt: skip


def recipe(
    what: RealModel, text: Manifest, board: DeviceProfile, golden: Sequence[GoldenSample] | None = None
) -> bundlekit.Recipe:
    """Return what the bundle is made of; change a field and give it to `bundlekit.make`."""
    packed = pack_golden(what.golden if golden is None else golden, what.inputs, what.outputs)
    return bundlekit.Recipe(
        header=replace(
            bundlekit.HEADER,
            profile=board.name,
            profile_digest=board.digest(),
            engine=board.engine.name,
            engine_version=board.engine.version,
        ),
        entries=(("golden.bin", EntryRole.GOLDEN, packed), ("model.tflite", EntryRole.MODEL, what.data)),
        manifest=text.to_bytes(),
    )


def bundle(
    name: str = "two_by_two",
    *,
    board: DeviceProfile | None = None,
    golden: Sequence[GoldenSample] | None = None,
    tolerance: float = 1e-4,
) -> bytes:
    """Return a good bundle of a model, for `device()`."""
    board, what = board or profile(), model(name)
    return bundlekit.make(recipe(what, manifest(what, board, tolerance=tolerance), board, golden)).file()


def device(**changes: object) -> Device:
    """Return the device that opens what `bundle()` makes."""
    mine = Device(profile="bench-board", trust=bundlekit.trust(), key=bundlekit.x25519())
    return replace(mine, **changes)


def write_device(folder: Path, **changes: object) -> Path:
    """Return a device.json in `folder` that says what `device()` is, with its trust and key files."""
    key = bundlekit.x25519().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "device.key.pem").write_bytes(key)
    (folder / "trust.json").write_bytes(canonical_json(bundlekit.trust().to_json()))
    public = bundlekit.ed25519().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "release.pub.pem").write_bytes(public)
    table: dict[str, object] = {"profile": "bench-board", "trust": "trust.json", "key": "device.key.pem"}
    path = folder / "device.json"
    path.write_text(json.dumps({k: v for k, v in (table | changes).items() if v is not None}))
    return path
