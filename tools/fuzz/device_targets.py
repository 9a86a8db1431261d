"""The targets on a device: bundles, grants, trust, state, keys, what an operator gives.

An input that is accepted must hold what acceptance promises, where that can be said: a table that was parsed packs to
the same bytes again, nothing is opened of a bundle that was not signed.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgepack.localprofile import profile_of
from edgepack.probe_import import default_name, profile_of_probe
from edgepack.probed import read_probe, read_refusal
from edgepack_runtime._room import room_in
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.cli import _load_feeds
from edgepack_runtime.compression import ZSTD, decompress, supported
from edgepack_runtime.container import PREAMBLE_SIZE, Container, Preamble, parse_grants, parse_signatures
from edgepack_runtime.decoding import read_sound
from edgepack_runtime.device import Device, load_trust
from edgepack_runtime.enrolment import Enrolment
from edgepack_runtime.errors import (
    BundleError,
    EdgepackError,
    FileError,
    FormatError,
    IncompatibleError,
    InputError,
    KeyFileError,
    PayloadError,
    SchemaError,
    StateError,
    StoreError,
)
from edgepack_runtime.golden import pack_golden, unpack_golden
from edgepack_runtime.keyfiles import load_device_key, load_signing_key, load_verifying_key
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.probe import Machine
from edgepack_runtime.sidecar import read_sidecar
from edgepack_runtime.state import KEY_SIZE, DeviceState, _tag
from edgepack_runtime.store import Store
from edgepack_runtime.table import SignedTable
from edgepack_runtime.tensors import DTYPES, TensorSpec
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_file import update_trust
from edgepack_runtime.trust_update import TrustDocument
from edgepack_runtime.verify import Policy, VerifiedBundle, verify
from tools.fuzz import seeds
from tools.fuzz.target import Target, file, ignore
from tools.vectors.keys import key_id, private_key
from tools.vectors.layout import resigned

__all__ = ["DEVICE_MISSING", "DEVICE_TARGETS"]

# Bundles

_TRUST = TrustedKeys.of([private_key("ed25519 release").public_key()], threshold=1)  # type: ignore[list-item]
_DEVICE = private_key("x25519 device")


def _read_all(bundle: VerifiedBundle, read: Callable[[int, int], bytes]) -> dict[str, bytes]:
    found = {}
    with bundle.unlock(_DEVICE) as unlocked:  # type: ignore[arg-type]
        for entry in bundle.entries:
            into = bytearray(entry.plain_length)
            unlocked.read_entry(entry.name, read, memoryview(into))
            found[entry.name] = bytes(into)
    return found


def _opened(data: bytes) -> dict[str, bytes]:
    preamble = Preamble.parse(data[:PREAMBLE_SIZE])
    container = Container.from_front(data[: preamble.front_length], len(data))
    return _read_all(verify(container, _TRUST, Policy(profile=None)), lambda at, size: data[at : at + size])


def _bundle(data: bytes) -> None:
    with BundleFile(file("m.edgepack", data)) as opened:
        found = _read_all(verify(opened.container, _TRUST, Policy(profile=None)), opened.read)
    # The fuzzer has no key, so whatever it gets to open is what was signed.
    assert found in _SIGNED, "opened to something that was never signed"


_SIGNED = [{entry.name: entry.plain for entry in seeds.SPEC.entries}, {"model.tflite": b""}]
_SIGNED.append({entry.name: entry.plain for entry in seeds.SPEC.entries[:1]})


def _resigned(data: bytes) -> None:
    """Take two lengths, a signed region and a payload; sign and grant whatever that is."""
    size = struct.unpack("<I", data[:4].ljust(4, b"\0"))[0]
    signed, payload = data[4 : 4 + size], data[4 + size :]
    _opened(resigned(seeds.SPEC, signed, payload).file())


def _resigned_seeds() -> list[bytes]:
    return [len(p.signed).to_bytes(4, "little") + p.signed + p.payload for p in seeds.bundle_parts()]


def _table(data: bytes) -> None:
    assert SignedTable.parse(data).pack() == data, "a table that packs to other bytes than it was parsed from"


def _zstd(data: bytes) -> None:
    """Take three bytes of content length, and a frame."""
    content = memoryview(bytearray(int.from_bytes(data[:3], "little")))
    decompress(bytearray(data[3:]), room_in(content))


def _blocks(data: bytes) -> None:
    if data[:1] == b"s":
        parse_signatures(data[1:])
    else:
        parse_grants(data[1:])


def _block_seeds() -> list[bytes]:
    found = []
    for one in seeds.bundle_parts():
        found.append(b"s" + struct.pack("<H", len(one.signatures)) + b"".join(s.pack() for s in one.signatures))
        found.append(b"g" + struct.pack("<H", len(one.grants)) + b"".join(g.pack() for g in one.grants))
    return found


def _golden(data: bytes) -> None:
    """Take a number of samples, then a tensor a byte pair until a zero, then the entry."""
    count, at = data[:1], 1
    specs: list[TensorSpec] = []
    while data[at : at + 1] > b"\0" and len(specs) < 8:
        shape = tuple(max(1, value >> 5) for value in data[at + 1 : at + 3])
        specs.append(TensorSpec(name=f"t{at}", dtype=sorted(DTYPES)[data[at] % len(DTYPES)], shape=shape))
        at += 3
    cut = len(specs) // 2
    inputs, outputs = tuple(specs[:cut]), tuple(specs[cut:])
    content = data[at + 1 :]
    samples = unpack_golden(content, int.from_bytes(count, "little"), inputs, outputs)
    booleans = any(spec.dtype == "bool" for spec in specs)
    assert booleans or pack_golden(samples, inputs, outputs) == content, "golden tensors that pack to other bytes"


def _golden_seeds() -> list[bytes]:
    tensors = bytes([7, 64, 64, 1, 32, 96])
    sizes = [np.dtype(sorted(DTYPES)[i % len(DTYPES)]).itemsize * n for i, n in ((7, 4), (1, 3))]
    return [bytes([2]) + tensors + b"\0" + bytes(2 * sum(sizes))]


# Trust and state


def _trust(data: bytes) -> None:
    load_trust(file("any-trust.json", data))


_ROOT = private_key("ed25519 root").public_key()
_FIRST = TrustDocument(
    version=1,
    created=1_700_000_000,
    root=TrustedKeys.of([_ROOT], threshold=1),  # type: ignore[list-item]
    release=_TRUST,
)


def _trust_update(data: bytes) -> None:
    """Take a signed region; the root that is trusted signs whatever it is, and no other key does."""
    in_force = file("in-force.trust", seeds.trust_container_file(_FIRST.pack()))
    after = update_trust(in_force, [file("next.trust", seeds.trust_container_file(data))])
    assert after.document.version == _FIRST.version + 1, "a version was left out"
    root = after.document.root
    assert root.threshold == 1, "more signatures are wanted than there are"
    assert key_id("ed25519 root") in root.by_id(), "roots that have not signed took over"


def _state(data: bytes) -> None:
    """Take a state without its tag; the tag is made here, because the guard before the parser is not the point."""
    key = bytes(KEY_SIZE)
    # Unless the fuzzer finds an HMAC-SHA256 by itself, this is refused.
    with contextlib.suppress(StateError):
        DeviceState.from_bytes(data, key)
        raise AssertionError("a state without a good tag is believed")
    whole = data + _tag(key, data)
    assert DeviceState.from_bytes(whole, key).to_bytes(key) == whole, "a state that packs to other bytes"


def _store(data: bytes) -> None:
    store = Store.from_bytes(data)
    assert Store.from_bytes(store.to_bytes()) == store, "a list of what is installed that reads back as another"


# Keys, the machine, an operator's inputs


def _device(data: bytes) -> None:
    path = file("device/device.json", data)
    for name, content in (("trust.json", seeds.trust_files), ("key.pem", seeds.key_files)):
        if not path.with_name(name).exists():
            file(f"device/{name}", content()[0])
    Device.from_file(path)


def _key_file(data: bytes) -> None:
    path = file("any.pem", data)
    for load in (load_device_key, load_signing_key):
        with contextlib.suppress(KeyFileError):
            load(path)
            return
    load_verifying_key(path)


def _probe(data: bytes) -> None:
    """Take a probe's document, its refusal, or nine texts between record separators."""
    if data.startswith(b'{"error"'):
        read_refusal(data, "board")
        return
    if data.startswith(b"{"):
        found = read_probe(data, "probe.json")
        profile_of_probe(found, default_name(found))
        return
    given = data.decode("utf-8", "replace").split("\x1e")
    texts = (given + [""] * 9)[:9]
    machine, cpuinfo, meminfo, libc, board, compatible, os, engine, version = texts
    profile_of(
        Machine(
            machine=machine, pointer_bits=64, cpuinfo=cpuinfo, meminfo=meminfo, memory_limit=None, cores=4,
            free_bytes=1 << 30, free_where="here", os=os, libc=libc, python="3.11", board=board,
            compatible=compatible, engines=((engine, version),),
        )
    )  # fmt: skip


def _feeds(data: bytes) -> None:
    """Take a zip file; or an array file, which is put into a zip file whose checksums hold."""
    if data[:1] != b"P":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("x.npy", data)
        data = archive.getvalue()
    _load_feeds(file("inputs.npz", data))


DEVICE_MISSING = {} if ZSTD in supported() else {"zstd": "zstandard"}
DEVICE_TARGETS = {
    "bundle": Target(run=_bundle, errors=(BundleError,), seeds=seeds.bundles),
    "resigned": Target(run=_resigned, errors=(BundleError,), seeds=_resigned_seeds),
    "table": Target(
        run=_table, errors=(FormatError, IncompatibleError), seeds=lambda: [p.signed for p in seeds.bundle_parts()]
    ),
    **({} if DEVICE_MISSING else {"zstd": Target(run=_zstd, errors=(PayloadError,), seeds=seeds.zstd_frames)}),
    "blocks": Target(run=_blocks, errors=(FormatError,), seeds=_block_seeds),
    "sidecar": Target(
        run=lambda data: ignore(read_sidecar(file("m.grant", data))),
        errors=(BundleError, FileError),
        seeds=lambda: [seed[1:] for seed in _block_seeds() if seed[:1] == b"g"],
    ),
    "manifest": Target(
        run=lambda data: ignore(Manifest.from_bytes(data).to_bytes()), errors=(FormatError,), seeds=seeds.manifests
    ),
    "golden": Target(run=_golden, errors=(FormatError,), seeds=_golden_seeds),
    "trust": Target(run=_trust, errors=(SchemaError, KeyFileError, BundleError), seeds=seeds.trust_files),
    "trust_document": Target(
        run=lambda data: ignore(TrustDocument.parse(data).pack()),
        errors=(FormatError, IncompatibleError),
        seeds=seeds.trust_documents,
    ),
    "trust_update": Target(
        run=_trust_update,
        errors=(BundleError,),
        seeds=lambda: [*seeds.trust_documents(), _FIRST.pack(), replace(_FIRST, version=2).pack()],
    ),
    "state": Target(run=_state, errors=(StateError,), seeds=seeds.states),
    "store": Target(run=_store, errors=(StoreError,), seeds=seeds.stores),
    "device": Target(
        run=_device,
        errors=(SchemaError, FileError, KeyFileError),
        seeds=seeds.device_files,
    ),
    "key_file": Target(run=_key_file, errors=(KeyFileError,), seeds=seeds.key_files),
    "enrolment": Target(
        run=lambda data: ignore(Enrolment.from_json(data, "record")), errors=(SchemaError,), seeds=seeds.enrolments
    ),
    "probe": Target(run=_probe, errors=(EdgepackError,), seeds=lambda: [*seeds.machines(), *seeds.probe_documents()]),
    "sound": Target(
        run=lambda data: ignore(read_sound(file("sound.wav", data), seeds.SOUND_RATE)),
        errors=(InputError,),
        seeds=seeds.sounds,
    ),
    "feeds": Target(run=_feeds, errors=(InputError,), seeds=seeds.datasets),
}
