"""Bundles on both sides of 2 GiB and 4 GiB: written, verified, decrypted, and refused when a byte is wrong.

``python -m tools.large_bundle [--folder DIR] [BYTES...]`` (2147483649 and 4294967297 without). Needs twice the
largest size on the disk, and no memory to speak of: each step is a process of its own and says what it took. Exit
code 1 if one went wrong or took more than `MAX_MEMORY`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from edgepack.keys import make_identity
from edgepack.pack import GOLDEN_ENTRY, MODEL_ENTRY, EntrySource, Release, pack_pieces
from edgepack.profiles import load_profile
from edgepack.signers import SignerRequest, open_signer
from edgepack_runtime._files import write_whole
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.device import Device
from edgepack_runtime.errors import BundleError, FormatError, PayloadError
from edgepack_runtime.keyfiles import load_recipient
from edgepack_runtime.manifest import Golden, Manifest, ModelDescription, Provenance
from edgepack_runtime.session import verify_bundle
from edgepack_runtime.table import EntryRole
from edgepack_runtime.tensors import TensorSpec
from edgepack_runtime.verify import Policy, verify

SIZES = (2**31 + 1, 2**32 + 1)
MAX_MEMORY = 160 << 20
_BLOCK = 1 << 20
_PROFILE = "raspberry-pi-5"
_PATTERN = hashlib.shake_256(b"large bundle").digest(_BLOCK)
ROOT = Path(__file__).resolve().parents[1]


def content(at: int, size: int) -> bytes:
    """Return bytes of a model that is nowhere: blocks of noise that begin with their number."""
    parts = []
    while size > 0:
        block, skip = divmod(at, _BLOCK)
        take = min(size, _BLOCK - skip)
        parts.append((block.to_bytes(8, "little") + _PATTERN[8:])[skip : skip + take])
        at, size = at + take, size - take
    return b"".join(parts)


def _manifest() -> Manifest:
    spec = TensorSpec(name="x", dtype="uint8", shape=(1,))
    return Manifest(
        name="large",
        version="1",
        licence="",
        profile=load_profile(_PROFILE),
        model=ModelDescription(entry=MODEL_ENTRY, scheme="float32", inputs=(spec,), outputs=(spec,)),
        golden=Golden(entry=GOLDEN_ENTRY, samples=1, tolerance=0.0),
        labels=(),
        provenance=Provenance(
            tool="large_bundle",
            source_format="none",
            source_digest="",
            calibration_digest="",
            evaluation_digest="",
            steps=(),
            notes=(),
        ),
        evidence=(),
    )


def write(folder: Path, size: int) -> None:
    """Write the bundle; `size` is the model's length."""
    release = Release(
        signing_key=open_signer(SignerRequest(uri=str(folder / "keys" / "release.key.pem"))),
        recipients=(load_recipient(folder / "keys" / "device.pub.pem"),),
        security_version=1,
        created=int(time.time()),
    )
    sources = (
        EntrySource(name=MODEL_ENTRY, role=EntryRole.MODEL, length=size, read=content),
        EntrySource(name=GOLDEN_ENTRY, role=EntryRole.GOLDEN, length=2, read=lambda at, n: b"\1\2"[at : at + n]),
    )
    write_whole(folder / "large.edgepack", pack_pieces(sources, _manifest(), release))


def check(folder: Path, size: int) -> None:
    """Check signature and every segment, as `edgepack-device verify` does."""
    bundle, _ = verify_bundle(folder / "large.edgepack", device=_device(folder), payload=True)
    if bundle.entry(MODEL_ENTRY).plain_length != size:
        raise RuntimeError("the table says another size than was written")


def decrypt(folder: Path, size: int) -> None:
    """Decrypt the model into a mapped file and compare it with what it was made of."""
    device = _device(folder)
    with BundleFile(folder / "large.edgepack") as file, (folder / "plain").open("w+b") as out:
        out.truncate(size)
        bundle = verify(file.container, device.trust, Policy(profile=_PROFILE))
        with mmap.mmap(out.fileno(), size) as mapping, bundle.unlock(device.key) as unlocked:
            with memoryview(mapping) as view:
                unlocked.read_entry(MODEL_ENTRY, file.read, view)
            for at in range(0, size, _BLOCK):
                if mapping[at : at + _BLOCK] != content(at, min(_BLOCK, size - at)):
                    raise RuntimeError(f"byte {at} and on came back as something else")
    (folder / "plain").unlink()


STEPS: dict[str, Callable[[Path, int], None]] = {"write": write, "check": check, "decrypt": decrypt}


def _device(folder: Path) -> Device:
    return replace(Device.from_file(folder / "device.json"), accepted={})


@contextlib.contextmanager
def _byte_changed(path: Path, at: int) -> Iterator[None]:
    with path.open("r+b", buffering=0) as file:
        before = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([before[0] ^ 1]), at)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), before, at)


@contextlib.contextmanager
def _of_length(path: Path, length: int, spare: Callable[[int, int], bytes]) -> Iterator[None]:
    size = path.stat().st_size
    tail = spare(length, size - length) if length < size else b""
    os.truncate(path, length)
    try:
        yield
    finally:
        with path.open("r+b", buffering=0) as file:
            file.truncate(size)
            os.pwrite(file.fileno(), tail, length)


def damages(path: Path) -> Iterator[tuple[str, type[BundleError], contextlib.AbstractContextManager[None]]]:
    """Yield ways to damage a bundle, and what must come of each."""
    with BundleFile(path) as file:
        front, end = file.container.preamble.front_length, file.container.preamble.file_length
    places = {"first": front, "middle": (front + end) // 2, "last": end - 1}
    places |= {f"2^{bits}": 2**bits for bits in (31, 32) if front < 2**bits < end}
    for name, at in places.items():
        yield f"{name} byte changed", PayloadError, _byte_changed(path, at)

    def spare(at: int, size: int) -> bytes:
        with path.open("rb") as file:
            return os.pread(file.fileno(), size, at)

    yield "a byte cut off", FormatError, _of_length(path, end - 1, spare)
    yield "a byte appended", FormatError, _of_length(path, end + 1, spare)


def _refuses(folder: Path, size: int, say: Callable[[str], None]) -> bool:
    good = True
    for name, wanted, damage in damages(folder / "large.edgepack"):
        with damage:
            try:
                check(folder, size)
                found = "accepted"
            except BundleError as error:
                found = type(error).__name__
        say(f"  {name:22} {found}")
        good &= found == wanted.__name__
    return good


class _Memory(threading.Thread):
    """Watches what this process has of its own; a mapped file's pages are the file's, and the kernel's to drop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Look every few milliseconds until `done`."""
        while not self.done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            (anonymous,) = (int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
            self.peak = max(self.peak, anonymous)


def _own_process(step: str, folder: Path, size: int) -> tuple[float, int]:
    """Run a step in a process of its own; return its seconds, and the most memory it had."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tools.large_bundle", "--step", step, "--folder", str(folder), str(size)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return time.monotonic() - started, int(done.stdout)


def run(folder: Path, size: int, say: Callable[[str], None] = print) -> bool:
    """Return whether one size holds all it must; leaves nothing in `folder`."""
    say(f"{size:,} bytes")
    good = True
    with tempfile.TemporaryDirectory(prefix="edgepack-large-", dir=folder) as made:
        base = Path(made)
        make_identity(base / "keys")
        table = {"profile": _PROFILE, "trust": "keys/trust.json", "key": "keys/device.key.pem"}
        (base / "device.json").write_text(json.dumps(table))
        for step in STEPS:
            seconds, memory = _own_process(step, base, size)
            fits = memory <= MAX_MEMORY
            say(f"  {step:22} {seconds:6.1f} s  {memory >> 20} MiB{'' if fits else ': TOO MUCH'}")
            good &= fits
        good &= _refuses(base, size, say)
    return good


def main(arguments: list[str]) -> int:
    """Try each size; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.large_bundle", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("sizes", nargs="*", type=int, metavar="BYTES")
    args = parser.parse_args(arguments)
    if args.step:
        memory = _Memory()
        memory.start()
        STEPS[args.step](args.folder, args.sizes[0])
        memory.done.set()
        memory.join()
        print(memory.peak)
        return 0
    held = [run(args.folder, size) for size in args.sizes or SIZES]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
