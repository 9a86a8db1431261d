"""`edgepack-device accept` and `state`, and `verify` for who has no device."""

from __future__ import annotations

import json

import pytest

import bundlekit
import realbundle
from edgepack_runtime.cli import main
from edgepack_runtime.moments import expiry_in_words


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: float(bundlekit.HEADER.created + 1))
    realbundle.write_device(tmp_path, state="state")
    (tmp_path / "m.edgepack").write_bytes(realbundle.bundle())
    return tmp_path


@pytest.fixture
def call(folder, capsys):
    def call(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        return code, *capsys.readouterr()

    return call


DEVICE = ("--device", "device.json")
NO_DEVICE = ("--trust", "trust.json", "--profile", "bench-board")


def test_a_new_state_has_nothing_in_it(call):
    assert call("state", "create", *DEVICE)[:2] == (
        0,
        "state: generation 1, trust version 0\ntime   nothing accepted yet\n",
    )


def test_a_bundle_is_accepted_and_the_floor_shown(call):
    call("state", "create", *DEVICE)
    code, out, err = call("accept", "m.edgepack", *DEVICE)
    assert (code, err) == (0, "")
    assert out.endswith("digits is accepted: below security version 7 nothing of it runs here\n")
    assert "floor  digits for bench-board: security version 7\n" in call("state", "show", *DEVICE)[1]


def test_accepting_as_json_tells_floor_and_self_test(call):
    call("state", "create", *DEVICE)
    found = json.loads(call("accept", "m.edgepack", *DEVICE, "--json")[1])
    assert (found["verdict"], found["floor"], found["self_test"]["samples"]) == ("accepted", 7, 3)


def test_the_state_as_json(call):
    found = json.loads(call("state", "create", *DEVICE, "--floor", "digits=3", "--json")[1])
    assert found["floors"] == [{"product": "digits", "profile": "bench-board", "floor": 3}]


def test_a_floor_that_was_given_refuses_an_older_bundle(call):
    call("state", "create", *DEVICE, "--floor", "digits=8")
    code, out, err = call("accept", "m.edgepack", *DEVICE)
    assert (code, out) == (1, "")
    assert err.startswith("edgepack-device: error: security version 7 is lower than 8")


@pytest.mark.parametrize("words", [("accept", "m.edgepack"), ("verify", "m.edgepack"), ("state", "show")])
def test_a_device_without_a_state_yet_is_told_what_to_do(call, words):
    code, _, err = call(*words, *DEVICE)
    assert (code, "hint: edgepack-device state create" in err) == (1, True)


@pytest.mark.parametrize("words", [("accept", "m.edgepack"), ("state", "create"), ("state", "show")])
def test_a_device_that_names_no_state_folder_is_told_what_to_add(call, folder, words):
    realbundle.write_device(folder)
    code, _, err = call(*words, *DEVICE)
    assert (code, '"state": "FOLDER"' in err) == (1, True)


def break_state(folder) -> None:
    for name in ("state.a", "state.b"):
        (folder / "state" / name).write_bytes(b"rust")


def test_the_hint_of_a_broken_state_repairs_it(call, folder):
    call("state", "create", *DEVICE)
    break_state(folder)
    hint = call("verify", "m.edgepack", *DEVICE)[2].splitlines()[1].split("hint: edgepack-device ")[1]
    words = hint.replace("FILE", "device.json").replace("PRODUCT=VERSION", "digits=7").split()
    assert call(*words)[0] == 0
    assert call("verify", "m.edgepack", *DEVICE)[0] == 0


@pytest.mark.parametrize("floors", [(), ("--floor", "digits=1", "--no-floor")])
def test_a_repair_must_say_which_floors_there_were(call, folder, floors):
    call("state", "create", *DEVICE)
    break_state(folder)
    code, _, err = call("state", "repair", *DEVICE, *floors)
    assert (code, "--no-floor" in err) == (1, True)


def test_a_repair_without_floors_must_be_asked_for(call, folder):
    call("state", "create", *DEVICE, "--floor", "digits=9")
    break_state(folder)
    assert call("state", "repair", *DEVICE, "--no-floor")[0] == 0


@pytest.mark.parametrize("floor", ["digits", "=4", "digits=", "digits=-1", "digits=x", "digits=\u0661"])
def test_a_malformed_floor_is_wrong_usage(call, floor):
    with pytest.raises(SystemExit) as caught:
        call("state", "create", *DEVICE, "--floor", floor)
    assert caught.value.code == 2


@pytest.mark.parametrize("floor", ["a/b=1", f"digits={2**64}", "=".join(("x" * 32, "1"))])
def test_a_floor_no_bundle_could_have_is_refused(call, floor):
    code, _, err = call("state", "create", *DEVICE, "--floor", floor)
    assert (code, err.startswith("edgepack-device: error: ")) == (1, True)


def test_a_bundle_is_verified_without_a_device(call, folder):
    (folder / "device.key.pem").unlink()
    (folder / "device.json").unlink()
    assert call("verify", "m.edgepack", *NO_DEVICE)[:2] == (
        0,
        "digits 1.2: signature, profile bench-board and version hold\n",
    )


def test_a_public_key_will_do_for_trust(call):
    assert call("verify", "m.edgepack", "--trust", "release.pub.pem", "--profile", "bench-board")[0] == 0


def test_without_a_device_another_profile_is_refused(call):
    code, _, err = call("verify", "m.edgepack", "--trust", "trust.json", "--profile", "other")
    assert (code, "built for profile 'bench-board'" in err) == (1, True)


def test_without_a_device_an_altered_payload_is_refused(call, folder):
    data = bytearray((folder / "m.edgepack").read_bytes())
    data[-1] ^= 1
    (folder / "m.edgepack").write_bytes(data)
    code, _, err = call("verify", "m.edgepack", *NO_DEVICE)
    assert (code, "segment" in err) == (1, True)


def test_inspect_needs_no_profile(call):
    code, out, _ = call("inspect", "m.edgepack", "--trust", "trust.json")
    assert (code, "can be installed until 2027-01-15 08:00 UTC" in out.splitlines()) == (0, True)


@pytest.mark.parametrize(
    "who",
    [(), (*DEVICE, "--trust", "trust.json"), ("--trust", "trust.json"), (*DEVICE, "--profile", "bench-board")],
    ids=["nobody", "both", "no profile", "two profiles"],
)
def test_verify_needs_a_device_or_trust_and_profile(call, who, capsys):
    with pytest.raises(SystemExit) as caught:
        call("verify", "m.edgepack", *who)
    assert (caught.value.code, "argument" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("expires", "words"),
    [
        (0, "never expires"),
        (86_400, "can be installed until 1970-01-02 00:00 UTC"),
        (2**64 - 1, "can be installed until 18446744073709551615 s after 1970"),
    ],
)
def test_expiry_is_said_in_words(expires, words):
    assert expiry_in_words(expires) == words
