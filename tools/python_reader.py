"""`edgepack_runtime` behind the protocol of the conformance vectors: ``python -m tools.python_reader``.

The library's errors are classes, and carry no step; which step refused is read from the class and the message. The
vectors hold that table true: they name the step of every refusal.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from edgepack_runtime.admission import check_consistent, check_required
from edgepack_runtime.container import PREAMBLE_SIZE, Container, Grant, Preamble
from edgepack_runtime.device import Device
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.errors import (
    BundleError,
    ExpiredError,
    FileError,
    FormatError,
    GrantError,
    IncompatibleError,
    PayloadError,
    RevokedError,
    RollbackError,
    SchemaError,
    SignatureError,
)
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.sidecar import sidecar_grants, sidecar_path
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_update import TrustDocument, apply_update, provision, trust_container
from edgepack_runtime.verify import Policy, VerifiedBundle, verify
from tools.conformance import Question, ok, refused
from tools.trust_conformance import InForce, TrustQuestion, refused_trust

__all__ = ["answer", "answer_trust", "main"]


class _SidecarError(BundleError):
    """A sidecar was needed and is no grants block."""


# Class, how the message begins or what it holds, outcome, step; the first that fits counts.
_STEPS: tuple[tuple[type[BundleError], str, str, int], ...] = (
    (FormatError, "preamble: this is no edgepack bundle", "preamble", 1),
    (FormatError, f"bytes, wanted {PREAMBLE_SIZE}", "preamble", 1),
    (FormatError, "preamble:", "preamble", 2),
    (FormatError, "the file has", "preamble", 3),
    (FormatError, "signatures:", "format", 4),
    (FormatError, "grants:", "format", 4),
    (FormatError, "header:", "format", 7),
    (FormatError, "bytes, wanted at least 240", "format", 7),
    (FormatError, "", "format", 8),
    (SignatureError, "the threshold is", "signature", 5),
    (SignatureError, "", "signature", 6),
    (RevokedError, "signed by", "signature", 6),
    (RevokedError, "bundle", "policy", 10),
    (IncompatibleError, "header:", "policy", 7),
    (IncompatibleError, "entry", "policy", 8),
    (IncompatibleError, "built for profile", "policy", 9),
    (RollbackError, "", "policy", 10),
    (ExpiredError, "", "policy", 11),
    (_SidecarError, "", "format", 12),
    (GrantError, "does not open", "unwrap", 12),
    (GrantError, " holds ", "unwrap", 12),
    (GrantError, "", "no-grant", 12),
    (PayloadError, "key commitment", "commitment", 15),
    (PayloadError, "is not the one that was signed", "payload", 14),
    (PayloadError, "not authentic", "payload", 16),
    (PayloadError, "", "payload", 13),
)


# The same for trust documents; T1 is told from the rest by where it is done.
_TRUST_STEPS: tuple[tuple[type[BundleError], str, str, str], ...] = (
    (FormatError, "", "format", "T3"),
    (SignatureError, "held against the root keys in force", "signature", "T2"),
    (SignatureError, "held against its own root keys", "signature", "T6"),
    (RollbackError, "", "policy", "T4"),
    (IncompatibleError, " next", "policy", "T5"),
    (IncompatibleError, "", "policy", "T3"),
)


def answer_trust(question: TrustQuestion) -> str:
    """Return the library's verdict on a trust document."""
    try:
        container = trust_container(question.update)
    except FormatError:
        return refused_trust("format", "T1")
    try:
        if question.current is None:
            return _in_force(provision(container).document)
        return _in_force(apply_update(provision(trust_container(question.current)), container).document)
    except BundleError as error:
        for kind, text, outcome, step in _TRUST_STEPS:
            if type(error) is kind and text in error.message:
                return refused_trust(outcome, step)
        raise


def _in_force(document: TrustDocument) -> str:
    return InForce(
        version=document.version,
        root_threshold=document.root.threshold,
        root=[key.hex() for key in document.root.by_id()],
        release_threshold=document.release.threshold,
        release=[key.hex() for key in document.release.by_id()],
        revoked_keys=[key.hex() for key in document.release.revoked_keys],
        revoked_bundles=[bundle.hex() for bundle in document.release.revoked_bundles],
        floors={floor.product: floor.security_version for floor in document.floors},
    ).answer()


def answer(question: Question) -> str:
    """Return the library's verdict on a question, in the words of the protocol."""
    try:
        return _open(question)
    except BundleError as error:
        for kind, text, outcome, step in _STEPS:
            if type(error) is kind and text in error.message:
                return refused(outcome, step)
        raise


@functools.lru_cache(maxsize=256)
def _trust(
    keys: tuple[bytes, ...], threshold: int, revoked_keys: tuple[bytes, ...], revoked_bundles: tuple[bytes, ...]
) -> TrustedKeys:
    trust = TrustedKeys.of([load_der_public_key(key) for key in keys], threshold=threshold)  # type: ignore[misc]
    return replace(trust, revoked_keys=frozenset(revoked_keys), revoked_bundles=frozenset(revoked_bundles))


@functools.cache
def _device(key: bytes) -> DeviceKey:
    return load_der_private_key(key, None)  # type: ignore[return-value]


def _open(question: Question) -> str:
    data = question.bundle
    preamble = Preamble.parse(data[:PREAMBLE_SIZE])
    container = Container.from_front(data[: preamble.front_length], len(data))
    try:
        trust = _trust(question.trust, question.threshold, question.revoked_keys, question.revoked_bundles)
    except SchemaError:
        # A trust store that can be satisfied by nobody, or by anybody, cannot even be made here.
        return refused("signature", 5 if question.threshold < 1 else 6)
    policy = Policy(profile=question.profile, accepted=question.accepted, now=question.now)
    bundle = verify(container, trust, policy)
    if question.reads_manifest:
        try:
            manifest = Manifest.from_bytes(bundle.manifest)
            check_consistent(bundle, manifest)
        except FormatError:
            return refused("meta", 0)
        try:
            check_required(manifest, Device(profile=question.profile, trust=trust, accepted=question.accepted))
        except IncompatibleError:
            return refused("requires", 0)
    return ok(_entries(bundle, question))


def _entries(bundle: VerifiedBundle, question: Question) -> dict[str, str]:
    """Return the SHA-256 of each entry's plaintext."""
    device, found = None if question.device is None else _device(question.device), {}
    try:
        sidecar = _sidecar(bundle, device, question.sidecar)
    except (FormatError, FileError) as error:
        raise _SidecarError(str(error)) from None
    with bundle.unlock(device, sidecar) as unlocked:
        for entry in bundle.entries:
            into = bytearray(b"\xaa" * entry.plain_length)
            try:
                unlocked.read_entry(entry.name, lambda at, size: question.bundle[at : at + size], memoryview(into))
            except BundleError:
                # What a refusal leaves behind is part of the verdict: nothing.
                if any(into):
                    raise RuntimeError(f"{entry.name}: refused, but plaintext was left behind") from None
                raise
            found[entry.name] = hashlib.sha256(into).hexdigest()
    return found


def _sidecar(bundle: VerifiedBundle, device: DeviceKey | None, data: bytes | None) -> tuple[Grant, ...]:
    """Return the grants beside the bundle as a device finds them: in a file, read where one is needed."""
    if data is None or bundle.header.suite is PayloadSuite.PLAIN:
        return ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.edgepack"
        sidecar_path(path).write_bytes(data)
        return sidecar_grants(bundle.container, device, path)


def _read(stream: BinaryIO) -> Question | TrustQuestion | None:
    """Return the next request, None at the end of the input."""
    lines: dict[str, list[str]] = {}
    while line := stream.readline():
        word, _, rest = line.decode("ascii").rstrip("\n").partition(" ")
        lines.setdefault(word, []).append(rest)
        if word == "update":
            current = bytes.fromhex(lines["current"][0]) if "current" in lines else None
            return TrustQuestion(update=stream.read(int(rest)), current=current)
        if word == "bundle":
            break
    else:
        return None
    floors = (rest.split(" ") for rest in lines.get("floor", []))
    bundle = stream.read(size := int(lines["bundle"][0]))
    if len(bundle) != size:
        raise EOFError(f"{len(bundle)} of {size} bytes of a bundle")
    return Question(
        bundle=bundle,
        threshold=int(lines["threshold"][0]),
        trust=tuple(bytes.fromhex(key) for key in lines.get("trust", [])),
        profile=lines["profile"][0],
        accepted={name: int(floor) for name, floor in floors},
        now=int(lines["now"][0]) if "now" in lines else None,
        device=bytes.fromhex(lines["device"][0]) if "device" in lines else None,
        revoked_keys=tuple(bytes.fromhex(key) for key in lines.get("revoked-key", [])),
        revoked_bundles=tuple(bytes.fromhex(bundle) for bundle in lines.get("revoked-bundle", [])),
        sidecar=bytes.fromhex(lines["sidecar"][0]) if "sidecar" in lines else None,
        reads_manifest="manifest" in lines,
    )


def main() -> None:
    """Answer requests until there are no more."""
    while question := _read(sys.stdin.buffer):
        print(answer(question) if isinstance(question, Question) else answer_trust(question), flush=True)


if __name__ == "__main__":
    main()
