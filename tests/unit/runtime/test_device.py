"""device.json: who this device is, read strictly."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

import bundlekit
import realbundle
from edgepack_runtime.device import Device, load_trust
from edgepack_runtime.errors import EdgepackError, FileError, KeyFileError, SchemaError
from edgepack_runtime.signing import key_id


def read(folder, **changes: object) -> Device:
    return Device.from_file(realbundle.write_device(folder, **changes))


def refused(folder, complaint: str, error: type[EdgepackError] = SchemaError, **changes: object) -> None:
    path = realbundle.write_device(folder, **changes)
    with pytest.raises(error, match=complaint):
        Device.from_file(path)


def test_a_file_describes_a_device(tmp_path):
    device = read(tmp_path, num_threads=3, engine_policy="self-test", accepted={"digits": 4, "faces": 0})
    assert (device.profile, device.num_threads, device.engine_policy) == ("bench-board", 3, "self-test")
    assert device.accepted == {"digits": 4, "faces": 0}


def test_what_a_file_leaves_out_has_its_default(tmp_path):
    device = read(tmp_path)
    assert (device.num_threads, device.engine_policy, device.accepted) == (None, "exact", {})


def test_the_key_is_the_one_in_the_file_beside_it(tmp_path):
    key = read(tmp_path).key
    assert key_id(key.public_key()) == key_id(bundlekit.x25519().public_key())


def test_a_device_that_only_verifies_needs_no_key(tmp_path):
    assert read(tmp_path, key=None).key is None


def test_paths_are_relative_to_the_file_and_not_to_where_one_stands(tmp_path, monkeypatch):
    path = realbundle.write_device(tmp_path)
    monkeypatch.chdir("/")
    assert Device.from_file(str(path)).key is not None


@pytest.mark.parametrize("trust", ["trust.json", "release.pub.pem"])
def test_trust_is_a_trust_file_or_one_public_key(tmp_path, trust):
    assert list(read(tmp_path, trust=trust).trust.by_id()) == [key_id(bundlekit.ed25519().public_key())]


def test_the_key_does_not_show(tmp_path):
    assert "key=" not in repr(read(tmp_path)).replace("public_key=", "")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"profile": None}, r"device.json.profile: missing"),
        ({"profile": 4}, r"device.json.profile: expected text, got int"),
        ({"trust": None}, r"device.json.trust: missing"),
        ({"trust": ""}, r"device.json.trust: '' is no path"),
        ({"trust": "a\0b"}, r"device.json.trust: 'a\\x00b' is no path"),
        ({"key": "a\0b"}, r"device.json.key: 'a\\x00b' is no path"),
        ({"state": "a\0b"}, r"device.json.state: 'a\\x00b' is no path"),
        ({"num_threads": 0}, r"num_threads 0 is below 1"),
        ({"num_threads": True}, r"device.json.num_threads: expected int, got true/false"),
        ({"engine_policy": "any"}, r"engine_policy: 'any' is none of exact, self-test"),
        ({"accepted": [1]}, r"device.json.accepted: expected a? ?table, got list"),
        ({"accepted": {"digits": "4"}}, r"device.json.accepted.digits: expected int, got text"),
        ({"engine_polizy": "exact"}, r"engine_polizy: unknown field \(did you mean 'engine_policy'\?\)"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, changes, complaint):
    refused(tmp_path, complaint, **changes)


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"key": "missing.pem"}, KeyFileError, r"missing.pem: No such file"),
        ({"key": "release.pub.pem"}, KeyFileError, r"release.pub.pem: no PEM private key"),
        ({"key": "trust.json"}, KeyFileError, r"trust.json: no PEM private key"),
        ({"trust": "missing.json"}, FileError, r"missing.json: No such file"),
        ({"trust": "device.key.pem"}, KeyFileError, r"device.key.pem: this is a private key"),
        ({"trust": "device.json"}, SchemaError, r"device.json.schema: missing"),
    ],
)
def test_a_wrong_file_beside_it_is_named(tmp_path, changes, error, complaint):
    refused(tmp_path, complaint, error, **changes)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"profile": "a", "profile": "b"}', b"\xff\xfe", b'{"a": ' + b"[" * 5000]
)
def test_a_file_that_is_no_json_table_is_refused(tmp_path, text):
    (tmp_path / "device.json").write_bytes(text)
    with pytest.raises(SchemaError, match=r"^device.json"):
        Device.from_file(tmp_path / "device.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*device.json: No such file"):
        Device.from_file(tmp_path / "device.json")


def test_a_huge_file_is_refused(tmp_path):
    (tmp_path / "device.json").write_bytes(b" " * (300 << 10))
    with pytest.raises(FileError, match=r"longer than"):
        Device.from_file(tmp_path / "device.json")


def test_a_key_and_its_passphrase_may_come_from_pipes(tmp_path):
    key = bundlekit.x25519()
    (tmp_path / "secret").write_bytes(b"words\n")
    script = (
        "import sys\nfrom edgepack_runtime.device import Device\n"
        "from edgepack_runtime.signing import key_id\n"
        "print(key_id(Device.from_file(sys.argv[1]).key.public_key()).hex())\n"
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words"))
    (tmp_path / "key.pem").write_bytes(pem)
    for name in ("a", "b"):
        os.mkfifo(tmp_path / name)
    path = realbundle.write_device(tmp_path, key="a", passphrase_file="b")
    writers = [
        subprocess.Popen(["/bin/cp", str(tmp_path / source), str(tmp_path / pipe)])
        for source, pipe in (("key.pem", "a"), ("secret", "b"))
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout.strip(), [w.wait() for w in writers]) == (key_id(key.public_key()).hex(), [0, 0])


@pytest.mark.parametrize("key", ["device.key.pem", None])
def test_a_passphrase_that_opens_nothing_is_refused(tmp_path, key):
    (tmp_path / "secret").write_bytes(b"words\n")
    refused(
        tmp_path, "passphrase_file: the key is not encrypted, or there is none", passphrase_file="secret", key=key
    )


def test_a_missing_trust_file_says_what_to_name(tmp_path):
    with pytest.raises(FileError) as caught:
        load_trust(tmp_path / "trust.json")
    assert ".pub.pem" in caught.value.hint


@pytest.mark.parametrize("changes", [{"engine_policy": "any"}, {"num_threads": 0}])
def test_a_device_made_in_code_is_checked_as_well(changes):
    with pytest.raises(SchemaError):
        realbundle.device(**changes)


def test_a_trust_file_written_by_hand_with_spaces_is_read(tmp_path):
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(bundlekit.trust().to_json(), indent=4))
    assert load_trust(path).threshold == 1
