"""A device enrols: its key stays on it, the record is read strictly; a sidecar is read only where it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bundlekit import container, ed25519, make, p256, rsa3072, x25519
from edgepack_runtime.cli import main
from edgepack_runtime.container import pack_grants
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.enrolment import Enrolment, enroll_device
from edgepack_runtime.errors import FileError, FormatError, KeyFileError, SchemaError
from edgepack_runtime.grants import seal
from edgepack_runtime.keyfiles import load_device_key
from edgepack_runtime.protection import LEVELS, protection_of
from edgepack_runtime.sidecar import read_sidecar, sidecar_grants, sidecar_path
from edgepack_runtime.signing import key_id

RECORD = Enrolment(name="door-7", profile="raspberry-pi-4", public_key=x25519().public_key())


@pytest.mark.parametrize("key", [x25519, p256, rsa3072])
def test_a_record_reads_back_as_it_was_written(key) -> None:
    record = Enrolment(name="door-7", profile="raspberry-pi-4", public_key=key().public_key())
    found = Enrolment.from_json(record.to_json(), "r")
    assert (found.name, found.profile, found.key_id) == ("door-7", "raspberry-pi-4", record.key_id)


@pytest.mark.parametrize(("change", "complaint"), [
    ({"schema": 2}, "schema: version 2"),
    ({"name": "../door"}, "name '../door' is no name"),
    ({"profile": ""}, "profile '' is no name"),
    ({"key_id": "00" * 32}, "key_id: is not the id"),
    ({"public_key": "AAAA"}, "public_key: expected"),
    ({"public_key": "*"}, "public_key: expected"),
    ({"extra": 1}, "extra: unknown field"),
])  # fmt: skip
def test_a_record_is_refused_for(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        Enrolment.from_json(json.dumps(json.loads(RECORD.to_json()) | change).encode(), "r")


def test_a_signing_key_cannot_be_enrolled() -> None:
    with pytest.raises(SchemaError, match="cannot receive bundles"):
        Enrolment(name="door-7", profile="p", public_key=ed25519().public_key())  # type: ignore[arg-type]


def test_the_command_makes_a_key_that_only_the_owner_reads(tmp_path, capsys) -> None:
    code = main(["enroll", "--name", "door-7", "--profile", "raspberry-pi-4", "--out", str(tmp_path / "new")])
    key = tmp_path / "new" / "device.key.pem"
    assert (code, key.stat().st_mode & 0o777) == (0, 0o600)
    record = Enrolment.from_json((tmp_path / "new" / "door-7.enrol.json").read_bytes(), "r")
    assert record.key_id == key_id(load_device_key(key).public_key())
    assert "grant add" in capsys.readouterr().out


def test_a_process_that_made_a_key_dumps_no_core(tmp_path) -> None:
    script = "import ctypes, pathlib\nfrom edgepack_runtime.enrolment import enroll_device\n"
    script += "enroll_device('a', 'p', pathlib.Path())\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_key_that_exists_is_enrolled_and_left_alone(tmp_path) -> None:
    first = enroll_device("a", "p", tmp_path / "a")
    before = first.key.read_bytes()
    second = enroll_device("b", "p", tmp_path / "b", key=first.key)
    assert (second.enrolment.key_id, first.key.read_bytes()) == (first.enrolment.key_id, before)
    assert not (tmp_path / "b" / "device.key.pem").exists()


def test_enrolling_twice_keeps_the_first_key(tmp_path) -> None:
    before = enroll_device("a", "p", tmp_path).key.read_bytes()
    with pytest.raises(FileError, match="is not overwritten"):
        enroll_device("b", "p", tmp_path)
    assert (tmp_path / "device.key.pem").read_bytes() == before


def test_a_record_that_exists_leaves_no_key_without_a_record(tmp_path) -> None:
    (tmp_path / "a.enrol.json").write_text("mine")
    with pytest.raises(FileError, match="is not overwritten"):
        enroll_device("a", "p", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.enrol.json"]


def test_a_key_does_not_stay_without_its_record(tmp_path) -> None:
    # In the place of the record is a link into nowhere: nothing is there, and nothing can be written.
    (tmp_path / "door-7.enrol.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileError, match=r"door-7.enrol.json exists and is not overwritten"):
        enroll_device("door-7", "raspberry-pi-4", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["door-7.enrol.json"]


def test_a_release_key_is_not_enrolled(tmp_path) -> None:
    (tmp_path / "k.pem").write_text("edgepack-role: release\n-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(KeyFileError, match="this is a release key"):
        enroll_device("a", "p", tmp_path, key=tmp_path / "k.pem")


# Sidecars.

PARTS = make()


def grant_for(key) -> bytes:
    return pack_grants([seal(key.public_key(), bytes(32), PARTS.signed)])


def test_a_sidecar_is_read_where_the_bundle_has_no_grant_for_the_key(tmp_path) -> None:
    path = tmp_path / "b.edgepack"
    sidecar_path(path).write_bytes(grant_for(x25519("new")))
    (found,) = sidecar_grants(container(PARTS.file()), x25519("new"), path)
    assert found.key_id == key_id(x25519("new").public_key())


def test_a_damaged_sidecar_does_not_stop_a_device_that_does_not_need_it(tmp_path) -> None:
    path = tmp_path / "b.edgepack"
    sidecar_path(path).write_bytes(b"damaged")
    assert sidecar_grants(container(PARTS.file()), x25519(), path) == ()


def test_a_damaged_sidecar_is_refused_where_it_is_needed(tmp_path) -> None:
    path = tmp_path / "b.edgepack"
    sidecar_path(path).write_bytes(b"damaged")
    with pytest.raises(FormatError, match=r"b.edgepack.grant: grants"):
        sidecar_grants(container(PARTS.file()), x25519("new"), path)


def test_a_sidecar_that_was_named_must_exist(tmp_path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        sidecar_grants(container(PARTS.file()), x25519(), tmp_path / "b.edgepack", tmp_path / "nowhere")


def test_no_sidecar_is_no_error(tmp_path) -> None:
    assert sidecar_grants(container(PARTS.file()), x25519("new"), tmp_path / "b.edgepack") == ()


def test_a_sidecar_that_is_no_file_is_refused(tmp_path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="no regular file"):
        read_sidecar(tmp_path / "pipe")


def test_a_sidecar_longer_than_a_grants_block_may_be_is_refused(tmp_path) -> None:
    (tmp_path / "g").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(FileError, match="is longer than"):
        read_sidecar(tmp_path / "g")


# Protection.


def test_every_level_is_told_and_none_claims_hardware() -> None:
    found = [
        protection_of(PayloadSuite.PLAIN, 0),
        *(protection_of(PayloadSuite.COBBLESTONE_256, n) for n in range(3)),
    ]
    assert [p.level for p in found] == list(LEVELS)
    assert all("cannot be told" in p.text for p in found[1:])
