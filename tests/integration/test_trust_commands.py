"""Keys, trust and grants from the command line, as a publisher with three root holders uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bundlekit import HEADER, Recipe, make
from edgepack.keys import generate_key
from edgepack_runtime.keyfiles import load_device_key, load_signing_key

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """A folder with keys r1 to r4 (root), k1 and k2 (release), issuer, dev1 and dev2 (device)."""

    folder: Path

    def run(self, *arguments: object, module: str = "edgepack") -> Done:
        environment = os.environ | {"EDGEPACK_HOME": str(self.folder / "home"), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def good(self, *arguments: object, module: str = "edgepack") -> str:
        done = self.run(*arguments, module=module)
        assert done.code == 0, (arguments, done.out, done.err)
        return done.out

    def refused(self, *arguments: object, module: str = "edgepack") -> str:
        """Return the one error line of a command that must be refused."""
        done = self.run(*arguments, module=module)
        assert (done.code, "Traceback" in done.err) == (1, False), (done.out, done.err)
        (line,) = [line for line in done.err.splitlines() if ": error:" in line]
        return line

    def device(self, *arguments: object) -> Done:
        return self.run(*arguments, module="edgepack_runtime.cli")

    def bundle(
        self, *signers: str, name: str = "b.edgepack", recipients: tuple[str, ...] = ("issuer", "dev1")
    ) -> Path:
        """Write a bundle signed and granted as said; the manifest is enough for what does not run a model."""
        recipe = Recipe(
            header=replace(HEADER, expires=0),
            signers=tuple(load_signing_key(self.folder / f"{key}.key.pem") for key in signers),
            recipients=tuple(load_device_key(self.folder / f"{key}.key.pem") for key in recipients),
        )
        path = self.folder / name
        path.write_bytes(make(recipe).file())
        return path


@pytest.fixture
def desk(tmp_path) -> Desk:
    for role, names in (
        ("root", ("r1", "r2", "r3", "r4")), ("release", ("k1", "k2")),
        ("issuer", ("issuer",)), ("device", ("dev1", "dev2")),
    ):  # fmt: skip
        for name in names:
            generate_key(role, None, tmp_path / name)
    (tmp_path / "notes.txt").write_text("which key is where")
    return Desk(tmp_path)


def init(desk: Desk, *signers: str) -> None:
    roots = [part for name in ("r1", "r2", "r3") for part in ("--root", f"{name}.pub.pem")]
    keys = [part for name in signers for part in ("--key", f"{name}.key.pem")]
    desk.good("trust", "init", *roots, "--root-threshold", 2, "--release", "k1.pub.pem", *keys, "-o", "t1.epk")


def test_what_the_roots_before_would_say_is_not_made_up(desk: Desk) -> None:
    init(desk, "r1", "r2")
    desk.good("trust", "add", "t1.epk", "--release", "k2.pub.pem", "--key", "r1.key.pem", "--key", "r2.key.pem",
              "-o", "t2.epk")  # fmt: skip
    alone, beside = (desk.run("trust", "show", "t2.epk", *more, "--json") for more in ((), ("--current", "t1.epk")))
    assert (json.loads(alone.out)["complete"], json.loads(beside.out)["complete"]) == (None, True)
    said = [desk.run("trust", "show", "t2.epk", *more).err for more in ((), ("--current", "t1.epk"))]
    assert ("--current to see" in said[0], said[1]) == (True, "")


def test_roots_sign_one_after_the_other_and_a_draft_is_told(desk: Desk) -> None:
    init(desk, "r1")
    assert json.loads(desk.good("trust", "show", "t1.epk", "--json"))["complete"] is False
    assert "signed by 1 trusted keys, wanted 2" in desk.refused("inspect", desk.bundle("k1"), "--trust", "t1.epk")
    desk.good("trust", "sign", "t1.epk", "--key", "r3.key.pem")
    assert json.loads(desk.good("trust", "show", "t1.epk", "--json"))["complete"] is True


def test_a_rotation_of_roots_reaches_the_device_step_by_step(desk: Desk) -> None:
    init(desk, "r1", "r2")
    (desk.folder / "device.epk").write_bytes((desk.folder / "t1.epk").read_bytes())
    rotate = ["--root", "r3.pub.pem", "--root", "r4.pub.pem", "-o", "t2.epk"]
    desk.good("trust", "rotate", "t1.epk", *rotate, "--key", "r3.key.pem", "--key", "r4.key.pem")
    assert (
        "signed by 1 trusted keys, wanted 2" in desk.device("trust", "update", "t2.epk", "--trust", "device.epk").err
    )
    desk.good("trust", "sign", "t2.epk", "--current", "t1.epk", "--key", "r1.key.pem")
    add = ["--release", "k2.pub.pem", "--key", "r3.key.pem", "--key", "r4.key.pem", "-o", "t3.epk"]
    desk.good("trust", "add", "t2.epk", *add)
    skipped = desk.device("trust", "update", "t3.epk", "--trust", "device.epk")
    assert (skipped.code, "signed by 1 trusted keys, wanted 2" in skipped.err) == (1, True)
    done = desk.device("trust", "update", "t3.epk", "t2.epk", "--trust", "device.epk")
    assert (done.code, (desk.folder / "device.epk").read_bytes()) == (0, (desk.folder / "t3.epk").read_bytes())
    again = desk.device("trust", "update", "t2.epk", "--trust", "device.epk")
    assert again.code == 1


def test_a_revoked_key_and_a_revoked_bundle_are_refused_by_name(desk: Desk) -> None:
    init(desk, "r1", "r2")
    by = ["--key", "r1.key.pem", "--key", "r2.key.pem"]
    bundle = desk.bundle("k1")
    desk.good(
        "trust", "revoke", "t1.epk", "--revoke-key", "k1.pub.pem", "--release", "k2.pub.pem", *by, "-o", "t2.epk"
    )
    assert "which is revoked" in desk.refused("inspect", bundle, "--trust", "t2.epk")
    desk.good("sign", bundle, "--key", "k2.key.pem", "--trust", "t1.epk")
    ids = ["--revoke-bundle", HEADER.bundle_id.hex(), "--reset-floor", "digits=3"]
    assert "manifest" in desk.refused("inspect", bundle, "--trust", "t2.epk")
    desk.good("trust", "revoke", "t2.epk", *ids, *by, "-o", "t3.epk")
    assert f"bundle {HEADER.bundle_id.hex()}" in desk.refused("inspect", bundle, "--trust", "t3.epk")
    shown = json.loads(desk.good("trust", "show", "t3.epk", "--json"))
    assert (shown["floor_reset"], len(shown["revoked_key"])) == (["digits 3"], 1)


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["init", "--root", "r1.pub.pem", "--release", "r1.pub.pem"], "this is a root key, a release key is wanted"),
    (["init", "--root", "r1.pub.pem", "--release", "bare.pem"], "is a root key and a release key"),
    (["init", "--root", "r1.pub.pem", "--release", "k1.pub.pem", "--root-threshold", "0"], "threshold 0"),
    (["init", "--root", "r1.pub.pem", "--release", "k1.pub.pem", "--release-threshold", "2"], "threshold 2, wanted"),
    (["init", "--root", "r1.pub.pem", "--root", "r1.pub.pem", "--release", "k1.pub.pem"], "listed twice"),
    (["init", "--root", "r2.pub.pem", "--release", "k1.pub.pem"], "would not count"),
    (["init", "--root", "r1.pub.pem", "--release", "dev1.pub.pem"], "this is a device key"),
    (["init", "--root", "nowhere.pem", "--release", "k1.pub.pem"], "cannot read nowhere.pem"),
])  # fmt: skip
def test_a_first_document_is_refused_for(desk: Desk, arguments: list[str], complaint: str) -> None:
    text = (desk.folder / "r1.pub.pem").read_text()
    (desk.folder / "bare.pem").write_text(text[text.index("-----BEGIN") :])
    assert complaint in desk.refused("trust", *arguments, "--key", "r1.key.pem", "-o", "t.epk")
    assert not (desk.folder / "t.epk").exists()


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["revoke", "t1.epk", "--revoke-key", "k1.pub.pem"], "threshold 1, wanted 1 to 0"),
    (["revoke", "t1.epk", "--revoke-key", "r3.pub.pem"], "is a root key"),
    (["revoke", "t1.epk"], "nothing to revoke"),
    (["revoke", "t1.epk", "--revoke-bundle", "xyz"], "'xyz' is no bundle id"),
    (["revoke", "t1.epk", "--reset-floor", "digits"], "'digits' is no floor"),
    (["rotate", "t1.epk"], "nothing would change"),
    (["rotate", "k1.pub.pem", "--root", "r4.pub.pem"], "k1.pub.pem is a plain trust file"),
    (["rotate", "notes.txt", "--root", "r4.pub.pem"], "notes.txt: preamble"),
    (["add", "t1.epk", "--release", "k1.pub.pem"], "listed twice"),
])  # fmt: skip
def test_a_next_document_is_refused_for(desk: Desk, arguments: list[str], complaint: str) -> None:
    init(desk, "r1", "r2")
    assert complaint in desk.refused("trust", *arguments, "--key", "r1.key.pem", "--key", "r2.key.pem", "-o", "t.epk")
    assert not (desk.folder / "t.epk").exists()


def test_a_document_is_never_overwritten_by_the_next(desk: Desk) -> None:
    init(desk, "r1", "r2")
    before = (desk.folder / "t1.epk").read_bytes()
    add = ["trust", "add", "t1.epk", "--release", "k2.pub.pem", "--key", "r1.key.pem", "-o", "t1.epk"]
    assert "is not overwritten" in desk.refused(*add)
    assert (desk.folder / "t1.epk").read_bytes() == before


def test_a_root_key_signs_no_bundle(desk: Desk) -> None:
    assert "this is a root key" in desk.refused(
        "sign", desk.bundle("k1"), "--key", "r1.key.pem", "--trust", "k1.pub.pem"
    )


def test_a_device_is_enrolled_and_granted_without_the_release_key(desk: Desk) -> None:
    bundle = desk.bundle("k1")
    (desk.folder / "k1.key.pem").unlink()
    done = desk.device("enroll", "--name", "door-7", "--profile", "raspberry-pi-4", "--out", "door")
    assert done.code == 0, done.err
    before = bundle.read_bytes()
    add = ["grant", "add", bundle, "--recipient", "door/door-7.enrol.json", "--key", "issuer.key.pem"]
    desk.good(*add, "--trust", "k1.pub.pem", "--sidecar")
    assert bundle.read_bytes() == before
    rows = json.loads(desk.good("grant", "list", bundle, "--json"))
    assert [Path(row["path"]).name for row in rows].count("b.edgepack.grant") == 1
    done = desk.run("grant", "remove", bundle, "--recipient", "door/door-7.enrol.json")
    assert (done.code, "keeps it" in done.err) == (0, True)


def test_the_host_enrols_a_device_by_its_public_key_alone(desk: Desk) -> None:
    out = desk.good(
        "device", "enroll", "--name", "d", "--profile", "raspberry-pi-4", "--public", "dev1.pub.pem", "-o", "x"
    )
    assert "private key" not in out
    assert [path.name for path in (desk.folder / "x").iterdir()] == ["d.enrol.json"]


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["grant", "add", "b.edgepack", "--recipient", "k1.pub.pem", "--key", "issuer.key.pem"], "this is a release key"),
    (["grant", "add", "b.edgepack", "--recipient", "dev2.pub.pem", "--key", "dev2.key.pem"], "no grant for this"),
    (["grant", "add", "dev1.pub.pem", "--recipient", "dev2.pub.pem", "--key", "dev1.key.pem"], "no edgepack bundle"),
    (["grant", "add", "b.edgepack", "--recipient", "dev2.pub.pem", "--key", "k1.key.pem"], "this is a release key"),
])  # fmt: skip
def test_a_grant_is_refused_for(desk: Desk, arguments: list[str], complaint: str) -> None:
    desk.bundle("k1")
    assert complaint in desk.refused(*arguments, "--trust", "k1.pub.pem")


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["grant", "remove", "b.edgepack", "--recipient", "00" * 32], "no grant for key 0000"),
    (["grant", "list", "nowhere"], "cannot open nowhere"),
    (["device", "enroll", "--name", "a b", "--profile", "raspberry-pi-4", "-o", "x"], "'a b' is no name"),
    (["device", "enroll", "--name", "d", "--profile", "raspbery", "-o", "x"], "raspbery"),
    (["keys", "show", "b.edgepack"], "no PEM key"),
    (["keys", "generate", "--role", "king", "--no-passphrase", "-o", "x"], "role 'king' is not known"),
    (["sign", "b.edgepack", "--key", "k1.key.pem", "--trust", "k1.pub.pem"], "has signed it already"),
    (["sign", "b.edgepack", "--key", "awskms:x", "--trust", "k1.pub.pem"], "scheme 'awskms' is not known"),
    (["sign", "b.edgepack", "--key", "k2.key.pem", "--trust", "k2.pub.pem"], "signed by 0 trusted keys"),
])  # fmt: skip
def test_a_wrong_request_is_one_line(desk: Desk, arguments: list[str], complaint: str) -> None:
    desk.bundle("k1")
    assert complaint in desk.refused(*arguments)
