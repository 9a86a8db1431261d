"""Write `tests/vectors/*.json`, or with ``--check`` say what would change: ``python -m tools.vectors [--check]``."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tools.vectors import front, manifest, processing, profile, requires, sealed, table
from tools.vectors.keys import pkcs8, spki
from tools.vectors.trust import trust_vectors
from tools.vectors.trustlayout import TrustVector
from tools.vectors.vector import Vector

__all__ = ["GROUPS", "document", "main", "trust_document"]

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "vectors"
GROUPS: Mapping[str, Callable[[], Iterator[Vector]]] = {
    "preamble": front.preamble,
    "blocks": front.blocks,
    "signatures": front.signatures,
    "header": table.header,
    "names": table.names,
    "entries": table.entries,
    "policy": table.policy,
    "order": table.order,
    "grants": sealed.grants,
    "sidecar": sealed.sidecar,
    "revoked": table.revoked,
    "payload": sealed.payload,
    "sizes": sealed.sizes,
    "manifest": manifest.manifest,
    "profile": profile.profile,
    "requires": requires.requires,
    "processing": processing.processing,
}


def document(group: str) -> dict[str, object]:
    """Return a group as the JSON document that is committed, with bundles in base64 and not yet compressed."""
    vectors = list(GROUPS[group]())
    names = [vector.name for vector in vectors]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    keys = sorted({name for v in vectors for name in (*v.trust, *v.revoked_keys, *([v.device] if v.device else []))})
    return {
        "format": "edgepack-vectors-1",
        "group": group,
        "test_keys": {
            name: {"public_spki": _base64(spki(name)), "private_pkcs8_test_only": _base64(pkcs8(name))}
            for name in keys
        },
        "vectors": [_to_json(vector) for vector in vectors],
    }


def trust_document() -> dict[str, object]:
    """Return the group of trust documents, in the same way; the keys stand in the documents."""
    vectors = list(trust_vectors())
    names = [vector.name for vector in vectors]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return {"format": "edgepack-trust-vectors-1", "group": "trust", "vectors": [_trust_to_json(v) for v in vectors]}


def _trust_to_json(vector: TrustVector) -> dict[str, object]:
    step = {"step": vector.step} if vector.step else {}
    return {
        "name": vector.name,
        "current": None if vector.current is None else _base64(vector.current),
        "update": _base64(vector.update),
        "expect": {"outcome": vector.outcome, **step, **vector.says},
    }


def _to_json(vector: Vector) -> dict[str, object]:
    expect: dict[str, object] = {"outcome": vector.outcome}
    if vector.step:
        expect["step"] = vector.step
    if vector.entries:
        expect["entries"] = {name: hashlib.sha256(plain).hexdigest() for name, plain in vector.entries.items()}
    return {
        "name": vector.name,
        "trust": {
            "threshold": vector.threshold,
            "keys": list(vector.trust),
            "revoked_keys": list(vector.revoked_keys),
            "revoked_bundles": [bundle.hex() for bundle in vector.revoked_bundles],
        },
        "policy": {"profile": vector.profile, "accepted": dict(vector.accepted), "now": vector.now},
        "device": vector.device,
        **({"reads_manifest": True} if vector.reads_manifest else {}),
        **({} if vector.sidecar is None else {"sidecar": _base64(vector.sidecar)}),
        "bundle": _base64(vector.bundle),
        "expect": expect,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unpacked(path: Path) -> dict[str, object]:
    """Return a committed group as `document` has it: compressors may differ, what they hold may not."""
    found: dict[str, object] = json.loads(path.read_text("utf-8"))
    found["vectors"] = [_each_blob(vector, _decompress, "_gzip", "") for vector in found["vectors"]]  # type: ignore[attr-defined]
    return found


def _packed(found: dict[str, object]) -> str:
    vectors = [_each_blob(vector, _compress, "", "_gzip") for vector in found["vectors"]]  # type: ignore[attr-defined]
    return json.dumps({**found, "vectors": vectors}, indent=1) + "\n"


def _each_blob(vector: dict[str, object], change: Callable[[bytes], bytes], old: str, new: str) -> dict[str, object]:
    blobs = {f"{name}{old}": f"{name}{new}" for name in ("sidecar", "bundle", "current", "update")}
    return {
        blobs.get(name, name): _base64(change(base64.b64decode(str(value))))
        if name in blobs and value is not None
        else value
        for name, value in vector.items()
    }


def _compress(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _decompress(data: bytes) -> bytes:
    return gzip.decompress(data)


def main(arguments: list[str]) -> int:
    """Write the groups or compare them; return the exit code."""
    check, count, changed = arguments == ["--check"], 0, []
    groups = (*GROUPS, "trust")
    for group in groups:
        path, made = FOLDER / f"{group}.json", document(group) if group in GROUPS else trust_document()
        count += len(made["vectors"])  # type: ignore[arg-type]
        if check:
            if not path.exists() or list(_unpacked(path).items()) != list(made.items()):
                changed.append(path.name)
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(_packed(made), "utf-8")
    stray = sorted({path.name for path in FOLDER.glob("*.json")} - {f"{group}.json" for group in groups})
    print(f"{count} vectors in {len(groups)} groups" + (f"; differ: {changed}, stray: {stray}" if check else ""))
    return 1 if changed or (check and stray) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
