"""The trust store: read strictly, so that a typo never trusts anybody."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from bundlekit import ed25519, p256, seed, x25519
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.signing import spki
from edgepack_runtime.trust import TrustedKey, TrustedKeys

STORE = TrustedKeys.of([ed25519().public_key(), p256().public_key()], threshold=2)
P384 = derive_private_key(int.from_bytes(seed("p384"), "big"), SECP384R1()).public_key()


def read(change: Callable[[dict[str, Any]], object]) -> TrustedKeys:
    table = json.loads(json.dumps(STORE.to_json()))
    change(table)
    return TrustedKeys.from_json(json.dumps(table).encode())


def der(key: Any) -> str:
    return base64.b64encode(spki(key)).decode()


def test_a_store_reads_back_as_it_was_written() -> None:
    assert read(lambda table: None).to_json() == STORE.to_json()


def test_the_keys_are_found_by_their_ids() -> None:
    assert set(read(lambda table: None).by_id()) == {key.key_id for key in STORE.keys}


def compressed(key: Any) -> bytes:
    """Return a P-256 key as SubjectPublicKeyInfo with its point in the short form, which the library reads too."""
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point


def test_the_library_takes_the_short_form_of_a_point_for_the_same_key() -> None:
    assert load_der_public_key(compressed(p256().public_key())) == p256().public_key()


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another schema": (lambda t: t.update(schema=2), "schema: version 2"),
    "an unknown field": (lambda t: t.update(relase={}), "relase: unknown field"),
    "an unknown field in the role": (lambda t: t["release"].update(treshold=1), "treshold: unknown field"),
    "an unknown field in a key": (lambda t: t["release"]["keys"][0].update(alg="rsa"), r"keys\[0\].alg: unknown"),
    "no threshold": (lambda t: t["release"].pop("threshold"), "threshold: missing"),
    "a threshold of 0": (lambda t: t["release"].update(threshold=0), "threshold 0"),
    "a negative threshold": (lambda t: t["release"].update(threshold=-1), "threshold -1"),
    "a threshold of true": (lambda t: t["release"].update(threshold=True), "threshold: expected int"),
    "a threshold above the keys": (lambda t: t["release"].update(threshold=3), "threshold 3"),
    "no keys": (lambda t: t["release"].update(keys=[]), "threshold 2, wanted 1 to 0"),
    "a key twice": (lambda t: t["release"]["keys"].append(t["release"]["keys"][0]), "listed twice"),
    "no base64": (lambda t: t["release"]["keys"][0].update(public_key="*"), "public_key: expected"),
    "no DER": (lambda t: t["release"]["keys"][0].update(public_key="AAAA"), "public_key: expected"),
    "bytes after the DER": (
        lambda t: t["release"]["keys"][0].update(
            public_key=base64.b64encode(spki(ed25519().public_key()) + b"\0").decode()
        ),
        "public_key: expected",
    ),
    "a point in the short form": (
        lambda t: t["release"]["keys"][1].update(
            public_key=base64.b64encode(compressed(p256().public_key())).decode()
        ),
        "public_key: expected a SubjectPublicKeyInfo in DER as base64, points uncompressed",
    ),
    "base64 with a bit left over": (
        lambda t: t["release"]["keys"][1].update(public_key=der(p256().public_key())[:-3] + "x=="),
        "public_key: expected",
    ),
    "base64 in two lines": (
        lambda t: t["release"]["keys"][0].update(public_key=der(ed25519().public_key()) + "\n"),
        "public_key: expected",
    ),
    "an algorithm nobody knows": (lambda t: t["release"]["keys"][0].update(algorithm="none"), "'none' is none of"),
    "another key's algorithm": (lambda t: t["release"]["keys"][0].update(algorithm="p256"), "'p256', but the key"),
    "a device key": (lambda t: t["release"]["keys"][0].update(public_key=der(x25519().public_key())), "cannot sign"),
    "another curve": (lambda t: t["release"]["keys"][1].update(public_key=der(P384)), "secp384r1 cannot sign"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_store_is_refused_for(what: str) -> None:
    change, message = WRONG[what]
    with pytest.raises(SchemaError, match=message):
        read(change)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b'{"schema":1,"schema":1}', b"\xff"])
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(SchemaError):
        TrustedKeys.from_json(data)


def test_a_store_made_in_code_takes_no_other_keys_either() -> None:
    with pytest.raises(SchemaError, match="cannot sign"):
        TrustedKeys(keys=(TrustedKey(name="wrong", public_key=P384),))
