"""The targets: each parses one input, and may raise its typed errors only.

An input that is accepted must hold what acceptance promises, where that can be said: a table that was parsed packs to
the same bytes again, nothing is opened of a bundle that was not signed.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack import _wire
from edgepack.converters._keras_config import refuse_code
from edgepack.dataset import load_dataset
from edgepack.errors import ConversionError, DatasetError, ProfileError, RecipeError, SourceModelError
from edgepack.flatbuffer import read_model
from edgepack.profiles import load_profile
from edgepack.recipe import load_recipe
from edgepack.source import detect
from edgepack.worker import _answer, _Reply
from edgepack_runtime.compression import ZSTD, decompress, supported
from edgepack_runtime.container import PREAMBLE_SIZE, Container, Preamble, parse_grants, parse_signatures
from edgepack_runtime.device import Device, load_trust
from edgepack_runtime.enrolment import Enrolment
from edgepack_runtime.errors import (
    BundleError,
    EdgepackError,
    FileError,
    FormatError,
    IncompatibleError,
    KeyFileError,
    PayloadError,
    SchemaError,
)
from edgepack_runtime.golden import pack_golden, unpack_golden
from edgepack_runtime.keyfiles import load_device_key, load_verifying_key
from edgepack_runtime.manifest import Manifest, ModelDescription
from edgepack_runtime.sidecar import read_sidecar
from edgepack_runtime.table import SignedTable
from edgepack_runtime.tensors import DTYPES, TensorSpec
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_update import TrustDocument
from edgepack_runtime.verify import Policy, VerifiedBundle, verify
from tools.fuzz import seeds
from tools.vectors.keys import private_key
from tools.vectors.layout import resigned

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parser of outside bytes: what runs it, what it may raise, what to start from."""

    run: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def check(self, data: bytes) -> bool:
        """Return whether an input was accepted; any error that is none of `errors` passes through."""
        try:
            self.run(data)
        except self.errors:
            return False
        return True


class _Folder:
    """The files of one process."""

    def __init__(self) -> None:
        self._made = tempfile.TemporaryDirectory(prefix="edgepack-fuzz-")
        self.path = Path(self._made.name)
        self.write("trust.json", seeds.trust_files()[0])
        self.write("key.pem", seeds.key_files()[0])

    def write(self, name: str, data: bytes) -> Path:
        path = self.path / name
        path.write_bytes(data)
        return path


_folder: _Folder | None = None


def _file(name: str, data: bytes) -> Path:
    global _folder  # noqa: PLW0603 - made with the first input, and removed with the process
    _folder = _folder or _Folder()
    return _folder.write(name, data)


# Bundles

_TRUST = TrustedKeys.of([private_key("ed25519 release").public_key()], threshold=1)  # type: ignore[list-item]
_DEVICE = private_key("x25519 device")


def _read_all(bundle: VerifiedBundle, data: bytes) -> dict[str, bytes]:
    found = {}
    with bundle.unlock(_DEVICE) as unlocked:  # type: ignore[arg-type]
        for entry in bundle.entries:
            into = bytearray(entry.plain_length)
            unlocked.read_entry(entry.name, lambda at, size: data[at : at + size], memoryview(into))
            found[entry.name] = bytes(into)
    return found


def _opened(data: bytes) -> dict[str, bytes]:
    preamble = Preamble.parse(data[:PREAMBLE_SIZE])
    container = Container.from_front(data[: preamble.front_length], len(data))
    return _read_all(verify(container, _TRUST, Policy(profile=None)), data)


def _bundle(data: bytes) -> None:
    # The fuzzer has no key, so whatever it gets to open is what was signed.
    assert _opened(data) in _SIGNED, "opened to something that was never signed"


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
    decompress(bytearray(data[3:]), content)


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


# Worker replies


def _wire_reply(data: bytes) -> None:
    message, _ = _answer(_Reply(name="fuzz", code=0, output=data, tail=""))
    _wire.decode(tuple[int, ...], message)


def _wire_message(data: bytes) -> None:
    _wire.decode(ModelDescription, _wire.read_message(io.BytesIO(data)))


def _npz(data: bytes) -> None:
    """Put one array file of any content into a zip file whose checksums hold."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", data)
    load_dataset(_file("data.npz", file.getvalue()), "calibration")


def _keras_config(data: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", data)
    refuse_code(_file("model.keras", file.getvalue()))


def _trust(data: bytes) -> None:
    load_trust(_file("any-trust.json", data))


def _key_file(data: bytes) -> None:
    path = _file("any.pem", data)
    try:
        load_device_key(path)
    except KeyFileError:
        load_verifying_key(path)


TARGETS = {
    "bundle": Target(run=_bundle, errors=(BundleError,), seeds=seeds.bundles),
    "resigned": Target(run=_resigned, errors=(BundleError,), seeds=_resigned_seeds),
    "table": Target(
        run=_table, errors=(FormatError, IncompatibleError), seeds=lambda: [p.signed for p in seeds.bundle_parts()]
    ),
    **({"zstd": Target(run=_zstd, errors=(PayloadError,), seeds=seeds.zstd_frames)} if ZSTD in supported() else {}),
    "blocks": Target(run=_blocks, errors=(FormatError,), seeds=_block_seeds),
    "sidecar": Target(
        run=lambda data: _ignore(read_sidecar(_file("m.grant", data))),
        errors=(BundleError, FileError),
        seeds=lambda: [seed[1:] for seed in _block_seeds() if seed[:1] == b"g"],
    ),
    "manifest": Target(
        run=lambda data: _ignore(Manifest.from_bytes(data).to_bytes()), errors=(FormatError,), seeds=seeds.manifests
    ),
    "trust": Target(run=_trust, errors=(SchemaError, KeyFileError, BundleError), seeds=seeds.trust_files),
    "trust_document": Target(
        run=lambda data: _ignore(TrustDocument.parse(data).pack()),
        errors=(FormatError, IncompatibleError),
        seeds=seeds.trust_documents,
    ),
    "device": Target(
        run=lambda data: _ignore(Device.from_file(_file("device.json", data))),
        errors=(SchemaError, FileError, KeyFileError),
        seeds=seeds.device_files,
    ),
    "key_file": Target(run=_key_file, errors=(KeyFileError,), seeds=seeds.key_files),
    "enrolment": Target(
        run=lambda data: _ignore(Enrolment.from_json(data, "record")), errors=(SchemaError,), seeds=seeds.enrolments
    ),
    "profile": Target(
        run=lambda data: _ignore(load_profile(_file("p.toml", data))),
        errors=(ProfileError, SchemaError),
        seeds=seeds.profiles,
    ),
    "recipe": Target(
        run=lambda data: _ignore(load_recipe(_file("edgepack.toml", data))),
        errors=(RecipeError, SchemaError),
        seeds=seeds.recipes,
    ),
    "golden": Target(run=_golden, errors=(FormatError,), seeds=_golden_seeds),
    "dataset": Target(
        run=lambda data: _ignore(load_dataset(_file("data", data), "calibration")),
        errors=(DatasetError,),
        seeds=seeds.datasets,
    ),
    "npz_array": Target(run=_npz, errors=(DatasetError,), seeds=lambda: seeds.datasets()[2:]),
    "flatbuffer": Target(run=lambda data: _ignore(read_model(data)), errors=(SourceModelError,), seeds=seeds.models),
    "source": Target(
        run=lambda data: _ignore(detect(_file("model", data))), errors=(SourceModelError,), seeds=seeds.sources
    ),
    "keras_config": Target(run=_keras_config, errors=(SourceModelError, ConversionError), seeds=seeds.keras_configs),
    "keras_file": Target(
        run=lambda data: refuse_code(_file("model.keras", b"PK" + data[2:])),
        errors=(SourceModelError, ConversionError),
        seeds=seeds.keras_files,
    ),
    # A reply may also be an error of ours, which then is raised: that is what it is for.
    "wire_reply": Target(run=_wire_reply, errors=(EdgepackError,), seeds=seeds.wire_frames),
    "wire_message": Target(run=_wire_message, errors=(SchemaError,), seeds=seeds.wire_values),
}


def _ignore(_: object) -> None:
    """Take a result: what a parser returns is not the point."""
