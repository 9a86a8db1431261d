"""`edgepack-device install`, `activate`, `rollback`, `status` and `gc`."""

from __future__ import annotations

import json

import pytest

import realbundle
import storekit
from edgepack_runtime.activation import open_active
from edgepack_runtime.cli import main
from edgepack_runtime.device import Device

DEVICE = ("--device", "device.json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: float(storekit.CLOCK))
    realbundle.write_device(tmp_path, state="state", store="store")
    for version in (3, 4):
        (tmp_path / f"{version}.edgepack").write_bytes(storekit.bundle(version))
    return tmp_path


@pytest.fixture
def call(folder, capsys):
    def call(*words: str) -> tuple[int, str, str]:
        code = main([*words, *DEVICE])
        return code, *capsys.readouterr()

    call("state", "create")
    return call


def status(call) -> dict[str, object]:
    (product,) = json.loads(call("status", "--json")[1])["products"]
    return product


def test_a_new_device_has_nothing_installed(call):
    assert call("status") == (0, "nothing is installed\n", "")


def test_a_bundle_is_installed_and_activated(call):
    code, out, err = call("install", "3.edgepack")
    assert (code, err) == (0, "")
    assert (
        out.splitlines()[-1]
        == "digits 1.3 is installed; `edgepack-device activate digits --device FILE` makes it run"
    )
    assert call("activate", "digits")[:2] == (
        0,
        "digits 1.3 is active; below security version 3 nothing of it runs here\n",
    )


def test_the_command_that_install_shows_activates(call):
    shown = call("install", "3.edgepack")[1].split("`")[1]
    words = shown.removeprefix("edgepack-device ").removesuffix(" --device FILE").split()
    assert call(*words)[0] == 0


def test_installing_and_activating_in_one_go(call):
    code, out, _ = call("install", "3.edgepack", "--activate", "--json")
    found = json.loads(out)
    assert (code, found["verdict"], found["self_test"]["samples"]) == (0, "active", 3)
    assert found["copied"] == {"written": len(storekit.bundle(3)), "found": 0}


def test_installing_the_active_bundle_again_says_that_nothing_was_done(call):
    call("install", "3.edgepack", "--activate")
    assert call("install", "3.edgepack", "--activate")[1] == (
        "digits 1.3 is the active bundle already, and whole: nothing was done\n"
    )


def test_a_trial_is_described(call):
    call("install", "3.edgepack", "--activate")
    out = call("install", "4.edgepack", "--activate", "--health-starts", "2", "--health-minutes", "5")[1]
    assert out.splitlines()[-1] == (
        "on trial: it must be reported healthy within 2 starts and 5 minutes after the first; else 1.3 comes back"
    )


def test_minutes_alone_come_with_three_starts(call):
    call("install", "3.edgepack")
    call("activate", "digits", "--health-minutes", "5")
    assert status(call)["health"] == {"started": 0, "starts": 3, "seconds": 300}


def test_the_status_is_said(call, folder):
    call("install", "3.edgepack", "--activate")
    call("install", "4.edgepack", "--activate", "--health-starts", "1")
    for _ in range(2):
        open_active("digits", device=Device.from_file(folder / "device.json")).close()
    lines = call("status")[1].splitlines()
    assert lines[0] == "digits: floor 3"
    assert lines[1].startswith("  active 1.3, security version 3: good, ")
    assert lines[2].startswith(
        "  other  1.4, security version 4: failed (it was opened once and never reported healthy), "
    )


def test_the_status_as_json_has_every_role(call):
    call("install", "3.edgepack", "--activate")
    call("install", "4.edgepack")
    found = status(call)
    assert (found["product"], found["floor"], found["previous"], found["failed"]) == ("digits", 3, None, None)
    assert (found["active"]["version"], found["pending"]["version"]) == ("1.3", "1.4")
    assert found["active"] | {"length": 0} == {
        "version": "1.3", "security_version": 3, "state": "good", "length": 0, "note": "",
    }  # fmt: skip
    call("activate", "digits")
    found = status(call)
    assert (found["active"]["version"], found["previous"]["version"], found["pending"]) == ("1.4", "1.3", None)
    assert found["bytes_on_disk"] >= 2 * len(storekit.bundle(3))


def test_a_rollback_is_said(call):
    call("install", "3.edgepack", "--activate")
    call("install", "4.edgepack", "--activate", "--health-starts", "2")
    code, out, _ = call("rollback", "digits", "--json")
    found = json.loads(out)
    assert (code, found["active"]["version"], found["failed"]["version"], found["floor"]) == (0, "1.3", "1.4", 3)


def test_a_rollback_below_the_floor_is_refused_with_the_reason(call):
    call("install", "3.edgepack", "--activate")
    call("install", "4.edgepack", "--activate")
    code, out, err = call("rollback", "digits")
    assert (code, out) == (1, "")
    assert err.startswith("edgepack-device: error: digits 1.3: security version 3 is lower than 4, which this device")


def test_what_was_freed_is_said(call):
    call("install", "3.edgepack", "--activate")
    call("install", "4.edgepack", "--activate")
    assert json.loads(call("gc", "--json")[1])["freed"] > 0
    assert call("gc")[1] == "0 bytes freed\n"


@pytest.mark.parametrize(
    ("words", "field"),
    [(("install", "3.edgepack"), "store"), (("status",), "store"), (("gc",), "state"), (("activate", "x"), "state")],
)
def test_a_device_without_a_folder_is_told_what_to_add(call, folder, words, field):
    folders = {"state": "state", "store": "store"} | {field: None}
    realbundle.write_device(folder, **folders)
    code, _, err = call(*words)
    assert (code, f'"{field}": "FOLDER"' in err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("install", "3.edgepack", "--health-starts", "2"),
        ("install", "3.edgepack", "--health-minutes", "2"),
        ("install", "3.edgepack", "--activate", "--health-starts", "0"),
        ("activate", "digits", "--health-minutes", "1.5"),
        ("activate", "digits", "--health-minutes", "\u0661"),
        ("activate",),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(call, folder, words):
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert (caught.value.code, (folder / "store").exists()) == (2, False)


def test_a_relative_store_folder_is_beside_the_device_file(folder):
    assert Device.from_file(folder / "device.json").store.path == folder / "store"


def test_a_store_that_is_no_path_is_refused(folder):
    realbundle.write_device(folder, store=3)
    assert main(["status", *DEVICE]) == 1
