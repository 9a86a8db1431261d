"""A trust update of a device with a state folder: document and floors change in one write; the newer one counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

import bundlekit
import realbundle
from bundlekit import ed25519, trust
from edgepack_runtime._folders import locked
from edgepack_runtime.cli import main
from edgepack_runtime.container import assemble_front
from edgepack_runtime.device import Device, update_trust_of
from edgepack_runtime.errors import (
    FileError,
    FormatError,
    IncompatibleError,
    RollbackError,
    SchemaError,
    SignatureError,
)
from edgepack_runtime.session import verify_bundle
from edgepack_runtime.signing import TRUST_PAYLOAD_TYPE, sign
from edgepack_runtime.state import DeviceState, Floor, StoredTrust
from edgepack_runtime.trust import TrustedKey, TrustedKeys
from edgepack_runtime.trust_file import update_stored_trust, update_trust
from edgepack_runtime.trust_update import FloorReset, TrustDocument

ROOT, RELEASE, NEW = ed25519("root"), ed25519("release"), ed25519("new release")
FIRST = TrustDocument(version=1, created=1_750_000_000, root=trust(ROOT), release=trust(RELEASE))
SECOND = replace(FIRST, version=2, release=trust(NEW), floors=(FloorReset(product="digits", security_version=4),))
THIRD = replace(SECOND, version=3, floors=())
PROFILE = "bench-board"


def file_of(document: TrustDocument, *signers) -> bytes:
    signed = document.pack()
    return assemble_front(signed, [sign(key, signed, TRUST_PAYLOAD_TYPE) for key in signers or (ROOT,)], (), 0)


@pytest.fixture
def device(tmp_path, monkeypatch) -> Device:
    """Return a device with a state folder and a trust document, standing in its folder."""
    monkeypatch.chdir(tmp_path)
    path = realbundle.write_device(tmp_path, trust="trust.epk", state="state")
    for name, document in {"trust.epk": FIRST, "2.epk": SECOND, "3.epk": THIRD}.items():
        (tmp_path / name).write_bytes(file_of(document))
    what, board = realbundle.model(), realbundle.profile()
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board)
    for name, key in {"old": RELEASE, "new": NEW}.items():
        (tmp_path / f"{name}.edgepack").write_bytes(bundlekit.make(recipe, signers=(key,)).file())
    found = Device.from_file(path)
    found.state.create([Floor(product="digits", profile=PROFILE, security_version=9)])
    return found


def update(device: Device, *names: str):
    from pathlib import Path

    return update_stored_trust(device.state, device.trust_state, PROFILE, [Path(name) for name in names])


def test_an_update_is_in_force_at_once(device):
    update(device, "2.epk")
    assert verify_bundle("new.edgepack", device=device)[0].header.product == "digits"
    with pytest.raises(SignatureError):
        verify_bundle("old.edgepack", device=device)


def test_an_update_resets_floors_and_is_stored_in_one_state(device):
    update(device, "2.epk")
    state = device.state.read()
    assert (state.generation, state.trust.version, state.floors_of(PROFILE)) == (2, 2, {"digits": 4})


def test_a_reset_holds_once_and_not_for_good(device):
    update(device, "2.epk")
    device.state.update(lambda old: old.accepting(replace(bundlekit.HEADER, profile=PROFILE, security_version=8)))
    update(device, "3.epk")
    assert device.state.read().floors_of(PROFILE) == {"digits": 8}


def test_updates_left_out_in_between_are_applied_in_their_order(device):
    assert update(device, "3.epk", "2.epk").document.version == 3
    assert device.state.read().floors_of(PROFILE) == {"digits": 4}


def test_no_update_leaves_what_is_in_force(device):
    assert (update(device).document, device.state.read().generation) == (FIRST, 1)


def test_a_document_in_a_folder_that_is_not_there_is_a_refusal(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*trust.epk: No such file"):
        update_trust(tmp_path / "nowhere" / "trust.epk", [])


def test_no_update_leaves_the_file(tmp_path):
    path = tmp_path / "trust.epk"
    path.write_bytes(file_of(FIRST))
    assert (update_trust(path, []).document, path.read_bytes()) == (FIRST, file_of(FIRST))


def test_a_refused_update_changes_nothing(device, tmp_path):
    (tmp_path / "3.epk").write_bytes(file_of(THIRD, RELEASE))
    with pytest.raises(SignatureError):
        update(device, "2.epk", "3.epk")
    assert (device.state.read().generation, device.state.read().trust) == (1, StoredTrust())


def test_putting_the_old_document_back_does_not_bring_it_back(device, tmp_path):
    update(device, "2.epk")
    again = Device.from_file(tmp_path / "device.json")
    assert again.trust == FIRST.release
    with pytest.raises(SignatureError):
        verify_bundle("old.edgepack", device=again)


def test_an_update_is_not_applied_twice(device):
    update(device, "2.epk")
    with pytest.raises(RollbackError, match="version 2, this device has version 2"):
        update(device, "2.epk")


def test_a_newer_document_of_the_owner_counts(device, tmp_path):
    update(device, "2.epk")
    newest = replace(THIRD, release=trust(RELEASE))
    (tmp_path / "trust.epk").write_bytes(file_of(newest))
    again = Device.from_file(tmp_path / "device.json")
    assert verify_bundle("old.edgepack", device=replace(again, accepted={}))[0].header.product == "digits"


def test_a_plain_trust_file_takes_no_update(device, tmp_path):
    with pytest.raises(IncompatibleError, match="plain trust file"):
        update(replace(device, trust_state=None), "2.epk")


def test_the_command_keeps_the_update_in_the_state(device, capsys):
    assert main(["trust", "update", "2.epk", "--device", "device.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 2
    assert device.state.read().trust.version == 2


def test_a_device_without_a_state_has_its_trust_document_replaced(device, tmp_path):
    realbundle.write_device(tmp_path, trust="trust.epk")
    assert main(["trust", "update", "3.epk", "2.epk", "--device", "device.json"]) == 0
    assert (tmp_path / "trust.epk").read_bytes() == (tmp_path / "3.epk").read_bytes()


def test_an_update_that_resets_floors_is_refused_where_it_would_not_reset_them(device, tmp_path, capsys):
    before = (tmp_path / "trust.epk").read_bytes()
    assert main(["trust", "update", "2.epk", "3.epk", "--trust", "trust.epk"]) == 1
    assert "version 2 resets floors" in (said := capsys.readouterr().err)
    assert "--device FILE" in said
    assert (tmp_path / "trust.epk").read_bytes() == before


@pytest.mark.parametrize("trust", ["trust.json", "release.pub.pem"])
def test_a_device_with_a_plain_trust_file_and_no_state_takes_no_update(device, tmp_path, capsys, trust):
    realbundle.write_device(tmp_path, trust=trust)
    before = (tmp_path / trust).read_bytes()
    assert main(["trust", "update", "2.epk", "--device", "device.json"]) == 1
    assert f"{trust} is a plain trust file" in capsys.readouterr().err
    assert (tmp_path / trust).read_bytes() == before


def test_a_device_made_without_a_trust_file_says_so(device):
    with pytest.raises(SchemaError, match="made without a trust file"):
        update_trust_of(replace(device, state=None, trust_file=None), [])


def test_two_updates_at_one_time_cannot_bring_an_older_document_back(device, tmp_path):
    # While this process holds the folder, the other one must wait to read what it would replace.
    command = [sys.executable, "-m", "edgepack_runtime.cli", "trust", "update", "2.epk", "--device", "device.json"]
    realbundle.write_device(tmp_path, trust="trust.epk")
    with locked(tmp_path, patience=1, busy="testing"):
        other = subprocess.Popen(
            command, env={"PYTHONPATH": os.pathsep.join(sys.path)}, stderr=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=2)
        (tmp_path / "trust.epk").write_bytes((tmp_path / "3.epk").read_bytes())
    said = other.communicate()[1]
    assert (other.returncode, "version 2, this device has version 3" in said) == (1, True)


def test_a_refused_document_is_named(device, tmp_path):
    (tmp_path / "3.epk").write_bytes(file_of(THIRD, RELEASE))
    with pytest.raises(SignatureError, match=r"^3\.epk: "):
        update(device, "2.epk", "3.epk")


def test_a_damaged_document_of_the_device_is_named_and_not_taken_for_the_bundle(device, tmp_path):
    (tmp_path / "trust.epk").write_bytes(file_of(FIRST)[:-1])
    with pytest.raises(FormatError, match=r"trust\.epk: the file has"):
        Device.from_file(tmp_path / "device.json")


def test_the_command_shows_the_document_in_force_and_not_the_one_in_the_file(device, capsys):
    update(device, "2.epk")
    assert main(["trust", "show", "--device", "device.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 2


def test_a_device_without_a_state_shows_the_document_in_its_file(device, tmp_path, capsys):
    realbundle.write_device(tmp_path, trust="trust.epk")
    assert main(["trust", "show", "--device", "device.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1


def test_a_plain_trust_file_is_no_document_to_show(device, tmp_path, capsys):
    realbundle.write_device(tmp_path)
    assert main(["trust", "show", "--device", "device.json"]) == 1
    assert "trust.json: a plain trust file" in capsys.readouterr().err


def test_the_name_of_a_key_gives_a_terminal_no_orders(device, tmp_path, capsys):
    name = "\x1b[2J release"
    loud = replace(FIRST, release=TrustedKeys(keys=(TrustedKey(name=name, public_key=RELEASE.public_key()),)))
    (tmp_path / "loud.epk").write_bytes(file_of(loud))
    assert main(["trust", "show", "loud.epk"]) == 0
    assert r"\x1b[2J release" in capsys.readouterr().out


def test_a_reset_counts_for_every_profile_the_device_was():
    state = DeviceState(generation=1, floors=(Floor(product="digits", profile="a", security_version=9),))
    after = state.trusting(StoredTrust(version=1, document=b"x"), {"digits": 2}, "b")
    assert (after.floors_of("a"), after.floors_of("b")) == ({"digits": 2}, {"digits": 2})
