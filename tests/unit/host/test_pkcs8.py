"""Private keys under a passphrase: what we write, OpenSSL and `cryptography` read; what is weak is told."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bundlekit import ed25519, p256, rsa3072, x25519
from edgepack.keys import read_key
from edgepack.pkcs8 import KeyProtection, encrypt_private_key, private_pem, protection_in
from edgepack_runtime.errors import KeyFileError
from edgepack_runtime.keyfiles import load_signing_key

KEYS = {"ed25519": ed25519, "p256": p256, "x25519": x25519, "rsa": rsa3072}
OPENSSL = shutil.which("openssl")


def der(key) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_written_is_read_by_cryptography(kind: str) -> None:
    key = KEYS[kind]()
    assert der(load_pem_private_key(encrypt_private_key(key, b"horse"), b"horse")) == der(key)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("kind", KEYS)
def test_what_is_written_is_read_by_openssl(kind: str, tmp_path) -> None:
    (tmp_path / "key.pem").write_bytes(b"edgepack-role: release\n" + encrypt_private_key(KEYS[kind](), b"horse"))
    command = [OPENSSL, "pkey", "-in", tmp_path / "key.pem", "-passin", "stdin", "-outform", "DER"]
    done = subprocess.run(command, input=b"horse\n", capture_output=True, check=True)
    assert der(load_pem_private_key(pem_of(done.stdout), None)) == der(KEYS[kind]())


def pem_of(data: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    return load_der_private_key(data, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_openssl_names_the_same_algorithms_as_in_its_own_file(tmp_path) -> None:
    key = tmp_path / "plain.pem"
    key.write_bytes(private_pem(ed25519(), None))
    theirs, ours = tmp_path / "theirs.pem", tmp_path / "ours.pem"
    command = [OPENSSL, "pkcs8", "-topk8", "-scrypt", "-in", key, "-out", theirs, "-passout", "stdin"]
    subprocess.run(command, input=b"horse\n", capture_output=True, check=True)
    ours.write_bytes(encrypt_private_key(ed25519(), b"horse"))
    named = [
        [
            line.split(":")[-1]
            for line in listing.splitlines()
            if ":OBJECT" in line.replace(" ", "") or "INTEGER" in line
        ]
        for listing in (
            subprocess.run([OPENSSL, "asn1parse", "-in", path], capture_output=True, text=True, check=True).stdout
            for path in (theirs, ours)
        )
    ]
    assert named[0] == named[1] == ["PBES2", "scrypt", "4000", "08", "01", "aes-256-cbc"]


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(ValueError):
        load_pem_private_key(encrypt_private_key(ed25519(), b"horse"), b"house")


def test_two_files_of_one_key_share_neither_salt_nor_ciphertext() -> None:
    assert encrypt_private_key(ed25519(), b"horse") != encrypt_private_key(ed25519(), b"horse")


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(KeyFileError, match="empty passphrase"):
        encrypt_private_key(ed25519(), b"")


def test_our_own_protection_is_recognised_and_not_weak() -> None:
    found = protection_in(encrypt_private_key(ed25519(), b"horse"))
    assert found == KeyProtection(kdf="scrypt", cost=16384, memory=16 << 20)
    assert not found.is_weak


def test_the_librarys_default_is_recognised_as_weak() -> None:
    pem = ed25519().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"horse"))
    found = protection_in(pem)
    assert found is not None
    assert (found.kdf, found.is_weak) == ("pbkdf2", True)
    assert found.cost < 600_000


def test_openssls_old_format_is_recognised_as_weak() -> None:
    pem = p256().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"horse"))
    assert protection_in(pem) == KeyProtection(kdf="other")
    assert KeyProtection(kdf="other").is_weak


def test_a_key_without_a_passphrase_is_recognised() -> None:
    assert protection_in(private_pem(ed25519(), None)) == KeyProtection(kdf="none")


@pytest.mark.parametrize("body", ["", "MAA=", "MIIB", "////", "MAQCAQEwAA=="])
def test_a_damaged_file_is_of_unknown_strength(body: str) -> None:
    pem = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n".encode()
    assert protection_in(pem) == KeyProtection(kdf="other")


def test_a_public_key_has_no_protection() -> None:
    assert protection_in(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n") is None


def test_openssh_keys_are_of_unknown_strength() -> None:
    pem = ed25519().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert protection_in(pem) == KeyProtection(kdf="other")


def body(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def encrypted(der: bytes) -> bytes:
    marks = [b"-----%s ENCRYPTED PRIVATE KEY-----" % word for word in (b"BEGIN", b"END")]
    return b"\n".join([marks[0], base64.b64encode(der), marks[1], b""])


def test_another_scheme_with_the_same_parameters_is_of_unknown_strength() -> None:
    found = body(encrypt_private_key(ed25519(), b"horse"))
    other = found.replace(bytes.fromhex("2a864886f70d01050d"), bytes.fromhex("2a864886f70d01050e"))
    assert protection_in(encrypted(found)) == KeyProtection(kdf="scrypt", cost=16384, memory=16 << 20)
    assert protection_in(encrypted(other)) == KeyProtection(kdf="other")


def scrypt_of(n: int, r: int) -> bytes:
    """Return a file that says it was encrypted by scrypt of this cost; nothing opens it."""
    found = body(encrypt_private_key(ed25519(), b"horse"))
    # Every length around them grows as the numbers do, and none needs another byte.
    said = found.replace(bytes.fromhex("02024000 020108 020101"), number(n) + number(r) + number(1))
    grown = len(said) - len(found)
    for at in LENGTHS:
        said = said[:at] + bytes([said[at] + grown]) + said[at + 1 :]
    return encrypted(said)


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([2, len(raw)]) + raw


# Of EncryptedPrivateKeyInfo, AlgorithmIdentifier, PBES2-params, keyDerivationFunc and scrypt-params.
LENGTHS = (2, 4, 17, 19, 32)


def test_a_file_of_another_cost_is_still_well_formed() -> None:
    assert protection_in(scrypt_of(2**20, 8)) == KeyProtection(kdf="scrypt", cost=2**20, memory=1 << 30)


@pytest.mark.parametrize(
    ("n", "r", "weak"), [(2**14, 8, False), (2**13, 16, True), (2**14, 7, True), (2**15, 1, True)]
)
def test_scrypt_in_less_memory_than_ours_is_weak(n: int, r: int, weak: bool) -> None:
    found = protection_in(scrypt_of(n, r))
    assert (found.kdf, found.cost, found.is_weak) == ("scrypt", n, weak)


@pytest.mark.parametrize("n", [0, 2**40])
def test_a_scrypt_that_cannot_be_computed_is_a_refusal(tmp_path, n: int) -> None:
    (tmp_path / "k.pem").write_bytes(scrypt_of(n, 8))
    for read in (load_signing_key, read_key):
        with pytest.raises(KeyFileError, match=r"k\.pem: .* (cannot be computed here|does not open)"):
            read(tmp_path / "k.pem", lambda _: b"horse")


def test_a_file_that_was_cut_short_is_of_unknown_strength() -> None:
    assert protection_in(encrypted(body(encrypt_private_key(ed25519(), b"horse"))[:-1])) == KeyProtection(kdf="other")
