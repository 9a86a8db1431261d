"""Where a campaign starts: good inputs of each kind, made by the code that writes them or taken from the tests."""

from __future__ import annotations

import base64
import io
import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from edgepack import _wire
from edgepack.journal import open_journal
from edgepack.pkcs8 import encrypt_private_key
from edgepack.profile_text import profile_toml
from edgepack.statement import STATEMENT_TYPE
from edgepack.timing import Timing
from edgepack_runtime._fields import Fields, canonical_json
from edgepack_runtime.container import assemble_front
from edgepack_runtime.enrolment import Enrolment
from edgepack_runtime.manifest import Evidence, Golden, Manifest, ModelDescription, Provenance, Step
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.signing import TRUST_PAYLOAD_TYPE, sign
from edgepack_runtime.slots import Health, Moment, Product, Slot, SlotState, Trial
from edgepack_runtime.state import KEY_SIZE, DeviceState, Floor, StoredTrust
from edgepack_runtime.store import Store
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_update import FloorReset, TrustDocument
from tools.fuzz.target import file, ignore
from tools.vectors.keys import pkcs8, private_key, seed, spki
from tools.vectors.layout import Entry, Parts, Spec, parts
from tools.vectors.profile import FULL

__all__ = [
    "JOURNAL_BUILD",
    "RELEASE_TRUST",
    "SOUND_RATE",
    "SPEC",
    "bundle_parts",
    "bundles",
    "datasets",
    "device_files",
    "enrolments",
    "envelope",
    "journals",
    "key_files",
    "key_uris",
    "machines",
    "manifests",
    "micro_profiles",
    "options",
    "probe_documents",
    "profiles",
    "recipes",
    "sounds",
    "statements",
    "states",
    "stores",
    "trust_container_file",
    "trust_documents",
    "trust_files",
    "wire_frames",
    "wire_values",
    "zstd_frames",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
SOUND_RATE = 16_000
RELEASE_TRUST = TrustedKeys.of([private_key("ed25519 release").public_key()], threshold=1)  # type: ignore[list-item]
_FULL_PROFILE = DeviceProfile.from_fields(Fields(FULL["profile"], "a profile with everything"))
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
        profile=_FULL_PROFILE,
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
    document = trust_container_file(trust_documents()[0])
    return [canonical_json(both.to_json()), *_pem("PUBLIC KEY", spki("ed25519 release")), document]


def trust_container_file(signed: bytes) -> bytes:
    """Return a trust document file around any signed region: the root key of the seeds signs whatever it is."""
    root = private_key("ed25519 root")
    return assemble_front(signed, [sign(root, signed, TRUST_PAYLOAD_TYPE)], (), 0)  # type: ignore[arg-type]


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
        "accepted": {"digits": 7}, "state": "state", "store": "store",
    }  # fmt: skip
    return [json.dumps(full).encode(), b'{"profile": "board", "trust": "trust.json"}']


def states() -> list[bytes]:
    """Return the state of a device without its tag: a new one, and one with floors and a trust document."""
    floors = tuple(Floor(product=name, profile="board", security_version=7) for name in ("digits", "faces"))
    trust = StoredTrust(version=2, document=b"a document")
    full = DeviceState(generation=9, floors=floors, time_floor=1_750_000_000, trust=trust)
    return [state.to_bytes(bytes(KEY_SIZE))[:-32] for state in (DeviceState(generation=1), full)]


def stores() -> list[bytes]:
    """Return what is installed on a device: nothing, and a product in a trial with another bundle to go back to."""
    good = Slot(
        number=1, state=SlotState.GOOD, digest="ab" * 32, version="1", security_version=2**64 - 1, length=9,
        granted=False,
    )  # fmt: skip
    new = replace(good, number=2, state=SlotState.TRIAL, granted=True, note="n")
    trial = Trial(health=Health(starts=3, seconds=60), started=1, first=Moment(boot="b", seconds=5))
    digits = Product(name="digits", active=new, spare=good, trial=trial)
    return [Store().to_bytes(), Store(serial=2, products=(digits,)).to_bytes()]


def key_files() -> list[bytes]:
    """Return PEM files of each kind of key: private, public, labelled, under a passphrase, of a kind nobody takes."""
    private = [*_pem("PRIVATE KEY", pkcs8("x25519 device")), *_pem("PRIVATE KEY", pkcs8("p256 device"))]
    signing = _pem("PRIVATE KEY", pkcs8("ed25519 release"))
    labelled = [b"edgepack-role: device\nedgepack-key-id: " + b"ab" * 32 + b"\n" + one for one in private[:1]]
    public = [*_pem("PUBLIC KEY", spki("p256 release")), *_pem("PUBLIC KEY", spki("x25519 device"))]
    secret = [encrypt_private_key(private_key("ed25519 release"), b"horse")]
    key = private_key("p256 device")
    secret.append(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"horse")))
    old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return [*private, *signing, *labelled, *public, *secret, old, *enrolments()]


def _pem(kind: str, der: bytes) -> list[bytes]:
    text = base64.encodebytes(der).decode()
    return [f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n".encode()]


def enrolments() -> list[bytes]:
    """Return enrolment records."""
    keys = [private_key(name).public_key() for name in ("x25519 device", "p256 device")]
    return [Enrolment(name="d1", profile="board", public_key=key).to_json() for key in keys]  # type: ignore[arg-type]


def profiles() -> list[bytes]:
    """Return device profiles edgepack ships, and one with every field in use."""
    shipped = [path.read_bytes() for path in sorted((ROOT / "device_profiles").glob("*.toml"))[:2]]
    return [*shipped, profile_toml(_FULL_PROFILE).encode()]


def micro_profiles() -> list[bytes]:
    """Return the microcontrollers' profiles edgepack ships."""
    return [path.read_bytes() for path in sorted((ROOT / "device_profiles" / "micro").glob("*.toml"))]


def envelope(payload: bytes) -> bytes:
    """Return signed evidence that says whatever is given, signed by the release key."""
    signature = sign(private_key("ed25519 release"), payload, STATEMENT_TYPE)  # type: ignore[arg-type]
    table = {
        "payloadType": STATEMENT_TYPE.decode(),
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": signature.key_id.hex(), "sig": base64.b64encode(signature.value).decode()}],
    }
    return canonical_json(table)


def statements() -> list[bytes]:
    """Return signed evidence, and what is signed in it: of no file, and of one that is missing."""
    rows: list[object] = [{"name": "model.tflite", "bytes": 4, "sha256": "00" * 32}]
    payloads = [canonical_json({"statement": 1, "files": files, "product": "digits"}) for files in ([], rows)]
    return [envelope(payloads[0]), *payloads]


def recipes() -> list[bytes]:
    """Return a recipe with every table in use."""
    return [
        b'[model]\npath = "m.onnx"\nname = "digits"\nversion = "2"\nlabels = "labels.txt"\nlicence = "MIT"\n'
        b'[data]\ncalibration = "c.npz"\nevaluation = "e.npz"\n'
        b'[build]\nprofiles = ["raspberry-pi-4"]\nprecision = ["full_integer", "float32"]\noutput = "out"\n'
        b"security_version = 3\n[gate]\nmetric = 'accuracy'\nmax_drop = 0.02\n"
        b'[keys]\nsigning = "release.key.pem"\nrecipients = ["device.pub.pem"]\n[converter]\na = [1, 2.5, true]\n'
    ]


def sounds() -> list[bytes]:
    """Return WAV files of one and of two channels, and one of another width."""
    found = []
    for channels, width in ((1, 2), (2, 2), (1, 1)):
        packed = io.BytesIO()
        with wave.open(packed, "wb") as sound:
            sound.setparams((channels, width, SOUND_RATE, 0, "NONE", "not compressed"))
            sound.writeframes(bytes(range(240)))
        found.append(packed.getvalue())
    return found


def options() -> list[bytes]:
    """Return options of converters and passes, after a byte that says whose."""
    texts = [
        '{"inputs": ["audio:1,16000"], "max_difference": 0.001}', '{"signature_key": "serving_default"}', "{}",
        '{"granularity": "per_channel"}', '{"inputs": []}',
    ]  # fmt: skip
    return [bytes([kind]) + text.encode() for kind in range(8) for text in texts]


def key_uris() -> list[bytes]:
    """Return key URIs with every attribute that is known."""
    return [
        b"pkcs11:token=release;object=key;id=%01%ff;serial=1;model=m;manufacturer=n;type=private"
        b"?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin",
        b"pkcs11:object=k?pin-source=fd:3",
        b"release.key.pem",
    ]


def machines() -> list[bytes]:
    """Return what machines say of themselves: nine texts with a record separator between them."""
    meminfo = b"MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    6000000 kB"
    arm = b"processor\t: 0\nFeatures\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
    pc = b"processor\t: 0\nmodel name\t: A processor\nflags\t\t: fpu sse2 avx2\n"
    pi = b"Raspberry Pi 4", b"raspberrypi,4-model-b\0brcm,bcm2711", b"Debian GNU/Linux 12"
    made = [
        (b"aarch64", arm, meminfo, b"glibc 2.36", *pi, b"ai-edge-litert", b"2.3.0"),
        (b"armv7l", arm * 2, meminfo, b"glibc 2.36", *pi, b"tflite-runtime", b"2.14.0"),
        (b"x86_64", pc, meminfo, b"glibc 2.40", b"", b"", b"Linux", b"tflite-runtime", b"2.14.0"),
    ]
    return [b"\x1e".join(one) for one in made]


def probe_documents() -> list[bytes]:
    """Return documents as `edgepack-device probe` prints them, of an engine that works and of one that does not."""
    models = [{"name": f"{scheme}/{kind}", "verdict": "right", "error": 0.01, "reason": ""} for scheme in
              ("float32/plain", "full_integer/per_channel") for kind in ("CONV_2D", "FULLY_CONNECTED")]  # fmt: skip
    engine = {"name": "ai-edge-litert", "version": "2.9.9", "problem": "", "operators": [3] * 256, "models": models,
              "threads": [[1, 1.0], [2, 0.6]], "num_threads": 2, "process_bytes": 50_000_000}  # fmt: skip
    broken = engine | {"name": "tflite-runtime", "problem": "cannot be imported", "operators": [], "models": []}
    machine = {"machine": "aarch64", "pointer_bits": 64, "cpuinfo": "Features\t: fp asimd\nCPU part\t: 0xd08",
               "meminfo": "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB", "cores": 4, "free_bytes": 1 << 30,
               "free_where": "the home folder", "os": "Debian", "libc": "glibc 2.36", "python": "3.11",
               "board": "Raspberry Pi 4", "compatible": "raspberrypi,4-model-b\0brcm,bcm2711"}  # fmt: skip
    made = {"edgepack_probe": 1, "runtime": "0.1.0", "created": 1, "machine": machine, "write_bytes_per_second": 1}
    refusal = {"error": "EngineError", "message": "no engine is installed here", "hint": "install one"}
    documents = [made | {"engines": engines} for engines in ([engine], [engine, broken], [broken])]
    return [json.dumps(one).encode() for one in (*documents, refusal, refusal | {"hint": None})]


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


JOURNAL_BUILD = "0" * 64


def journals() -> list[bytes]:
    """Return a journal of two candidates: as it lies on the disk, and with its lines bare."""
    timing = Timing(
        rounds=9, milliseconds=1.5, low_ms=1.0, high_ms=2.0, float_ms=3.0, ratio=0.5, ratio_low=0.4, ratio_high=0.6
    )
    path = file("seed.journal", b"")
    with open_journal(path, JOURNAL_BUILD, Timing, ignore) as journal:
        journal.add("a", timing)
        journal.add("b", timing)
    whole = path.read_bytes()
    return [whole, whole[:-9], b"=" + b"".join(line.partition(b" ")[2] + b"\n" for line in whole.splitlines())]


def zstd_frames() -> list[bytes]:
    """Return frames after the length of their content; as bytes, for zstandard may be missing."""
    plain = "28b52ffd60d0065d000020616263640100c9ff3b22"
    with_checksum = (
        "28b52ffd642c00850200840468656c6c6f2c206564676520000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e"
        "1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b0100e15325095c794583"
    )
    return [length.to_bytes(3, "little") + bytes.fromhex(f) for length, f in ((2000, plain), (300, with_checksum))]
