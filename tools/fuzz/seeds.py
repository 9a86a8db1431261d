"""Where a campaign starts: good inputs of each kind, made by the code that writes them or taken from the tests."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepack import _wire
from edgepack.profiles import load_profile
from edgepack_runtime._fields import canonical_json
from edgepack_runtime.enrolment import Enrolment
from edgepack_runtime.manifest import Evidence, Golden, Manifest, ModelDescription, Provenance, Step
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_update import FloorReset, TrustDocument
from tools.vectors.keys import pkcs8, private_key, seed, spki
from tools.vectors.layout import Entry, Parts, Spec, parts

__all__ = [
    "SPEC", "bundle_parts", "bundles", "datasets", "device_files", "enrolments", "keras_configs", "keras_files",
    "key_files", "manifests", "models", "profiles", "recipes", "sources", "trust_documents", "trust_files",
    "wire_frames", "wire_values", "zstd_frames",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
SPEC = Spec(
    entries=(
        Entry(name="golden.bin", role=3, plain=seed("golden", 200)),
        Entry(name="labels.txt", role=2, plain=b"zero\none\n"),
        Entry(name="model.tflite", role=1, plain=seed("model", 400)),
    )
)


def bundle_parts() -> list[Parts]:
    """Return good bundles in pieces: each suite, each kind of key."""
    return [
        parts(SPEC),
        parts(replace(SPEC, suite=0, recipients=(), entries=SPEC.entries[:1])),
        parts(SPEC, signers=("ed25519 release", "p256 release"), recipients=("p256 device", "x25519 device")),
        parts(SPEC, entries=(Entry(name="model.tflite", role=1, plain=b""),)),
    ]


def bundles() -> list[bytes]:
    """Return good bundle files."""
    return [one.file() for one in bundle_parts()]


def manifests() -> list[bytes]:
    """Return the text of a manifest with every field in use."""
    return [_manifest().to_bytes()]


def _manifest() -> Manifest:
    spec = TensorSpec(
        name="image",
        dtype="int8",
        shape=(1, 8, 8, 1),
        quantization=QuantizationParameters(scale=(0.5,), zero_point=(3,), quantized_dimension=0),
    )
    step = Step(use="convert", tool="t 1", options="{}", input_digest="00", output_digest="11")
    evidence = Evidence(
        check="drop", holds=True, verdict="measured", found="1", wanted="2", environment="e", value=0.5, low=0, high=1
    )
    return Manifest(
        name="digits",
        version="1",
        licence="MIT",
        profile=load_profile("raspberry-pi-4"),
        model=ModelDescription(entry="model.tflite", scheme="float32", inputs=(spec,), outputs=(spec,)),
        golden=Golden(entry="golden.bin", samples=2, tolerance=0.01),
        labels=("a", "b"),
        provenance=Provenance(
            tool="edgepack 0",
            source_format="onnx",
            source_digest="ab" * 32,
            calibration_digest="cd" * 32,
            evaluation_digest="",
            steps=(step,),
            notes=("n",),
        ),
        evidence=(evidence,),
    )


def trust_files() -> list[bytes]:
    """Return trust files: thresholds, a PEM file, nonsense."""
    keys = [private_key(name).public_key() for name in ("ed25519 release", "p256 release")]
    both = TrustedKeys.of(keys, threshold=2)  # type: ignore[arg-type]  # both are verifying keys
    return [canonical_json(both.to_json()), *_pem("PUBLIC KEY", spki("ed25519 release"))]


def trust_documents() -> list[bytes]:
    """Return the signed region of a trust document with every field in use."""
    root, release = (
        TrustedKeys.of([private_key(name).public_key()], threshold=1)  # type: ignore[list-item]
        for name in ("ed25519 root", "p256 release")
    )
    revoking = replace(
        release, revoked_keys=frozenset({seed("revoked")}), revoked_bundles=frozenset({seed("bundle", 16)})
    )
    floors = (FloorReset(product="digits", security_version=3),)
    made = TrustDocument(version=2, created=1_750_000_000, root=root, release=revoking, floors=floors)
    return [made.pack()]


def device_files() -> list[bytes]:
    """Return device configurations; the files they name are those of the target."""
    full = {
        "profile": "board", "trust": "trust.json", "key": "key.pem", "num_threads": 2, "engine_policy": "self-test",
        "accepted": {"digits": 7},
    }  # fmt: skip
    return [json.dumps(full).encode(), b'{"profile": "board", "trust": "trust.json"}']


def key_files() -> list[bytes]:
    """Return PEM files of each kind of key."""
    private = [*_pem("PRIVATE KEY", pkcs8("x25519 device")), *_pem("PRIVATE KEY", pkcs8("p256 device"))]
    labelled = [b"edgepack-role: device\nedgepack-key-id: " + b"ab" * 32 + b"\n" + one for one in private[:1]]
    return [*private, *labelled, *_pem("PUBLIC KEY", spki("p256 release"))]


def _pem(kind: str, der: bytes) -> list[bytes]:
    text = base64.encodebytes(der).decode()
    return [f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n".encode()]


def enrolments() -> list[bytes]:
    """Return enrolment records."""
    keys = [private_key(name).public_key() for name in ("x25519 device", "p256 device")]
    return [Enrolment(name="d1", profile="board", public_key=key).to_json() for key in keys]  # type: ignore[arg-type]


def profiles() -> list[bytes]:
    """Return the device profiles edgepack ships."""
    return [path.read_bytes() for path in sorted((ROOT / "device_profiles").glob("*.toml"))[:3]]


def recipes() -> list[bytes]:
    """Return a recipe with every table in use."""
    return [
        b'[model]\npath = "m.onnx"\nname = "digits"\nversion = "2"\nlabels = "labels.txt"\nlicence = "MIT"\n'
        b'[data]\ncalibration = "c.npz"\nevaluation = "e.npz"\n'
        b'[build]\nprofiles = ["raspberry-pi-4"]\nprecision = ["full_integer", "float32"]\noutput = "out"\n'
        b"security_version = 3\n[gate]\nmetric = 'accuracy'\nmax_drop = 0.02\n"
        b'[keys]\nsigning = "release.key.pem"\nrecipients = ["device.pub.pem"]\n[converter]\na = [1, 2.5, true]\n'
    ]


def datasets() -> list[bytes]:
    """Return .npz and .npy files of a few numbers."""
    found = []
    arrays = {"x": np.zeros((2, 3), np.float32), "y": np.array([0, 1])}
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, allow_pickle=False, **arrays)
        found.append(file.getvalue())
    for array in (*arrays.values(), np.asfortranarray(np.ones((2, 2), np.int8))):
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return found


def models() -> list[bytes]:
    """Return small TFLite models."""
    paths = [*sorted((DATA / "engines").glob("*.tflite")), DATA / "tiny" / "matmul.tflite"]
    return [path.read_bytes() for path in paths]


def keras_configs() -> list[bytes]:
    """Return the description of layers in a Keras file."""
    dense = {
        "class_name": "Dense",
        "module": "keras.layers",
        "registered_name": None,
        "config": {"name": "d", "units": 2},
    }
    bad = {"class_name": "Lambda", "config": {"name": "l", "function": {"class_name": "__lambda__"}}}
    return [
        json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": [dense]}}).encode(),
        json.dumps([bad, {"class_name": "p>Own"}]).encode(),
    ]


def keras_files() -> list[bytes]:
    """Return .keras archives."""
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            archive.writestr("config.json", keras_configs()[0])
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
        found.append(file.getvalue())
    return found


def sources() -> list[bytes]:
    """Return model files of each format that is told from its first bytes."""
    hdf5 = b"\x89HDF\r\n\x1a\n\0" + bytes(31) + (100).to_bytes(8, "little") + b"model_config" + bytes(60)
    onnx = bytes.fromhex("0807 3a08 0a00 1204 67727068 4204 0a00 100d")
    return [*models()[:3], *keras_files(), hdf5, onnx]


def wire_frames() -> list[bytes]:
    """Return frames as a child sends them."""
    frames = []
    for result in ([1, 2], {"a": np.ones(3, np.float32)}):
        inner = _wire.encode(result)
        frames.append(_wire.Message({"result": inner.value, "network": ""}, inner.blobs))
    frames.append(_wire.Message({"error": {"error": "ConversionError", "message": "m", "hint": ""}}, ()))
    return [_framed(message) for message in frames]


def _framed(message: _wire.Message) -> bytes:
    file = io.BytesIO()
    _wire.write_message(file, message)
    return file.getvalue()


def wire_values() -> list[bytes]:
    """Return a frame with a dataclass of many kinds of field in it."""
    return [_framed(_wire.encode(_manifest().model))]


def zstd_frames() -> list[bytes]:
    """Return frames after the length of their content; as bytes, for zstandard may be missing."""
    plain = "28b52ffd60d0065d000020616263640100c9ff3b22"
    with_checksum = (
        "28b52ffd642c00850200840468656c6c6f2c206564676520000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e"
        "1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b0100e15325095c794583"
    )
    return [length.to_bytes(3, "little") + bytes.fromhex(f) for length, f in ((2000, plain), (300, with_checksum))]
