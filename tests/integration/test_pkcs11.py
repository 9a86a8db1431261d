"""A release key in a real PKCS#11 token, Debian's SoftHSM2: the private key never leaves it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundlekit import ed25519, make, open_all, trust
from edgepack.errors import RecipeError
from edgepack.keys import export_public_key
from edgepack.recipe import load_recipe
from edgepack.signers import SignerRequest, open_signer
from edgepack.signers.pkcs11 import parse_uri
from edgepack.trustdoc import sign_document
from edgepack_runtime.errors import KeyFileError, SignatureError
from edgepack_runtime.keyfiles import load_verifying_key
from edgepack_runtime.signing import TRUST_PAYLOAD_TYPE, key_id, verify_threshold
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.trust_update import TrustDocument, provision, trust_container

MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]
PIN = "1234-not-a-secret"
SIGNED = make().signed


def missing() -> str | None:
    """Return what the tests need and do not have."""
    if importlib.util.find_spec("pkcs11") is None:
        return "python-pkcs11 is not installed"
    if shutil.which("softhsm2-util") is None or not any(path.exists() for path in MODULES):
        return "softhsm2 is not installed"
    return None


@dataclass(frozen=True)
class Token:
    folder: Path
    module: Path
    config: Path

    @property
    def pin(self) -> Path:
        return self.folder / "pin"

    def uri(self, key: str, *, token: str = "release", query: str | None = None) -> str:
        return f"pkcs11:token={token};object={key}?" + (
            f"module-path={self.module}&pin-source=file:{self.pin}" if query is None else query
        )

    def signer(self, key: str):
        return open_signer(SignerRequest(uri=self.uri(key)))


def encoded(curve: str) -> bytes:
    """Return EC_PARAMS: a curve's object id, or, as SoftHSM wants Ed25519, its name as a PrintableString."""
    from pkcs11.util.ec import encode_named_curve_parameters

    is_named = curve == "edwards25519"
    return bytes([0x13, len(curve)]) + curve.encode() if is_named else encode_named_curve_parameters(curve)


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """A fresh token with an Ed25519 and a P-256 key pair."""
    if os.environ.get("CI") and missing() == "softhsm2 is not installed":
        subprocess.run(["apt-get", "install", "-y", "softhsm2"], capture_output=True, check=False)
    if (why := missing()) is not None:
        # Where every push is tested, a test that did not run must not look like one that passed.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    import pkcs11

    folder = tmp_path_factory.mktemp("token")
    module = next(path for path in MODULES if path.exists())
    config = folder / "softhsm2.conf"
    (folder / "tokens").mkdir()
    config.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    # For the whole module: a PKCS#11 library reads its configuration once in a process.
    os.environ["SOFTHSM2_CONF"] = str(config)
    command = ["softhsm2-util", "--init-token", "--free", "--label", "release", "--pin", PIN, "--so-pin", "5678"]
    subprocess.run(command, capture_output=True, check=True)
    with next(iter(pkcs11.lib(str(module)).get_tokens(token_label="release"))).open(user_pin=PIN, rw=True) as session:
        for kind, curve, name in (
            (pkcs11.KeyType.EC_EDWARDS, "edwards25519", "ed25519"),
            (pkcs11.KeyType.EC, "secp256r1", "p256"),
            (pkcs11.KeyType.EC, "secp384r1", "p384"),
        ):
            parameters = encoded(curve)
            domain = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: parameters}, local=True)
            domain.generate_keypair(store=True, label=name, id=name.encode())
    found = Token(folder=folder, module=module, config=config)
    found.pin.write_text(PIN + "\n")
    yield found
    os.environ.pop("SOFTHSM2_CONF", None)


@pytest.mark.parametrize("key", ["ed25519", "p256"])
def test_a_signature_from_the_token_holds(token: Token, key: str) -> None:
    signer = token.signer(key)
    found = verify_threshold(SIGNED, [signer.sign(SIGNED)], {signer.key_id: signer.public_key}, 1)
    assert found == (signer.key_id,)


def test_a_signature_over_a_bundle_does_not_hold_for_a_trust_update(token: Token) -> None:
    signer = token.signer("p256")
    with pytest.raises(SignatureError, match="is wrong"):
        verify_threshold(SIGNED, [signer.sign(SIGNED)], {signer.key_id: signer.public_key}, 1, TRUST_PAYLOAD_TYPE)


def test_a_key_is_found_by_its_id_as_well(token: Token) -> None:
    uri = token.uri("p256").replace("object=p256", "id=%70%32%35%36")
    assert open_signer(SignerRequest(uri=uri)).key_id == token.signer("p256").key_id


def test_the_module_may_come_from_the_environment(token: Token, monkeypatch) -> None:
    monkeypatch.setenv("PKCS11_MODULE", str(token.module))
    uri = token.uri("p256", query=f"pin-source={token.pin}")
    assert open_signer(SignerRequest(uri=uri)).key_id == token.signer("p256").key_id


def test_the_pin_is_asked_for_where_the_uri_names_no_source(token: Token) -> None:
    uri = token.uri("p256", query=f"module-path={token.module}")
    signer = open_signer(SignerRequest(uri=uri, passphrase=lambda _: PIN.encode()))
    assert signer.sign(SIGNED).key_id == signer.key_id


def test_the_pin_is_in_no_repr(token: Token) -> None:
    assert PIN not in repr(token.signer("ed25519"))


def test_a_wrong_pin_is_refused_and_not_repeated(token: Token) -> None:
    uri = token.uri("p256", query=f"module-path={token.module}")
    with pytest.raises(KeyFileError, match="the PIN is wrong") as refused:
        open_signer(SignerRequest(uri=uri, passphrase=lambda _: b"87654321"))
    assert "87654321" not in repr(refused.value)


def test_a_key_of_another_curve_is_refused(token: Token) -> None:
    with pytest.raises(KeyFileError, match="neither Ed25519 nor P-256"):
        token.signer("p384")


@pytest.mark.parametrize(("key", "name", "complaint"), [
    ("nothing", "release", "0 objects of class public key"),
    ("p256", "nowhere", "0 tokens are so called"),
])  # fmt: skip
def test_what_is_not_there_is_named(token: Token, key: str, name: str, complaint: str) -> None:
    with pytest.raises(KeyFileError, match=complaint):
        open_signer(SignerRequest(uri=token.uri(key, token=name)))


@pytest.mark.parametrize(("module", "complaint"), [
    ("/usr/lib/no-such-module.so", "is no PKCS#11 module"),
    ("libsofthsm2.so", "wanted an absolute path"),
])  # fmt: skip
def test_a_module_that_cannot_be_loaded_is_named(token: Token, module: str, complaint: str) -> None:
    uri = token.uri("p256", query=f"module-path={module}&pin-source={token.pin}")
    with pytest.raises(KeyFileError, match=complaint):
        open_signer(SignerRequest(uri=uri))


@pytest.mark.parametrize(("uri", "complaint"), [
    ("pkcs11:object=k?pin-value=1234", "must not hold the PIN"),
    ("pkcs11:object=k;colour=red", "'colour' is no attribute"),
    ("pkcs11:object=k;object=l", "'object' is no attribute that is known here, has no value, or stands twice"),
    ("pkcs11:object", "'object' is no attribute"),
    ("pkcs11:token=release", "says which key"),
    ("pkcs11:object=k;type=cert", "cannot sign"),
])  # fmt: skip
def test_a_malformed_uri_is_refused(uri: str, complaint: str) -> None:
    with pytest.raises(KeyFileError, match=complaint):
        parse_uri(uri)


def test_a_pin_in_a_uri_is_not_repeated() -> None:
    with pytest.raises(KeyFileError) as refused:
        parse_uri("pkcs11:object=k?pin-value=987654")
    assert "987654" not in repr(refused.value)


def test_a_uri_is_read_percent_decoded() -> None:
    found = parse_uri("pkcs11:token=My%20token;object=a%3Bb;id=%00%ff?module-path=/m%3F.so")
    assert (found.token, found.label, found.object_id, found.module) == ("My token", "a;b", b"\0\xff", "/m?.so")


def test_a_pin_source_that_runs_a_command_is_refused(token: Token) -> None:
    uri = token.uri("p256", query=f"module-path={token.module}&pin-source=|cat {token.pin}")
    with pytest.raises(KeyFileError, match="runs a command"):
        open_signer(SignerRequest(uri=uri))


def test_a_scheme_nobody_knows_is_refused() -> None:
    with pytest.raises(KeyFileError, match="scheme 'awskms' is not known"):
        open_signer(SignerRequest(uri="awskms:alias/release"))


def test_the_command_signs_a_bundle_with_the_token(token: Token, tmp_path) -> None:
    bundle, trusted = tmp_path / "b.edgepack", tmp_path / "trust.json"
    bundle.write_bytes(make().file())
    trusted.write_text(json.dumps(trust().to_json()))
    command = [sys.executable, "-m", "edgepack", "sign", bundle, "--key", token.uri("p256"), "--trust", trusted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    both = TrustedKeys.of([ed25519().public_key(), token.signer("p256").public_key], threshold=2)
    assert open_all(bundle.read_bytes(), trusted=both)


def test_a_root_key_in_the_token_signs_a_trust_document(token: Token) -> None:
    signer = token.signer("ed25519")
    root = TrustedKeys.of([signer.public_key])
    document = TrustDocument(version=1, created=1, root=root, release=trust())
    draft = sign_document(document, [signer], None)
    assert provision(trust_container(draft.file())).document == document


def test_a_recipe_names_a_key_in_a_token_but_no_module(tmp_path) -> None:
    recipe = tmp_path / "edgepack.toml"
    text = (
        '[model]\npath = "m.onnx"\n[data]\ncalibration = "c.npz"\n[build]\nprofiles = ["p"]\n[keys]\nsigning = "%s"\n'
    )
    recipe.write_text(text % "pkcs11:token=release;object=k")
    assert load_recipe(recipe).signing_key == "pkcs11:token=release;object=k"
    recipe.write_text(text % "pkcs11:object=k?module-path=/tmp/stranger.so")
    with pytest.raises(RecipeError, match="must not name a module-path"):
        load_recipe(recipe)


def test_the_public_half_of_a_key_in_the_token_is_exported_as_pem(token: Token, tmp_path) -> None:
    (tmp_path / "k.pub.pem").write_bytes(export_public_key(token.uri("p256")))
    assert key_id(load_verifying_key(tmp_path / "k.pub.pem")) == token.signer("p256").key_id


@pytest.mark.slow
def test_a_build_is_signed_in_the_token(token: Token, shop) -> None:
    done = shop.build("--profile", "raspberry-pi-4", "--key", token.uri("ed25519"), out="by-token")
    assert done.code == 0, done.err
    (shop.folder / "token.pub.pem").write_bytes(export_public_key(token.uri("ed25519")))
    (bundle,) = (shop.folder / "by-token").iterdir()
    shown = shop.run("inspect", bundle, "--trust", "token.pub.pem", "--json")
    assert shown.json()["signed_by"] == [token.signer("ed25519").key_id.hex()]
