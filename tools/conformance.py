"""Vectors as data, and the protocol by which any reader is asked about them: see `tests/vectors/README.md`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar

__all__ = ["FORMAT", "SKIP", "VECTORS", "Asked", "Case", "Question", "Reader", "load", "ok", "refused"]

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
FORMAT = "edgepack-vectors-1"
SKIP = "skip"


class Asked(Protocol):
    """What a reader can be asked."""

    @property
    def may_be_skipped(self) -> bool:
        """Whether a reader may answer that it does not do this."""

    def pack(self) -> bytes:
        """Return the request as it is written to a reader."""


Q_co = TypeVar("Q_co", bound=Asked, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A bundle and the device that shall open it. Keys are DER: SubjectPublicKeyInfo, PKCS#8."""

    bundle: bytes = field(repr=False)
    threshold: int
    trust: tuple[bytes, ...]
    profile: str
    accepted: Mapping[str, int]
    now: int | None
    device: bytes | None = field(repr=False)
    revoked_keys: tuple[bytes, ...] = ()
    revoked_bundles: tuple[bytes, ...] = ()
    sidecar: bytes | None = None
    reads_manifest: bool = False

    @property
    def may_be_skipped(self) -> bool:
        """Whether a reader may answer that it does not do this."""
        return self.reads_manifest

    def pack(self) -> bytes:
        """Return the request as it is written to a reader."""
        lines = [f"threshold {self.threshold}", *(f"trust {key.hex()}" for key in self.trust)]
        lines += [f"profile {self.profile}", *(f"floor {name} {floor}" for name, floor in self.accepted.items())]
        lines += [] if self.now is None else [f"now {self.now}"]
        lines += [] if self.device is None else [f"device {self.device.hex()}"]
        lines += [f"revoked-key {key.hex()}" for key in self.revoked_keys]
        lines += [f"revoked-bundle {bundle.hex()}" for bundle in self.revoked_bundles]
        lines += [] if self.sidecar is None else [f"sidecar {self.sidecar.hex()}"]
        lines += ["manifest check"] if self.reads_manifest else []
        lines.append(f"bundle {len(self.bundle)}")
        return "".join(line + "\n" for line in lines).encode("ascii") + self.bundle


@dataclass(frozen=True, kw_only=True)
class Case(Generic[Q_co]):
    """One vector: the question and the answer wanted."""

    group: str
    name: str
    question: Q_co
    answer: str

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


def ok(entries: Mapping[str, str]) -> str:
    """Return the answer for a bundle that opens; `entries` are the SHA-256 of each plaintext by name."""
    return " ".join(("ok", *(f"{name}={digest}" for name, digest in sorted(entries.items()))))


def refused(outcome: str, step: int) -> str:
    """Return the answer for a bundle that is refused."""
    return f"refused {outcome} {step}"


def load(*groups: str, folder: Path = VECTORS) -> Iterator[Case[Question]]:
    """Yield the vectors of these groups of bundles, of all if none is named."""
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        if document["format"] == FORMAT and (not groups or path.stem in groups):
            keys = {
                name: _key(base64.b64decode(key["public_spki"]), base64.b64decode(key["private_pkcs8_test_only"]))
                for name, key in document["test_keys"].items()
            }
            for vector in document["vectors"]:
                yield _case(document["group"], vector, keys)


_Key = tuple[bytes, bytes, bytes]


def _key(public: bytes, private: bytes) -> _Key:
    return public, private, hashlib.sha256(public).digest()


def _case(group: str, vector: Mapping[str, object], keys: Mapping[str, _Key]) -> Case[Question]:
    found: dict[str, object] = dict(vector)
    trust, policy, expect = found.pop("trust"), found.pop("policy"), found.pop("expect")
    assert isinstance(trust, dict)
    assert isinstance(policy, dict)
    assert isinstance(expect, dict)
    name, device, packed = str(found.pop("name")), found.pop("device"), str(found.pop("bundle_gzip"))
    sidecar = found.pop("sidecar_gzip", None)
    question = Question(
        bundle=gzip.decompress(base64.b64decode(packed)),
        threshold=trust["threshold"],
        trust=tuple(keys[key][0] for key in trust["keys"]),
        profile=policy["profile"],
        accepted=policy["accepted"],
        now=policy["now"],
        device=None if device is None else keys[str(device)][1],
        revoked_keys=tuple(keys[key][2] for key in trust["revoked_keys"]),
        revoked_bundles=tuple(bytes.fromhex(bundle) for bundle in trust["revoked_bundles"]),
        sidecar=None if sidecar is None else gzip.decompress(base64.b64decode(str(sidecar))),
        reads_manifest=bool(found.pop("reads_manifest", False)),
    )
    # A field nobody reads here would be a condition nobody tests.
    assert not found, found
    answer = ok(expect["entries"]) if expect["outcome"] == "ok" else refused(expect["outcome"], expect.get("step", 0))
    return Case(group=group, name=name, question=question, answer=answer)


class Reader:
    """A reader in a process of its own, kept running: one request in, one line out."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question: Asked) -> str:
        """Return the reader's answer.

        Raises:
            RuntimeError: it ended instead of answering.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(question.pack())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"the reader ended with code {self._process.wait()} while it was asked") from None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise RuntimeError(f"the reader ended with code {self._process.wait()} and no answer")
        return line.decode("ascii").strip()

    def close(self) -> None:
        """End the reader by the end of its input.

        Raises:
            RuntimeError: it did not end well: a checker of memory speaks by the exit code.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(timeout=60)
        self._process.stdout.close()
        if code != 0:
            raise RuntimeError(f"the reader ended with code {code}")

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._process.kill()
            self._process.communicate()
