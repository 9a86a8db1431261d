"""Keys are private, never overwritten, and never take each other's role."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.errors import RecipeError
from edgepack.keys import ALGORITHMS, development_identity, device_file, generate_key, make_identity
from edgepack_runtime.device import Device
from edgepack_runtime.errors import FileError, KeyFileError
from edgepack_runtime.keyfiles import load_device_key, load_recipient, load_signing_key, load_verifying_key
from edgepack_runtime.signing import key_id

EVERY_KIND = [("release", "ed25519"), ("release", "p256"), ("device", "x25519"), ("device", "p256")]


@pytest.mark.parametrize(("role", "algorithm"), EVERY_KIND)
def test_a_private_key_is_for_its_owner_alone(tmp_path, role, algorithm):
    pair = generate_key(role, algorithm, tmp_path / "k")
    assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600


@pytest.mark.parametrize(("role", "algorithm"), EVERY_KIND)
def test_the_two_halves_belong_together_and_have_the_id_that_is_told(tmp_path, role, algorithm):
    pair = generate_key(role, algorithm, tmp_path / "k")
    load, load_public = (
        (load_signing_key, load_verifying_key) if role == "release" else (load_device_key, load_recipient)
    )
    ids = {key_id(load(pair.private).public_key()).hex(), key_id(load_public(pair.public)).hex(), pair.key_id}
    assert len(ids) == 1


@pytest.mark.parametrize("role", ["release", "device"])
def test_the_first_algorithm_of_a_role_is_its_default(tmp_path, role):
    assert generate_key(role, None, tmp_path / "k").algorithm == ALGORITHMS[role][0]


def test_two_keys_are_never_the_same(tmp_path):
    first, second = (generate_key("release", None, tmp_path / name) for name in "ab")
    assert first.key_id != second.key_id


def test_the_names_start_with_what_was_given_dots_and_all(tmp_path):
    pair = generate_key("release", None, tmp_path / "deep" / "acme.2026")
    assert (pair.private.name, pair.public.name) == ("acme.2026.key.pem", "acme.2026.pub.pem")


@pytest.mark.parametrize("suffix", [".key.pem", ".pub.pem"])
def test_an_existing_half_is_kept_and_no_other_half_written(tmp_path, suffix):
    existing = tmp_path / f"k{suffix}"
    existing.write_text("precious")
    with pytest.raises(FileError, match=rf"k{suffix} exists and is not overwritten"):
        generate_key("release", None, tmp_path / "k")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {existing.name: "precious"}


@pytest.mark.parametrize(
    ("role", "algorithm", "complaint"),
    [
        ("signer", None, r"role 'signer' is not known"),
        ("release", "x25519", r"a release key cannot be 'x25519'"),
        ("device", "ed25519", r"a device key cannot be 'ed25519'"),
    ],
)
def test_a_role_or_algorithm_that_cannot_be_is_refused(tmp_path, role, algorithm, complaint):
    with pytest.raises(RecipeError, match=complaint):
        generate_key(role, algorithm, tmp_path / "k")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stem", ["/", "", "."])
def test_a_folder_is_no_start_of_a_name(stem):
    with pytest.raises(FileError, match=r"is a folder, not the start of a file name"):
        generate_key("release", None, Path(stem))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match=r"cannot make folder .*file"):
        generate_key("release", None, tmp_path / "file" / "k")


@pytest.mark.parametrize(
    ("load", "which", "complaint"),
    [
        (load_signing_key, "device.key.pem", r"device.key.pem: this is a device key, a release key is wanted"),
        (load_verifying_key, "device.pub.pem", r"device.pub.pem: this is a device key, a release key is wanted"),
        (load_device_key, "release.key.pem", r"release.key.pem: this is a release key, a device or issuer key is"),
        (load_recipient, "release.pub.pem", r"release.pub.pem: this is a release key, a device or issuer key is"),
        (load_signing_key, "release.pub.pem", r"release.pub.pem: no PEM private key"),
        (load_verifying_key, "release.key.pem", r"release.key.pem: this is a private key, a public one is wanted"),
        (load_recipient, "device.key.pem", r"device.key.pem: this is a private key"),
        (load_device_key, "trust.json", r"trust.json: no PEM private key"),
        (load_recipient, "trust.json", r"trust.json: no PEM public key"),
        (load_device_key, "missing.pem", r"missing.pem: No such file"),
        (load_signing_key, ".", r"cannot read .*: it is a folder"),
    ],
)
def test_a_key_of_another_role_is_refused(tmp_path, load, which, complaint):
    make_identity(tmp_path)
    with pytest.raises(KeyFileError, match=complaint):
        load(tmp_path / which)


def test_a_key_behind_a_passphrase_is_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "k.pem").write_bytes(pem)
    with pytest.raises(KeyFileError, match=r"protected by a passphrase"):
        load_signing_key(tmp_path / "k.pem")


def test_a_key_file_that_is_far_too_long_is_refused(tmp_path):
    (tmp_path / "k.pem").write_bytes(b"x" * (65 << 10))
    with pytest.raises(KeyFileError, match=r"longer than"):
        load_recipient(tmp_path / "k.pem")


def test_an_identity_is_a_device_that_trusts_its_own_release_key(tmp_path):
    identity = make_identity(tmp_path)
    text = device_file("raspberry-pi-4", identity.trust.name, identity.device_key.name)
    (tmp_path / "device.json").write_bytes(text)
    device = Device.from_file(tmp_path / "device.json")
    assert list(device.trust.by_id()) == [key_id(load_verifying_key(tmp_path / "release.pub.pem"))]


def test_an_identity_is_not_made_over_another(tmp_path):
    make_identity(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FileError, match=r"exists and is not overwritten"):
        make_identity(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_development_identity_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    first = development_identity()
    trust = json.loads(first.trust.read_text())
    assert (development_identity(), json.loads(first.trust.read_text())) == (first, trust)


def test_the_development_identity_lies_where_data_of_a_user_lie(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEPACK_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert development_identity().trust == tmp_path / "edgepack" / "development" / "trust.json"


def test_the_folder_of_the_development_identity_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path))
    assert stat.S_IMODE(development_identity().trust.parent.stat().st_mode) == 0o700


def test_two_processes_that_make_the_development_identity_at_once_end_with_one(tmp_path: Path):
    code = (
        "from edgepack.keys import development_identity as d; "
        "print(d().signing_key.read_bytes() == d().signing_key.read_bytes())"
    )
    environment = os.environ | {"EDGEPACK_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [run.communicate()[0].strip() for run in runs] == ["True"] * 4
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["development"]


def test_a_private_key_does_not_stay_without_its_public_half(tmp_path):
    # In the place of the public half is a link into nowhere: nothing is there, and nothing can be written.
    (tmp_path / "k.pub.pem").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileError, match=r"k.pub.pem exists and is not overwritten"):
        generate_key("device", None, tmp_path / "k")
    assert [path.name for path in tmp_path.iterdir()] == ["k.pub.pem"]
