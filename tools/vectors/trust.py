"""Vectors of trust documents: first ones, updates, and what an update must not be. Steps T1 to T6."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

from tools.vectors.keys import key_id, seed, sign, spki
from tools.vectors.layout import MAGIC, Grant, Signature, pae, put
from tools.vectors.trustlayout import (
    CAP,
    FIELDS,
    MALFORMED,
    NEXT,
    NOW,
    OLD,
    RELEASE,
    SKIPPED,
    T1,
    T2,
    T6,
    THIRD,
    UNKNOWN,
    UPDATE,
    A,
    B,
    C,
    D,
    Role,
    Trust,
    TrustVector,
    container,
    file_of,
    first,
    good,
    key_table,
    refused,
    signature,
    to_json,
)  # fmt: skip

__all__ = ["trust_vectors"]


def trust_vectors() -> Iterator[TrustVector]:
    """Yield them all."""
    yield from _good()
    yield from _containers()
    yield from _signatures()
    yield from _headers()
    yield from _documents()
    yield from _keys()
    yield from _versions()
    yield from _order()


def _good() -> Iterator[TrustVector]:
    now = file_of(NOW)
    yield good("a first document", NOW, now, None)
    yield good("an update", UPDATE, file_of(UPDATE), now)
    for what, changed in {
        "of version 1": replace(NOW, version=1),
        "of the highest version": replace(NOW, version=2**53 - 1),
        "created in 1970": replace(NOW, created=0),
        "created at the end of time": replace(NOW, created=2**64 - 1),
        "with eight roots wanted": replace(NOW, root=Role(keys=_many(8), threshold=8)),
        "with nine roots": replace(NOW, root=Role(keys=_many(9), threshold=8)),
        "with two release keys wanted of three": replace(NOW, release=Role(keys=(RELEASE, NEXT, THIRD), threshold=2)),
        "that revokes a device's key": replace(NOW, revoked_keys=(key_id("x25519 device"),)),
        "that revokes bundles": replace(NOW, revoked_bundles=(seed("bundle", 16), bytes(16))),
        "with floors at their edges": replace(NOW, floors=(("a", 0), ("Z" * 31, 2**53 - 1))),
    }.items():
        signers = changed.root.keys[: changed.root.threshold]
        yield good(f"a first document {what}", changed, file_of(changed, *signers), None)
    rotated = replace(UPDATE, root=Role(keys=(D,)))
    yield good("roots rotate", rotated, file_of(rotated, A, C, D), now)
    yield good("every root signs", UPDATE, file_of(UPDATE, A, B, C), now)
    yield good("a stranger signs too", UPDATE, file_of(UPDATE, A, C, D), now)
    kept = replace(UPDATE, root=Role(keys=(A, C, D), threshold=3))
    yield good("a key in both sets counts for both", kept, file_of(kept, A, C, D), now)
    eight = replace(NOW, root=Role(keys=_many(8), threshold=8))
    other = replace(UPDATE, root=Role(keys=_many(8, "other"), threshold=8))
    both = file_of(other, *_many(8), *_many(8, "other"))
    yield good("sixteen signatures, eight of each set", other, both, file_of(eight, *_many(8)))
    forgiving = replace(UPDATE, revoked_keys=())
    yield good(
        "a key is revoked no more", forgiving, file_of(forgiving), file_of(replace(NOW, revoked_keys=(bytes(32),)))
    )
    spaced = json.dumps(UPDATE.table(), indent=3).encode()
    yield good("JSON with white space", UPDATE, container(UPDATE.signed(spaced)).file(), now)
    named = UPDATE.table()
    named["root"]["keys"][0]["name"] = ""
    named["root"]["keys"][1]["name"] = "\u0000 \U0001f511"
    yield good("key names are any text", UPDATE, container(UPDATE.signed(to_json(named))).file(), now)
    # Signed by Ed25519 keys alone: the others' signatures differ in length.
    full = container(UPDATE.signed(_padded(UPDATE, CAP - len(file_of(UPDATE, A, B)))), (A, B)).file()
    assert len(full) == CAP
    yield good("as long as may be", UPDATE, full, now)


def _many(count: int, what: str = "root") -> tuple[str, ...]:
    return tuple(f"ed25519 {what} {i}" for i in range(count))


def _padded(document: Trust, count: int) -> bytes:
    return to_json(document.table()) + b" " * count


def _containers() -> Iterator[TrustVector]:
    base = container(UPDATE.signed())
    data = base.file()
    for size in (0, 31, 32, 33, len(data) - 1):
        yield refused(f"cut to {size}", data[:size], T1)
    yield refused("a byte appended", data + b"\0", T1)
    yield refused("another magic", MAGIC[:-1] + b"\x0b" + data[8:], T1)
    yield refused("a plain trust file", to_json({"schema": 1, "release": NOW.release.table()}), T1)
    longer = container(UPDATE.signed(_padded(UPDATE, CAP + 1 - len(file_of(UPDATE, A, B)))), (A, B)).file()
    yield refused("one byte too long", longer, T1)
    yield refused("a payload", replace(base, payload=b"x").file(), T1)
    sealed = Grant(kind=1, key_id=bytes(32), sealed=bytes(80))
    yield refused("a grant", replace(base, grants=(sealed,)).file(), T1)
    stranger = Grant(kind=9, key_id=bytes(32), sealed=b"")
    yield refused("a grant of an unknown kind", replace(base, grants=(stranger,)).file(), T1)
    yield refused("a byte after no grants", replace(base, after_grants=b"\0").file(), T1)
    yield refused("no signature", replace(base, signatures=()).file(), T1)
    yield refused("signatures descend", replace(base, signatures=base.signatures[::-1]).file(), T1)
    yield refused("one signature twice", replace(base, signatures=base.signatures[:1] * 2).file(), T1)
    yield refused("preamble reserved 1", replace(base, preamble={"reserved": 1}).file(), T1)
    yield first("first: a byte appended", file_of(NOW) + b"\0", T1)


def _signatures() -> Iterator[TrustVector]:
    signed = UPDATE.signed()
    base = container(signed)
    yield refused("one old root of two", file_of(UPDATE, A), T2)
    yield refused("one old root and strangers", file_of(UPDATE, A, D, RELEASE), T2)
    yield refused("a release key signs", file_of(UPDATE, RELEASE, NEXT), T2)
    wrong = replace(base.signatures[0], value=bytes(64))
    yield refused("one signature is wrong", replace(base, signatures=(wrong, base.signatures[1])).file(), T2)
    third = signature(B, signed)
    spoilt = tuple(sorted((*base.signatures, replace(third, value=bytes(64))), key=lambda one: one.key_id))
    yield refused("two are good, a third old root's is wrong", replace(base, signatures=spoilt).file(), T2)
    as_bundle = tuple(
        replace(one, value=sign(key, pae(signed)))
        for one in base.signatures for key in (A, C) if key_id(key) == one.key_id
    )  # fmt: skip
    yield refused("signed as a bundle", replace(base, signatures=as_bundle).file(), T2)
    bare = tuple(
        replace(one, value=sign(key, signed))
        for one in base.signatures
        for key in (A, C)
        if key_id(key) == one.key_id
    )
    yield refused("signed without the encoding", replace(base, signatures=bare).file(), T2)
    taken = Signature(key_id=key_id(B), value=base.signatures[0].value)
    yield refused("one root's signature under another's id",
                  replace(base, signatures=tuple(sorted((base.signatures[0], taken), key=lambda s: s.key_id))).file(),
                  T2)  # fmt: skip
    rotated = replace(UPDATE, root=Role(keys=(D,)))
    yield refused("new roots alone", file_of(rotated, D), T2)
    yield refused("old roots alone", file_of(rotated, A, C), T6)
    more = replace(UPDATE, root=Role(keys=(A, B, C), threshold=3))
    yield refused("a threshold that rises is not met", file_of(more, A, C), T6)
    fewer = replace(UPDATE, root=Role(keys=(A, B, C), threshold=1))
    yield refused("a threshold that falls does not hold yet", file_of(fewer, A), T2)
    spoilt_new = container(rotated.signed(), (A, C, D))
    bad = tuple(replace(s, value=bytes(64)) if s.key_id == key_id(D) else s for s in spoilt_new.signatures)
    yield refused("the new root's signature is wrong", replace(spoilt_new, signatures=bad).file(), T6)
    yield first("first: one root of two", file_of(NOW, A), T6)
    yield first("first: strangers", file_of(NOW, D, RELEASE), T6)
    for at in (16, 60):
        flipped = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
        yield refused(f"a bit of byte {at} is another", replace(base, signed=flipped).file(), T2)


def _headers() -> Iterator[TrustVector]:
    signed = UPDATE.signed()

    def changed(name: str, value: int) -> bytes:
        return container(put(signed, FIELDS[name], value)).file()

    for name, values in {"format_major": (0, 2, 0xFFFF), "critical_flags": (1, 2**31), "role": (0, 1, 33)}.items():
        for value in values:
            yield refused(f"{name} {value}", changed(name, value), UNKNOWN)
    for name, value in {"format_minor": 9, "flags": 2**32 - 1}.items():
        yield good(f"{name} {value}", UPDATE, changed(name, value), file_of(NOW))
    for name, values in {
        "payload_suite": (1, 2), "reserved at 32": (1, 2**63), "payload_length": (1, 2**63), "reserved at 52": (1,),
        "document_length": (0, len(signed) - 57, len(signed) - 55, 2**32 - 1),
    }.items():  # fmt: skip
        for value in values:
            yield refused(f"{name} {value}", changed(name, value), MALFORMED)
    for size in (0, 1, 55):
        yield refused(f"signed region of {size} bytes", container(signed[:size]).file(), MALFORMED)
    yield refused("a byte after the document", container(signed + b" ").file(), MALFORMED)
    yield refused("version 0", changed("version", 0), MALFORMED)
    yield refused("version 2^53", changed("version", 2**53), MALFORMED)
    yield first("first: version 0", file_of(replace(NOW, version=0)), MALFORMED)
    yield first("first: role 1", container(put(NOW.signed(), FIELDS["role"], 1)).file(), UNKNOWN)


def _documents() -> Iterator[TrustVector]:
    table, text = UPDATE.table(), to_json(UPDATE.table())

    def of(document: bytes) -> bytes:
        return container(UPDATE.signed(document)).file()

    for name in table:
        yield refused(f"no {name}", of(to_json({k: v for k, v in table.items() if k != name})), MALFORMED)
        yield refused(f"{name} is null", of(to_json({**table, name: None})), MALFORMED)
    for name, document in {
        "an unknown member": to_json({**table, "extra": 1}),
        "schema 2": to_json({**table, "schema": 2}),
        "schema 1.0": text.replace(b'"schema":1', b'"schema":1.0'),
        "schema true": to_json({**table, "schema": True}),
        "a member twice": text[:-1] + b',"schema":1}',
        "a member twice, once escaped": text[:-1] + b',"\\u0073chema":1}',
        "a list": b"[]",
        "nothing": b"",
        "no JSON": b"{",
        "two values": text + b"{}",
        "a byte order mark": b"\xef\xbb\xbf" + text,
        "no UTF-8": text.replace(b'"ed25519 root a"', b'"\xff"'),
        "half a surrogate": text.replace(b'"ed25519 root a"', b'"\\ud800"'),
        "NaN": text.replace(b'"schema":1', b'"schema":NaN'),
        "revoked_keys in capitals": to_json({**table, "revoked_keys": [key_id(RELEASE).hex().upper()]}),
        "revoked_keys of 31 bytes": to_json({**table, "revoked_keys": ["aa" * 31]}),
        "revoked_keys of 33 bytes": to_json({**table, "revoked_keys": ["aa" * 33]}),
        "revoked_keys of an odd digit": to_json({**table, "revoked_keys": ["a" * 63]}),
        "revoked_keys empty text": to_json({**table, "revoked_keys": [""]}),
        "revoked_keys with a number": to_json({**table, "revoked_keys": [1]}),
        "revoked_keys twice": to_json({**table, "revoked_keys": ["aa" * 32] * 2}),
        "revoked_keys an object": to_json({**table, "revoked_keys": {}}),
        "revoked_bundles in capitals": to_json({**table, "revoked_bundles": ["AA" * 16]}),
        "revoked_bundles of 15 bytes": to_json({**table, "revoked_bundles": ["aa" * 15]}),
        "revoked_bundles of 32 bytes": to_json({**table, "revoked_bundles": ["aa" * 32]}),
        "revoked_bundles twice": to_json({**table, "revoked_bundles": ["aa" * 16] * 2}),
        "a product twice": to_json({**table, "floors": table["floors"] * 2}),
        "an unknown member of a floor": to_json({**table, "floors": [{**table["floors"][0], "for": "ever"}]}),
        "a floor without a product": to_json({**table, "floors": [{"security_version": 1}]}),
        "a floor without a version": to_json({**table, "floors": [{"product": "digits"}]}),
    }.items():
        yield refused(f"document: {name}", of(document), MALFORMED)
    for product in ("", "../x", "a" * 32, "-a", "a b", "\u00e4", "a\n", "a\u0000"):
        floors = [{"product": product, "security_version": 1}]
        yield refused(f"a floor of {product!a}", of(to_json({**table, "floors": floors})), MALFORMED)
    for found in (-1, 2**53, 1.5, "1", True):
        floors = [{"product": "digits", "security_version": found}]
        yield refused(f"a floor at {found!r}", of(to_json({**table, "floors": floors})), MALFORMED)


def _keys() -> Iterator[TrustVector]:
    def with_role(role: str, **changes: object) -> bytes:
        table = UPDATE.table()
        table[role] = {**table[role], **changes}
        return container(UPDATE.signed(to_json(table))).file()

    def with_key(**changes: object) -> bytes:
        return with_role("release", keys=[{**key_table(NEXT), **changes}])

    for role, count in (("root", 3), ("release", 1)):
        for threshold in (0, -1, count + 1, 2**31, 1.0, "1", True):
            yield refused(f"{role} threshold {threshold!r}", with_role(role, threshold=threshold), MALFORMED)
        yield refused(f"{role} without keys", with_role(role, keys=[]), MALFORMED)
        yield refused(f"{role} without keys, threshold 0", with_role(role, keys=[], threshold=0), MALFORMED)
        yield refused(f"{role} with an unknown member", with_role(role, extra=1), MALFORMED)
        key = key_table(A if role == "root" else NEXT)
        yield refused(f"{role} with a key twice", with_role(role, keys=[key, key]), MALFORMED)
        other = {**key, "name": "another name"}
        yield refused(f"{role} with a key twice, two names", with_role(role, keys=[key, other]), MALFORMED)
    nine = Role(keys=_many(9), threshold=9)
    yield refused("nine roots wanted", with_role("root", **nine.table()), MALFORMED)
    yield refused("a root key releases", with_role("release", keys=[key_table(A)]), MALFORMED)
    revoked = replace(UPDATE, revoked_keys=(key_id(NEXT),))
    yield refused("a release key is revoked", file_of(revoked), MALFORMED)
    yield refused("a root key is revoked", file_of(replace(UPDATE, revoked_keys=(key_id(B),))), MALFORMED)
    der, text = spki(NEXT), str(key_table(NEXT)["public_key"])
    for name in ("name", "algorithm", "public_key"):
        table = {k: v for k, v in key_table(NEXT).items() if k != name}
        yield refused(f"a key without {name}", with_role("release", keys=[table]), MALFORMED)
    yield refused("a key with an unknown member", with_key(use="sig"), MALFORMED)
    yield refused("a key called 1", with_key(name=1), MALFORMED)
    for algorithm in ("ed25519", "P256", "rsa", ""):
        yield refused(f"a P-256 key called {algorithm!r}", with_key(algorithm=algorithm), MALFORMED)
    off_curve = der[:-1] + bytes([der[-1] ^ 1])
    short = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    hybrid = der[:26] + bytes([6 + (der[-1] & 1)]) + der[27:]
    rsa, x25519 = spki("rsa device"), spki("x25519 device")
    for name, found in {
        "empty": b"",
        "cut short": der[:-1],
        "with a byte after it": der + b"\0",
        "off the curve": off_curve,
        "with a compressed point": short + bytes([2 + (der[-1] & 1)]) + der[27:59],
        "with a hybrid point": hybrid,
        "of an RSA key": rsa,
        "of an X25519 key": x25519,
        "of a private key": hashlib.sha256(der).digest(),
    }.items():
        public = base64.b64encode(found).decode("ascii")
        yield refused(f"public_key {name}", with_key(public_key=public), MALFORMED)
    assert text.endswith("==")
    for name, spelt in {
        "without padding": text.rstrip("="),
        "with more padding": text + "=",
        "with a bit left over": text[:-3] + chr(ord(text[-3]) + 1) + "==",
        "with a line break": text[:64] + "\n" + text[64:],
        "with a space after it": text + " ",
        "in hex": der.hex(),
    }.items():
        yield refused(f"base64 {name}", with_key(public_key=spelt), MALFORMED)
    url = next(key for key in (f"ed25519 url {i}" for i in range(99)) if b"+" in base64.b64encode(spki(key)))
    dashed = base64.urlsafe_b64encode(spki(url)).decode("ascii")
    keys = [{**key_table(url), "public_key": dashed}]
    yield refused("base64 for URLs", with_role("release", keys=keys), MALFORMED)


def _versions() -> Iterator[TrustVector]:
    for version in (1, 4, 5):
        yield refused(f"version {version} after 5", file_of(replace(UPDATE, version=version)), OLD)
    for version in (7, 2**53 - 1):
        yield refused(f"version {version} after 5", file_of(replace(UPDATE, version=version)), SKIPPED)
    yield refused("the document in force again", file_of(NOW), OLD)
    last = replace(NOW, version=2**53 - 1)
    yield refused("nothing follows the highest version", file_of(replace(UPDATE, version=2**53)), MALFORMED,
                  current=file_of(last))  # fmt: skip


def _order() -> Iterator[TrustVector]:
    """Two things are wrong with each; the earlier step must speak."""
    rotated = replace(UPDATE, root=Role(keys=(D,)))
    yield refused(
        "order: a payload and strangers", replace(container(UPDATE.signed(), (D,)), payload=b"x").file(), T1
    )
    yield refused("order: strangers and no document", container(b"", (D,)).file(), T2)
    yield refused("order: strangers and an old version", file_of(replace(UPDATE, version=4), D), T2)
    yield refused("order: role 1 and no JSON", container(put(UPDATE.signed(b""), FIELDS["role"], 1)).file(), UNKNOWN)
    both = put(put(UPDATE.signed(), FIELDS["role"], 1), FIELDS["reserved at 32"], 1)
    yield refused("order: role 1 and a reserved field", container(both).file(), UNKNOWN)
    table = {**UPDATE.table(), "schema": 2}
    yield refused("order: schema 2 and an old version",
                  container(replace(UPDATE, version=4).signed(to_json(table))).file(), MALFORMED)  # fmt: skip
    yield refused("order: an old version and too few new roots", file_of(replace(rotated, version=5)), OLD)
    yield refused("order: a version left out and too few new roots", file_of(replace(rotated, version=7)), SKIPPED)
    yield first(
        "first: role 1 and too few roots", container(put(NOW.signed(), FIELDS["role"], 1), (A,)).file(), UNKNOWN
    )
