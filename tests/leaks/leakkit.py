"""Secrets that can be searched for: a model with a marker in its weights, keys, and the bundles of every failure."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import bundlekit
import realbundle
from edgepack_runtime._fields import canonical_json
from edgepack_runtime.encryption import segment_spans
from edgepack_runtime.golden import GoldenSample
from edgepack_runtime.grants import seal
from edgepack_runtime.table import SignedTable, StoredEntry, write_signed

TESTS = Path(__file__).resolve().parents[1]
SOURCE = TESTS / "data" / "tiny" / "digits.tflite"
# Inside the 5,120 bytes of dense weights of that model; a test proves that they matter.
WEIGHTS_AT = 972 + 512
CHUNK = 16 << 10
_PADDING = 5 * (1 << 19)  # three segments, and a marker in each chunk


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What must not get out."""

    marker: bytes
    golden: bytes
    content_key: bytes
    private_keys: tuple[bytes, ...]

    def all(self) -> dict[str, bytes]:
        keys = {f"private key {i}": key for i, key in enumerate(self.private_keys)}
        return {"marker": self.marker, "golden tensors": self.golden, "content key": self.content_key, **keys}


def forms(secret: bytes) -> list[bytes]:
    """Return how a secret may look in a text or a file."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()]
    for shift in range(3):
        # The first and last characters of base64 depend on what stands beside the secret.
        text = base64.b64encode(bytes(shift) + secret)
        found.append(text[4 if shift else 0 : -4])
    numbers = ", ".join(map(str, secret))
    return [*found, numbers.encode(), numbers.replace(" ", "").encode(), str(int.from_bytes(secret, "big")).encode()]


def leaks(data: bytes, secrets_: dict[str, bytes]) -> list[str]:
    """Return the names of the secrets that stand in `data` in any form; line breaks hide nothing."""
    flat = re.sub(rb"[\r\n]", b"", data)
    return [name for name, secret in secrets_.items() if any(form in data or form in flat for form in forms(secret))]


@functools.cache
def marked() -> tuple[bytes, Secrets]:
    """Return a model whose weights hold a marker, made anew in each run, and what else is secret."""
    marker = b"EDGEPACK-LEAK-" + secrets.token_hex(17).encode()
    data = bytearray(SOURCE.read_bytes())
    data[WEIGHTS_AT : WEIGHTS_AT + len(marker)] = marker
    room = bytearray(_PADDING)
    for at in range(0, len(room), CHUNK // 4):
        room[at : at + len(marker)] = marker
    key = bundlekit.x25519().private_bytes_raw()
    signing = bundlekit.ed25519().private_bytes_raw()
    return bytes(data + room), Secrets(
        marker=marker,
        golden=b"",
        content_key=bundlekit.Recipe().content_key,
        private_keys=(key, signing),
    )


@functools.cache
def real() -> realbundle.RealModel:
    """Return the marked model with its golden samples."""
    data, _ = marked()
    fd = os.memfd_create("marked")
    try:
        os.write(fd, data)
        return realbundle.of_file(Path(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)


def hidden() -> Secrets:
    """Return all secrets of the good bundle."""
    _, found = marked()
    first = real().golden[0]
    return replace(found, golden=next(iter(first.inputs.values())).tobytes()[:64])


def _recipe(**changes: object) -> bundlekit.Recipe:
    board = realbundle.profile()
    return replace(realbundle.recipe(real(), realbundle.manifest(real(), board), board), **changes)


def _parts(recipe: bundlekit.Recipe | None = None) -> bundlekit.Parts:
    return bundlekit.make(recipe or _recipe())


def _altered(at: Callable[[SignedTable, bytes], int]) -> bytes:
    parts = _parts()
    data = bytearray(parts.file())
    front = len(data) - len(parts.payload)
    data[front + at(SignedTable.parse(parts.signed), parts.payload)] ^= 1
    return bytes(data)


def _entry_at(name: str, place: str) -> bytes:
    def at(table: SignedTable, payload: bytes) -> int:
        (entry,) = [entry for entry in table.entries if entry.name == name]
        spans = segment_spans(table.header.suite, entry.stored_length)
        last = entry.stored_length - 1
        places = {
            "first": 60, "salt": 0, "commitment": 30, "tag": 56 + CHUNK + 3 if last > CHUNK * 2 else last - 3,
            "last": last, "second-segment": spans[1 % len(spans)][0] + 9, "last-segment": spans[-1][0] + 9,
        }  # fmt: skip
        return entry.offset + places[place]

    return _altered(at)


def _forged(change: Callable[[bytearray], None]) -> bytes:
    """Return a bundle whose stored model was changed and signed again: what the holder of all keys could do."""
    recipe = _recipe()
    stored = bundlekit.stored_entries(recipe)
    (model,) = [entry for entry in stored if entry.name == "model.tflite"]
    data = bytearray(model.stored)
    change(data)
    stored = [entry if entry is not model else replace(model, stored=bytes(data)) for entry in stored]
    return _signed_again(recipe, stored)


def _signed_again(recipe: bundlekit.Recipe, stored: list[StoredEntry]) -> bytes:
    signed = write_signed(recipe.header, stored, recipe.manifest)
    return bundlekit.sign_again(recipe, signed, b"".join(entry.stored for entry in stored)).file()


def _flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def _swap(data: bytearray) -> None:
    (start, size), (second, _) = segment_spans(_recipe().header.suite, len(data))[1:3]
    a, b = data[start : start + 1000], data[second : second + 1000]
    data[start : start + 1000], data[second : second + 1000] = b, a
    assert size > 1000


def _with_grant(change: Callable[[bundlekit.Parts], bundlekit.Parts]) -> bytes:
    return change(_parts()).file()


def _sealed(content_key: bytes) -> bytes:
    parts = _parts()
    return replace(parts, grants=(seal(bundlekit.x25519().public_key(), content_key, parts.signed),)).file()


def _another_bundle() -> bytes:
    parts = _parts()
    other = seal(bundlekit.x25519().public_key(), bundlekit.Recipe().content_key, b"another signed region")
    return replace(parts, grants=(other,)).file()


def _flip_grant(parts: bundlekit.Parts) -> bundlekit.Parts:
    (grant,) = parts.grants
    return replace(parts, grants=(replace(grant, sealed=bytes([grant.sealed[0] ^ 1, *grant.sealed[1:]])),))


def _lying(change: Callable[[object], object]) -> bytes:
    board = realbundle.profile()
    manifest = change(realbundle.manifest(real(), board))
    return _parts(_recipe(manifest=manifest.to_bytes())).file()  # type: ignore[attr-defined]


def _engine_refuses(name: str) -> bytes:
    """Return a good bundle of a model that no engine takes."""
    model = bytearray(real().data)
    noise = np.random.default_rng(7).bytes(len(model) - 8)
    changed = {
        "no-magic": b"\0" * 8 + model[8:],
        "root-outside": struct.pack("<I", 0x7FFFFFFF) + model[4:],
        "cut-in-half": model[:300],
        "zeros": model[:8] + bytes(len(model) - 8),
        "noise": bytes(model[:8]) + noise,
        "custom-op": (realbundle.MODELS / "custom_op.tflite").read_bytes(),
        "vtable": model[:16] + b"\xff" * 64 + model[80:],
        "empty": b"",
    }[name]
    recipe = _recipe()
    (golden, _) = recipe.entries
    return _parts(replace(recipe, entries=(golden, ("model.tflite", recipe.entries[1][1], bytes(changed))))).file()


def _wrong_golden() -> bytes:
    *good, last = real().golden
    outputs = {key: array + 1 for key, array in last.outputs.items()}
    board = realbundle.profile()
    golden = (*good, GoldenSample(inputs=last.inputs, outputs=outputs))
    return _parts(realbundle.recipe(real(), realbundle.manifest(real(), board), board, golden)).file()


def _header(**changes: object) -> bytes:
    recipe = _recipe()
    return _parts(replace(recipe, header=replace(recipe.header, **changes))).file()


def _profiled(**changes: str) -> bytes:
    board = realbundle.profile(**changes)
    return _parts(realbundle.recipe(real(), realbundle.manifest(real(), board), board)).file()


def _front_flip(at: int) -> bytes:
    data = bytearray(_parts().file())
    data[at] ^= 1
    return bytes(data)


def bundles() -> Iterator[tuple[str, bytes]]:
    """Yield the bundle of each name in `leakcases`."""
    parts = _parts()
    good, signed = parts.file(), len(parts.signed)
    yield "good", good
    for part, name in (("model", "model.tflite"), ("golden", "golden.bin")):
        for place in ("first", "salt", "commitment", "tag", "last"):
            yield f"flip-{part}-{place}", _entry_at(name, place)
    yield "flip-model-second-segment", _entry_at("model.tflite", "second-segment")
    yield "flip-model-last-segment", _entry_at("model.tflite", "last-segment")
    yield "forged-first-chunk", _forged(_flip(100))
    yield "forged-last-chunk", _forged(_flip(-1))
    yield "forged-commitment", _forged(_flip(30))
    yield "swapped-segments", _forged(_swap)
    yield "another-content-key", _sealed(bundlekit.seed("another content key"))
    yield "truncated", good[:-1]
    yield "extended", good + b"x"
    yield "flip-header", _front_flip(40)
    yield "flip-manifest", _front_flip(32 + signed - 5)
    yield "flip-signature", _front_flip(32 + signed + 2 + 34 + 5)
    yield "stranger", _parts(_recipe(signers=(bundlekit.ed25519("stranger"),))).file()
    yield "grant-flipped", _with_grant(_flip_grant)
    yield "grant-of-another-bundle", _another_bundle()
    yield "grant-of-kind-2", _of_kind(2, 113)
    yield "grant-of-kind-3", _of_kind(3, 384)
    yield "no-grant", _with_grant(lambda parts: replace(parts, grants=()))
    yield "other-profile", _header(profile="other-board")
    yield "other-engine-version", _profiled(version="9.9.9")
    other = {"ai-edge-litert": "tflite-runtime", "tflite-runtime": "ai-edge-litert"}[realbundle.ENGINE]
    yield "missing-engine", _profiled(engine=other, version="2.14.0")
    yield "old", _header(security_version=6)
    yield "lying-input", _lying(lambda m: _with_model(m, inputs=(replace(m.model.inputs[0], name="zebu"),)))
    yield "lying-golden", _lying(lambda m: replace(m, golden=replace(m.golden, samples=2)))
    yield "lying-manifest", _lying(lambda m: replace(m, name="faces"))
    for name in ("no-magic", "root-outside", "cut-in-half", "zeros", "noise", "custom-op", "vtable", "empty"):
        yield f"engine-{name}", _engine_refuses(name)
    yield "wrong-golden", _wrong_golden()


def _with_model(manifest: object, **changes: object) -> object:
    return replace(manifest, model=replace(manifest.model, **changes))  # type: ignore[attr-defined,type-var]


def _of_kind(kind: int, size: int) -> bytes:
    return _with_grant(
        lambda parts: replace(parts, grants=(replace(parts.grants[0], kind=kind, sealed=bytes(size)),))
    )


def write_devices(folder: Path) -> None:
    """Write the device files of each name in `leakcases`."""

    def pem(key: object, passphrase: bytes | None = None) -> bytes:
        cover = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cover)  # type: ignore[attr-defined,no-any-return]

    mine = pem(bundlekit.x25519())
    files = {
        "good": mine,
        "wrong-key": pem(bundlekit.x25519("other")),
        "key-of-another-kind": pem(bundlekit.p256("device")),
        "signing-key": pem(bundlekit.ed25519()),
        "damaged-key": mine[:30] + b"AAAA" + mine[34:],
        "locked-key": pem(bundlekit.x25519(), b"correct horse"),
        "wrong-passphrase": pem(bundlekit.x25519(), b"correct horse"),
        "role-of-a-release-key": b"edgepack-role: release\n" + mine,
    }
    public = bundlekit.ed25519().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "trust.json").write_bytes(canonical_json(bundlekit.trust().to_json()))
    both = bundlekit.trust(bundlekit.ed25519(), bundlekit.p256(), threshold=2)
    (folder / "two.json").write_bytes(canonical_json(both.to_json()))
    (folder / "release.pub.pem").write_bytes(public)
    (folder / "passphrase").write_bytes(b"wrong horse\n")
    (folder / "good.pem").write_bytes(mine)
    base: dict[str, object] = {"profile": "bench-board", "trust": "trust.json", "accepted": {"digits": 7}}
    devices: dict[str, dict[str, object]] = {
        "no-key": base,
        "two-signers": base | {"trust": "two.json", "key": "good.pem"},
        "trust-is-a-private-key": base | {"trust": "good.pem"},
    }
    for name, key in files.items():
        (folder / f"{name}.pem").write_bytes(key)
        devices[name] = base | {"key": f"{name}.pem"}
    devices["wrong-passphrase"] = devices["wrong-passphrase"] | {"passphrase_file": "passphrase"}
    for name, table in devices.items():
        (folder / f"{name}.device.json").write_text(json.dumps(table))
