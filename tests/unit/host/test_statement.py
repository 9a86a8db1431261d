"""Signed evidence beside files: who signed it, and whether the files are those that were signed."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgepack.statement import STATEMENT_FILE, check_folder, sign_statement, verify_statement
from edgepack_runtime.container import Signature
from edgepack_runtime.errors import FileError, FormatError, SchemaError, SignatureError
from edgepack_runtime.signing import PAYLOAD_TYPE, key_id, sign
from edgepack_runtime.trust import TrustedKey, TrustedKeys


class Key:
    """A software key, as `edgepack.signers.file` has one, without a file."""

    def __init__(self, payload_type: bytes | None = None) -> None:
        self.private, self.forced = Ed25519PrivateKey.generate(), payload_type
        self.public_key = self.private.public_key()
        self.key_id = key_id(self.public_key)

    def sign(self, signed: bytes, payload_type: bytes = PAYLOAD_TYPE) -> Signature:
        return sign(self.private, signed, self.forced or payload_type)


def trusting(*keys: Key) -> TrustedKeys:
    return TrustedKeys(keys=tuple(TrustedKey(name="k", public_key=key.public_key) for key in keys))


def statement(**files: bytes) -> dict[str, object]:
    rows = [
        {"name": name.replace("_", "."), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    ]
    return {"statement": 1, "files": rows}


@pytest.fixture
def key() -> Key:
    return Key()


@pytest.fixture
def folder(tmp_path, key):
    (tmp_path / "model.tflite").write_bytes(b"model")
    (tmp_path / STATEMENT_FILE).write_bytes(sign_statement(statement(model_tflite=b"model"), key))
    return tmp_path


def test_what_was_signed_is_given_back(folder, key):
    assert check_folder(folder, trusting(key)) == statement(model_tflite=b"model")


def test_a_key_nobody_trusts_is_refused(folder):
    with pytest.raises(SignatureError, match="signed by 0 trusted keys"):
        check_folder(folder, trusting(Key()))


def test_a_file_that_was_altered_is_refused(folder, key):
    (folder / "model.tflite").write_bytes(b"Model")
    with pytest.raises(SignatureError, match=r"model\.tflite is not the file that was signed"):
        check_folder(folder, trusting(key))


def test_a_file_that_is_missing_is_refused(folder, key):
    (folder / "model.tflite").unlink()
    with pytest.raises(FileError, match=r"model\.tflite"):
        check_folder(folder, trusting(key))


def test_a_statement_that_was_altered_is_refused(folder, key):
    envelope = json.loads((folder / STATEMENT_FILE).read_bytes())
    payload = base64.b64decode(envelope["payload"]).replace(b'"bytes":5', b'"bytes":6')
    envelope["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(SignatureError, match="is wrong"):
        verify_statement(json.dumps(envelope).encode(), trusting(key))


def test_a_signature_over_a_bundle_is_none_over_a_statement():
    other = Key(PAYLOAD_TYPE)
    with pytest.raises(SignatureError, match="is wrong"):
        verify_statement(sign_statement(statement(), other), trusting(other))


@pytest.mark.parametrize("name", ["../model.tflite", "/etc/hostname", "..", "a/b", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused_though_it_was_signed(folder, key, name):
    rows = [{"name": name, "bytes": 1, "sha256": "00"}]
    (folder / STATEMENT_FILE).write_bytes(sign_statement({"statement": 1, "files": rows}, key))
    with pytest.raises(SchemaError, match="is no file's name"):
        check_folder(folder, trusting(key))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_statement_of_another_version_is_refused(key, version):
    with pytest.raises(FormatError, match="no statement of version 1"):
        verify_statement(sign_statement({"statement": version, "files": []}, key), trusting(key))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"application/vnd.edgepack.micro", b"application/vnd.edgepack.bundle", FormatError),
        (b'"payload":"', b'"payload":"?', SchemaError),
        (b'"keyid":"', b'"keyid":"x', SchemaError),
        (b'"sig":', b'"signature":', SchemaError),
        (b"{", b"[", SchemaError),
    ],
)
def test_an_envelope_that_is_none_is_refused(folder, key, old, new, error):
    data = (folder / STATEMENT_FILE).read_bytes().replace(old, new, 1)
    with pytest.raises(error):
        verify_statement(data, trusting(key))
