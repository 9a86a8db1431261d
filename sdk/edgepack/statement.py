"""Signed evidence beside files that are in no bundle: a DSSE envelope over their digests and what was found out.

A microcontroller opens no bundle, and nothing is encrypted for it. What it is built with can still be checked by
whoever builds its firmware: every file, under which interpreter the model was run, and what came out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path

from edgepack.signers import Signer
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime._files import read_capped
from edgepack_runtime.container import Signature
from edgepack_runtime.errors import FormatError, SignatureError
from edgepack_runtime.signing import verify_threshold
from edgepack_runtime.trust import TrustedKeys

__all__ = ["STATEMENT_FILE", "STATEMENT_TYPE", "check_folder", "sign_statement", "verify_statement"]

STATEMENT_FILE = "evidence.dsse.json"
STATEMENT_TYPE = b"application/vnd.edgepack.micro.v1+json"
_MAX_STATEMENT = 4 << 20
_MAX_FILE = 1 << 30


def sign_statement(statement: Mapping[str, object], signer: Signer) -> bytes:
    """Return the envelope of a statement: DSSE v1.0.2 as JSON, over the statement's canonical JSON.

    Raises:
        KeyFileError: the place where the key is refuses.
    """
    payload = canonical_json(statement)
    signature = signer.sign(payload, STATEMENT_TYPE)
    envelope = {
        "payloadType": STATEMENT_TYPE.decode("ascii"),
        "payload": _base64(payload),
        "signatures": [{"keyid": signature.key_id.hex(), "sig": _base64(signature.value)}],
    }
    return canonical_json(envelope) + b"\n"


def verify_statement(data: bytes, trust: TrustedKeys) -> Mapping[str, object]:
    """Return the statement in an envelope, once enough trusted keys have signed it.

    Raises:
        SchemaError: it is no such envelope.
        FormatError: it is an envelope of another type, or what was signed is no statement.
        SignatureError: a signature is wrong, or there are too few.
    """
    fields = Fields(parse_json(data, STATEMENT_FILE), STATEMENT_FILE)
    if (found := fields.take("payloadType", str)) != STATEMENT_TYPE.decode("ascii"):
        raise FormatError(f"{STATEMENT_FILE}: of type {found[:64]!r}, expected {STATEMENT_TYPE.decode('ascii')}")
    payload = _bytes(fields, "payload")
    signatures = []
    for entry in fields.take_tables("signatures"):
        key = entry.take("keyid", str)
        value = _bytes(entry, "sig")
        entry.finish()
        try:
            signatures.append(Signature(key_id=bytes.fromhex(key), value=value))
        except ValueError:
            entry.refuse("keyid", "expected hex digits")
    fields.finish()
    verify_threshold(payload, tuple(signatures), trust.by_id(), trust.threshold, STATEMENT_TYPE)
    statement = parse_json(payload, "statement")
    if not isinstance(statement, dict) or statement.get("statement") != 1:
        raise FormatError("what was signed is no statement of version 1")
    return statement


def check_folder(folder: Path, trust: TrustedKeys) -> Mapping[str, object]:
    """Return the signed statement of a folder, each file of which is the one that was signed.

    Raises:
        FileError: a file is missing or cannot be read.
        SchemaError: the envelope or the list of files is malformed.
        FormatError: it is an envelope of something else.
        SignatureError: it is not signed by trusted keys, or a file is another.
    """
    statement = verify_statement(read_capped(folder / STATEMENT_FILE, _MAX_STATEMENT), trust)
    fields = Fields({"files": statement.get("files")}, "statement")
    for entry in fields.take_tables("files"):
        name, digest = entry.take("name", str), entry.take("sha256", str)
        entry.take("bytes", int)
        entry.finish()
        # A name that was signed is a file's name all the same, and no way out of the folder.
        if Path(name).name != name or name in ("", ".", ".."):
            entry.refuse("name", f"{name[:64]!r} is no file's name")
        if hashlib.sha256(read_capped(folder / name, _MAX_FILE)).hexdigest() != digest:
            raise SignatureError(f"{folder / name} is not the file that was signed")
    return statement


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(fields: Fields, name: str) -> bytes:
    text = fields.take(name, str)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        fields.refuse(name, "expected base64")
