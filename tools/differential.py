"""Hold two readers against each other on random mutants of good bundles.

``python -m tools.differential N [--seed S] [--reader COMMAND]...`` asks `edgepack_runtime`, in this process, and each
given reader. They must agree on every answer: refused or not, the outcome, the step, the digests of what was read. A
mutant on which they do not is kept under ``.build/differential``, as a request that any reader takes on its standard
input. Exit code 0 if they always agreed.

Half of the mutants are signed again with the test keys, so that they get past the signature: table, grants and
ciphertext are attacked as a publisher could attack them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import shlex
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.conformance import Question, Reader
from tools.trees import alter
from tools.vectors.keys import key_id, pkcs8, seed, spki
from tools.vectors.layout import (
    CHUNK,
    ENTRY_AT,
    ENTRY_FIELDS,
    HEADER_FIELDS,
    Entry,
    Grant,
    Parts,
    Signature,
    Spec,
    parts,
    put,
    resigned,
)
from tools.vectors.manifest import TABLE, digest_of, spec_of

__all__ = ["Ask", "Findings", "Seed", "campaign", "main", "mutant", "seeds"]

Ask = Callable[[Question], str]
KEPT = Path(__file__).resolve().parents[1] / ".build" / "differential"


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A good bundle in pieces, and the device that opens it."""

    spec: Spec
    parts: Parts
    question: Question


@dataclass(kw_only=True)
class Findings:
    """What a campaign found: how often each answer was given, and where readers differed."""

    answers: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)


def seeds() -> list[Seed]:
    """Return bundles of every kind: signatures, grants, suites, one chunk and several."""
    small = (
        Entry(name="golden.bin", role=3, plain=seed("golden", 40)),
        Entry(name="labels.txt", role=2, plain=b"zero\none\ntwo\n"),
        Entry(name="model.tflite", role=1, plain=seed("model", 100)),
    )
    one, big = small[1:2], (Entry(name="model.tflite", role=1, plain=seed("big model", 2 * CHUNK + 50)),)
    ed, ec, x25519, p256, rsa = "ed25519 release", "p256 release", "x25519 device", "p256 device", "rsa device"
    return [
        _seed(Spec(entries=small)),
        _seed(Spec(entries=one, expires=0)),
        _seed(Spec(entries=small, suite=0, recipients=())),
        _seed(Spec(entries=one, signers=(ec,), recipients=(p256,))),
        _seed(Spec(entries=one, recipients=(x25519, p256, rsa)), device=rsa),
        _seed(Spec(entries=one, recipients=(x25519, p256, rsa)), device=p256),
        _seed(Spec(entries=small, signers=(ed, ec)), threshold=2),
        _seed(Spec(entries=one, signers=(ed, ec, "ed25519 stranger")), threshold=1),
        _seed(Spec(entries=big)),
        _seed(Spec(entries=(*big, replace(big[0], name="second.tflite")), suite=0)),
        _seed(spec_of(TABLE), reads_manifest=True),
    ]


def _seed(spec: Spec, *, threshold: int = 1, device: str = "x25519 device", reads_manifest: bool = False) -> Seed:
    found = parts(spec)
    question = Question(
        bundle=found.file(),
        threshold=threshold,
        trust=tuple(spki(key) for key in spec.signers if "stranger" not in key),
        profile=spec.profile,
        accepted={spec.product: spec.security_version},
        now=1_760_000_000,
        device=pkcs8(device),
        reads_manifest=reads_manifest,
    )
    return Seed(spec=spec, parts=found, question=question)


class _Mutator:
    """Alters bytes by the choices of one generator of random numbers."""

    def __init__(self, source: random.Random) -> None:
        self.random = source

    def number(self, size: int, found: int) -> int:
        """Return a value for a field of `size` bytes: an edge, a neighbour, anything."""
        top = 256**size
        edges = (0, 1, top - 1, top - 2, top // 2, top // 2 - 1, 2**31, 2**32, 2**63, found + 1, found - 1, found * 2)
        value: int = self.random.choice(
            (*edges, self.random.randrange(top), found ^ 1 << self.random.randrange(8 * size))
        )
        return int(value % top)

    def bytes(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """Return `data` with one thing done to it."""
        pick, at = self.random, self.random.randrange(len(data) + 1)
        size = min(pick.choice((1, 1, 2, 4, 8, 16, 32, 80, pick.randrange(1, 400))), len(data) - at)
        kind = pick.randrange(8)
        if kind == 0 and size:
            return put(data, (at, 1), bytes([data[at] ^ 1 << pick.randrange(8)]))
        if kind == 1 and size:
            return put(data, (at, 1), bytes([pick.choice((0, 1, 0x7F, 0x80, 0xFF, pick.randrange(256)))]))
        if kind == 2 and (width := pick.choice((2, 4, 8))) <= len(data) - at:
            return put(data, (at, width), self.number(width, int.from_bytes(data[at : at + width], "little")))
        if kind == 3:
            return data[:at] + data[at + size :]
        if kind == 4:
            return data[:at] + pick.randbytes(pick.choice((1, 2, 16, 32, 34, 36, 80))) + data[at:]
        if kind == 5:
            start = pick.randrange(len(data) + 1)
            return data[:at] + data[start : start + size] + data[at + size :]
        if kind == 6:
            other = pick.choice(others)
            return data[:at] + other[at : at + size] + data[at + size :]
        return data[:at] if pick.randrange(2) else data + pick.randbytes(pick.choice((1, 16, 72)))


def mutant(number: int, bench: Sequence[Seed], run: int) -> Question:
    """Return mutant `number` of the run: the same for the same arguments, on every machine."""
    pick = random.Random(f"{run} {number}")  # reproducible is what is wanted
    change, base = _Mutator(pick), pick.choice(bench)
    kind = pick.choice((_raw, _raw, _blocks, _table, _table, _fields, _payload, _grants, _device, _manifest))
    question = kind(change, base, bench)
    return _device(change, replace(base, question=question), bench) if pick.randrange(20) == 0 else question


def _raw(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Alter the file as it stands, perhaps with a preamble that agrees."""
    data, others = base.question.bundle, [other.question.bundle for other in bench]
    front = len(base.parts.front())
    if change.random.randrange(2):
        # Where the payload is big, most changes would only hit it.
        data = change.bytes(data[:front], others) + data[front:]
    for _ in range(change.random.choice((1, 1, 1, 2, 3))):
        data = change.bytes(data, others)
    return replace(base.question, bundle=data)


def _blocks(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Alter a block, or swap in another bundle's part, and write the preamble anew."""
    found, other, pick = base.parts, change.random.choice(bench).parts, change.random
    blocks = [found.signed, found.signatures_block(), found.grants_block(), found.payload]
    theirs = [other.signed, other.signatures_block(), other.grants_block(), other.payload]
    i = pick.randrange(4)
    blocks[i] = theirs[i] if pick.randrange(4) == 0 else change.bytes(blocks[i], [theirs[i]])
    head = found.front()[:8] + struct.pack("<IIIIQ", *map(len, blocks[:3]), 0, len(blocks[3]))
    return replace(base.question, bundle=head + b"".join(blocks))


def _signed(base: Seed, signed: bytes, payload: bytes) -> Question:
    return replace(base.question, bundle=resigned(base.spec, signed, payload).file())


def _table(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Set fields of header and table to numbers, and sign again."""
    signed, pick = base.parts.signed, change.random
    for _ in range(pick.choice((1, 1, 2, 3))):
        if pick.randrange(2):
            at, size = pick.choice(list(HEADER_FIELDS.values()))
        else:
            at, size = pick.choice(list(ENTRY_FIELDS.values()))
            at += ENTRY_AT + 80 * pick.randrange(len(base.spec.entries))
        if size > 8:
            at, size = at + pick.randrange(size), 1
        signed = put(signed, (at, size), change.number(size, int.from_bytes(signed[at : at + size], "little")))
    payload = base.parts.payload
    if pick.randrange(4) == 0:
        # A payload as long as the header says, so that the length of the file is not what refuses it.
        payload = (payload + bytes(200))[: min(int.from_bytes(signed[40:48], "little"), len(payload) + 200)]
    return _signed(base, signed, payload)


def _fields(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Alter the bytes of the signed region anyhow, and sign again."""
    signed = base.parts.signed
    for _ in range(change.random.choice((1, 1, 2))):
        signed = change.bytes(signed, [other.parts.signed for other in bench])
    return _signed(base, signed, base.parts.payload)


def _payload(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Alter the payload, make the digests agree, and sign again."""
    payload, signed = base.parts.payload, base.parts.signed
    altered = change.bytes(payload, [other.parts.payload for other in bench])
    if change.random.randrange(3):
        altered = (altered + payload[len(altered) :])[: len(payload)]
    at, digest_at = 0, ENTRY_AT + 80 * len(base.spec.entries)
    # Every seed's entries are of one segment.
    for i in range(len(base.spec.entries)):
        size = int.from_bytes(signed[ENTRY_AT + 80 * i + 48 :][:8], "little")
        digest = hashlib.sha256(altered[at : at + size]).digest()
        signed, at = put(signed, (digest_at + 32 * i, 32), digest), at + size
    return _signed(base, signed, altered)


def _grants(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Alter what is signed or sealed, and keep the blocks well-formed."""
    found, pick = base.parts, change.random
    others = [other.parts for other in bench]
    signatures, grants = list(found.signatures), list(found.grants)
    if grants and pick.randrange(3):
        i = pick.randrange(len(grants))
        one, kinds = grants[i], (1, 2, 3, 4, 255)
        altered = (change.bytes(one.sealed, [one.sealed]) + one.sealed)[: len(one.sealed)]
        grants[i] = pick.choice(
            (
                replace(one, sealed=altered),
                replace(one, kind=pick.choice(kinds)),
                replace(one, reserved=pick.randrange(2)),
                Grant(kind=pick.choice(kinds), key_id=one.key_id, sealed=bytes(pick.choice((80, 113, 384)))),
                *(grant for other in others for grant in other.grants if grant.key_id == one.key_id),
            )
        )
    else:
        i = pick.randrange(len(signatures))
        mine = signatures[i]
        strangers = [
            Signature(key_id=pick.randbytes(32), value=pick.randbytes(64)),
            *others[pick.randrange(3)].signatures,
        ]
        signatures[i] = pick.choice((replace(mine, value=change.bytes(mine.value, [mine.value])), mine))
        signatures += pick.sample(strangers, pick.randrange(len(strangers)))
    signatures.sort(key=lambda item: item.key_id)
    return replace(base.question, bundle=replace(found, signatures=tuple(signatures), grants=tuple(grants)).file())


def _device(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Keep the bundle; ask another device, at another time."""
    question, pick, spec = base.question, change.random, base.spec
    floor, time_now = change.number(8, spec.security_version), change.number(8, spec.expires or 1)
    return pick.choice(
        (
            replace(question, accepted={spec.product: floor}),
            replace(question, accepted={"another": floor, spec.product: spec.security_version}),
            replace(question, now=time_now),
            replace(question, now=None),
            replace(question, profile=pick.choice(("raspberry-pi-3", "r", "raspberry-pi-4x"))),
            replace(question, device=None),
            replace(question, device=pick.choice(bench).question.device),
            replace(question, trust=pick.choice(bench).question.trust, threshold=1),
            replace(question, threshold=pick.choice((0, 1, 2, 3))),
            replace(question, revoked_bundles=(bytes(16), pick.choice((spec.bundle_id, pick.randbytes(16))))),
            replace(question, revoked_keys=(key_id(pick.choice(("ed25519 stranger", "p256 release x"))),)),
            replace(question, sidecar=_sidecar(change, base, bench)),
            replace(
                question,
                bundle=replace(base.parts, grants=()).file(),
                sidecar=_sidecar(change, base, bench),
            ),
        )
    )


def _sidecar(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> bytes:
    """Return a grants block that may be needed, altered half of the time."""
    block = change.random.choice((base, change.random.choice(bench))).parts.grants_block()
    return change.bytes(block, [block]) if change.random.randrange(2) else block


def _manifest(change: _Mutator, base: Seed, bench: Sequence[Seed]) -> Question:
    """Alter the manifest, as text or as a tree, mostly with a header that agrees, and sign again."""
    pick = change.random
    base = next(seed for seed in bench if seed.question.reads_manifest)
    spec, table = base.spec, json.loads(base.spec.manifest)
    if pick.randrange(3) == 0:
        text = change.bytes(spec.manifest, [spec.manifest])
    else:
        for _ in range(pick.choice((1, 1, 2))):
            alter(pick, table)
        text = json.dumps(table, ensure_ascii=pick.random() < 0.5, indent=pick.choice((None, 1))).encode()
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        spec = replace(spec, profile_digest=digest_of(table["profile"])) if pick.randrange(8) else spec
    return replace(base.question, bundle=parts(spec, manifest=text).file())


def campaign(readers: Sequence[Ask], *, count: int, run: int, keep: Path | None = None) -> Findings:
    """Ask every reader about `count` mutants; keep those on which they differ in `keep`."""
    bench, found = seeds(), Findings()
    for number in range(count):
        question = mutant(number, bench, run)
        said = [_ask(ask, question) for ask in readers]
        found.answers["ok" if said[0].startswith("ok") else said[0]] += 1
        if len(set(said)) > 1:
            found.disagreements.append(f"mutant {number} of run {run}: {' / '.join(said)}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{run}-{number}.request").write_bytes(question.pack())
    return found


def _ask(ask: Ask, question: Question) -> str:
    try:
        return ask(question)
    except RuntimeError:
        # A reader that ended cannot be asked again.
        raise
    except Exception as error:  # noqa: BLE001  # that it raised at all is the finding
        return f"raised {type(error).__name__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign and print what was found; return the exit code."""
    parser = argparse.ArgumentParser(description="Hold readers against each other on random mutants.")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", default=[], help="a command; may be given more than once")
    options = parser.parse_args(arguments)
    from tools.python_reader import answer

    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(shlex.split(command))) for command in options.reader]
        start = time.monotonic()
        found = campaign(
            [answer, *(reader.ask for reader in readers)], count=options.count, run=options.seed, keep=KEPT
        )
        rate = options.count / (time.monotonic() - start)
    for said, times in found.answers.most_common():
        print(f"{times:8} {said}")
    print("\n".join(found.disagreements))
    print(
        f"{options.count} mutants, {rate:.0f} a second, {1 + len(readers)} readers, "
        f"{len(found.disagreements)} disagreements"
    )
    return 1 if found.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
