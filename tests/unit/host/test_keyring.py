"""Keys with roles and passphrases: where passphrases come from, what a label guards, what the doctor finds."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from bundlekit import ed25519
from edgepack.keydoctor import examine_keys
from edgepack.keys import ALGORITHMS, export_public_key, generate_key, read_key
from edgepack.passphrase import from_descriptor, passphrase_from
from edgepack_runtime.device import Device
from edgepack_runtime.errors import FileError, KeyFileError, SchemaError
from edgepack_runtime.keyfiles import (
    ROLES,
    load_device_key,
    load_recipient,
    load_signing_key,
    load_verifying_key,
    passphrase_in,
    read_label,
)
from edgepack_runtime.signing import key_id


def said(text: bytes):
    return lambda _: text


def edgepack(
    *arguments: object, cwd: Path, fds: tuple[int, ...] = (), stdin: str = ""
) -> subprocess.CompletedProcess:
    """Run the command as a user without a terminal does."""
    environment = os.environ | {"EDGEPACK_HOME": str(cwd / "home"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "edgepack", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, pass_fds=fds, capture_output=True, text=True,
        start_new_session=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("role", ALGORITHMS)
def test_a_key_of_each_role_says_what_it_is(role: str, tmp_path) -> None:
    pair = generate_key(role, None, tmp_path / role)
    found = [read_key(path) for path in (pair.private, pair.public)]
    assert [(key.role, key.key_id, key.algorithm) for key in found] == [(role, pair.key_id, ALGORITHMS[role][0])] * 2


@pytest.mark.parametrize("algorithm", ["ed25519", "p256"])
def test_an_encrypted_signing_key_opens_with_its_passphrase(algorithm: str, tmp_path) -> None:
    pair = generate_key("release", algorithm, tmp_path / "k", b"horse")
    assert key_id(load_signing_key(pair.private, said(b"horse")).public_key()).hex() == pair.key_id


def test_an_encrypted_device_key_opens_with_its_passphrase(tmp_path) -> None:
    pair = generate_key("device", None, tmp_path / "k", b"horse")
    assert key_id(load_device_key(pair.private, said(b"horse")).public_key()).hex() == pair.key_id


def test_a_wrong_passphrase_is_refused_without_repeating_it(tmp_path) -> None:
    pair = generate_key("release", None, tmp_path / "k", b"horse")
    with pytest.raises(KeyFileError, match="passphrase does not open") as refused:
        load_signing_key(pair.private, said(b"battery-staple"))
    assert "battery-staple" not in repr(refused.value)


def test_the_passphrase_of_an_unencrypted_key_is_never_asked_for(tmp_path) -> None:
    pair = generate_key("release", None, tmp_path / "k")

    def ask(what: str) -> bytes:
        raise AssertionError(what)

    assert key_id(load_signing_key(pair.private, ask).public_key()).hex() == pair.key_id


def test_an_encrypted_key_tells_role_and_id_without_being_opened(tmp_path) -> None:
    pair = generate_key("root", None, tmp_path / "k", b"horse")
    found = read_key(pair.private)
    assert (found.role, found.key_id, found.public_key) == ("root", pair.key_id, None)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "release"])
def test_a_key_of_another_role_signs_no_bundle(role: str, tmp_path) -> None:
    pair = generate_key(role, "p256", tmp_path / "k")
    with pytest.raises(KeyFileError, match=f"this is a {role} key, a release key is wanted"):
        load_signing_key(pair.private)


@pytest.mark.parametrize("role", ["root", "release"])
def test_a_signing_key_is_no_recipient(role: str, tmp_path) -> None:
    pair = generate_key(role, "p256", tmp_path / "k")
    with pytest.raises(KeyFileError, match=f"this is a {role} key"):
        load_recipient(pair.public)


def test_a_root_key_is_trusted_for_no_bundle(tmp_path) -> None:
    pair = generate_key("root", None, tmp_path / "k")
    with pytest.raises(KeyFileError, match="a release key is wanted"):
        load_verifying_key(pair.public)


def test_a_key_file_without_a_label_may_be_any_role(tmp_path) -> None:
    pair = generate_key("root", None, tmp_path / "k")
    bare = tmp_path / "bare.pem"
    bare.write_bytes(b"-----BEGIN" + pair.public.read_bytes().partition(b"-----BEGIN")[2])
    assert key_id(load_verifying_key(bare)).hex() == pair.key_id


@pytest.mark.parametrize(
    ("load", "role", "suffix", "complaint"),
    [
        (load_signing_key, "device", ".key.pem", "X25519PrivateKey cannot sign"),
        (load_verifying_key, "device", ".pub.pem", "X25519PublicKey cannot sign"),
        (load_device_key, "release", ".key.pem", "Ed25519PublicKey cannot receive"),
        (load_recipient, "release", ".pub.pem", "Ed25519PublicKey cannot receive"),
    ],
)
def test_without_a_label_the_kind_of_key_still_decides(
    load, role: str, suffix: str, complaint: str, tmp_path
) -> None:
    generate_key(role, None, tmp_path / "k")
    bare = tmp_path / "bare.pem"
    bare.write_bytes(b"-----BEGIN" + (tmp_path / f"k{suffix}").read_bytes().partition(b"-----BEGIN")[2])
    with pytest.raises(KeyFileError, match=complaint):
        load(bare)


def test_a_label_after_the_key_is_none(tmp_path) -> None:
    pair = generate_key("root", None, tmp_path / "k")
    assert read_label(pair.public.read_bytes().partition(b"\n-----BEGIN")[2]).role is None


def test_the_public_half_comes_out_of_the_private_one(tmp_path) -> None:
    pair = generate_key("issuer", None, tmp_path / "k", b"horse")
    assert export_public_key(str(pair.private), said(b"horse")) == pair.public.read_bytes()


def test_a_public_key_has_no_public_half_to_export(tmp_path) -> None:
    with pytest.raises(KeyFileError, match="public key already"):
        export_public_key(str(generate_key("issuer", None, tmp_path / "k").public))


# Where passphrases come from.


@pytest.mark.parametrize("text", [b"horse", b"horse\n", b"horse\r\n", b"horse\nsecond line\n"])
def test_the_first_line_of_a_file_is_the_passphrase(text: bytes, tmp_path) -> None:
    (tmp_path / "p").write_bytes(text)
    assert passphrase_in(tmp_path / "p")("") == b"horse"


@pytest.mark.parametrize("text", [b"", b"\n", b"\nhorse\n"])
def test_an_empty_first_line_is_no_passphrase(text: bytes, tmp_path) -> None:
    (tmp_path / "p").write_bytes(text)
    with pytest.raises(KeyFileError, match="empty"):
        passphrase_in(tmp_path / "p")("")


def test_a_passphrase_file_that_is_missing_is_named(tmp_path) -> None:
    with pytest.raises(KeyFileError, match=r"passphrase: cannot read .*nowhere"):
        passphrase_in(tmp_path / "nowhere")("")


def test_a_descriptor_is_read_and_closed() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"horse\n")
    os.close(writing)
    assert from_descriptor(reading)("") == b"horse"
    with pytest.raises(OSError):
        os.fstat(reading)


@pytest.mark.parametrize("descriptor", [-1, 999])
def test_a_descriptor_that_is_not_open_is_refused(descriptor: int) -> None:
    with pytest.raises(KeyFileError, match=f"file descriptor {descriptor}"):
        from_descriptor(descriptor)


def test_a_file_and_a_descriptor_exclude_each_other(tmp_path) -> None:
    with pytest.raises(KeyFileError, match="not both"):
        passphrase_from(tmp_path / "p", 3)


def on_a_terminal(code: str, typed: bytes) -> tuple[int, bytes]:
    """Run Python where a person sits, and type; return its exit code and all that was to be seen."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    seen = b""
    for line in typed.splitlines(keepends=True):
        while not seen.rstrip(b" ").endswith(b":"):
            seen += os.read(terminal, 1024)
        os.write(terminal, line)
        seen += b"|"
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1024):
            seen += part
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen


ASK = "from edgepack.passphrase import {0} as ask; import sys; sys.exit(ask('the key') != b'horse')"


def test_a_passphrase_is_typed_unseen() -> None:
    code, seen = on_a_terminal(ASK.format("ask_terminal"), b"horse\n")
    assert (code, b"passphrase of the key" in seen, b"horse" in seen) == (0, True, False)


def test_a_new_passphrase_is_typed_twice() -> None:
    code, seen = on_a_terminal(ASK.format("ask_terminal_twice"), b"horse\nhorse\n")
    assert (code, b"the same again" in seen, b"horse" in seen) == (0, True, False)


def test_a_new_passphrase_that_was_mistyped_is_refused() -> None:
    code, seen = on_a_terminal(ASK.format("ask_terminal_twice"), b"horse\nhouse\n")
    assert (code, b"not the same" in seen) == (1, True)


# On the device.


def device_json(folder: Path, extra: str) -> Path:
    generate_key("release", None, folder / "release")
    path = folder / "device.json"
    path.write_text(f'{{"profile": "p", "trust": "release.pub.pem", "key": "device.key.pem"{extra}}}')
    return path


def test_a_device_opens_its_encrypted_key_with_its_passphrase_file(tmp_path) -> None:
    pair = generate_key("device", None, tmp_path / "device", b"horse")
    (tmp_path / "secret").write_text("horse\n")
    device = Device.from_file(device_json(tmp_path, ', "passphrase_file": "secret"'))
    assert device.key is not None
    assert key_id(device.key.public_key()).hex() == pair.key_id


def test_a_device_without_the_passphrase_says_what_is_missing(tmp_path) -> None:
    generate_key("device", None, tmp_path / "device", b"horse")
    with pytest.raises(KeyFileError, match="protected by a passphrase") as refused:
        Device.from_file(device_json(tmp_path, ""))
    assert "passphrase_file" in str(refused.value.hint)


def test_a_passphrase_file_for_an_unencrypted_device_key_is_refused(tmp_path) -> None:
    generate_key("device", None, tmp_path / "device")
    (tmp_path / "secret").write_text("horse\n")
    with pytest.raises(SchemaError, match=r"passphrase_file: .*not encrypted"):
        Device.from_file(device_json(tmp_path, ', "passphrase_file": "secret"'))


# The doctor.


def complaints(*paths: Path) -> list[tuple[bool, str]]:
    return [(finding.is_error, finding.text) for finding in examine_keys(paths)[1]]


def test_good_keys_are_found_good(tmp_path) -> None:
    generate_key("release", None, tmp_path / "release", b"horse")
    generate_key("device", None, tmp_path / "device")
    keys, findings = examine_keys([tmp_path])
    assert (len(keys), findings) == (4, ())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_private_key_that_others_can_read_or_write_is_an_error(mode: int, tmp_path) -> None:
    pair = generate_key("device", None, tmp_path / "device")
    pair.private.chmod(mode)
    assert complaints(tmp_path) == [(True, f"a private key that others can read (mode {mode:04o})")]


def test_a_passphrase_behind_2048_rounds_is_an_error(tmp_path) -> None:
    path = tmp_path / "old.pem"
    path.write_bytes(ed25519().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"horse")))
    path.chmod(0o600)
    ((is_error, text),) = complaints(path)
    assert is_error
    assert "can be guessed fast (PBKDF2" in text


@pytest.mark.parametrize("role", ["root", "release", "issuer"])
def test_an_unencrypted_key_of_the_publisher_is_a_warning(role: str, tmp_path) -> None:
    generate_key(role, None, tmp_path / role)
    assert complaints(tmp_path) == [(False, f"{'an' if role == 'issuer' else 'a'} {role} key without a passphrase")]


def test_a_lost_public_half_is_a_warning(tmp_path) -> None:
    generate_key("device", None, tmp_path / "device").public.unlink()
    assert complaints(tmp_path) == [(False, "device.pub.pem is missing")]


def test_halves_of_two_keys_under_one_name_are_an_error(tmp_path) -> None:
    generate_key("device", None, tmp_path / "device").public.unlink()
    generate_key("device", None, tmp_path / "other").public.rename(tmp_path / "device.pub.pem")
    (tmp_path / "other.key.pem").unlink()
    assert complaints(tmp_path) == [(True, "is not the public half of device.key.pem")]


def test_one_key_in_two_roles_is_an_error(tmp_path) -> None:
    pair = generate_key("issuer", None, tmp_path / "issuer", b"horse")
    twin = tmp_path / "device.pub.pem"
    twin.write_bytes(pair.public.read_bytes().replace(b"role: issuer", b"role: device"))
    ((is_error, text),) = complaints(tmp_path)
    assert is_error
    assert text.startswith("one key in two roles: device in")


def test_a_label_of_another_key_is_an_error(tmp_path) -> None:
    pair = generate_key("device", None, tmp_path / "device")
    text = pair.public.read_bytes()
    pair.public.write_bytes(text.replace(pair.key_id.encode(), b"0" * 64))
    assert complaints(pair.public) == [(True, "its label names another key")]


def test_a_file_that_is_no_key_is_an_error(tmp_path) -> None:
    (tmp_path / "x.pem").write_text("hello")
    ((is_error, text),) = complaints(tmp_path)
    assert is_error
    assert text == "no PEM key"


def test_a_path_that_does_not_exist_is_refused(tmp_path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        examine_keys([tmp_path / "nowhere"])


# The commands.


def test_without_a_terminal_a_release_key_is_not_made_unencrypted_by_accident(tmp_path) -> None:
    done = edgepack("keys", "generate", "--role", "release", "-o", "k", cwd=tmp_path)
    assert (done.returncode, list(tmp_path.glob("k*"))) == (1, [])
    assert "no terminal to ask on" in done.stderr
    assert "--passphrase-file" in done.stderr


def test_a_passphrase_from_a_descriptor_encrypts_the_key(tmp_path) -> None:
    done = edgepack(
        "keys", "generate", "--role", "release", "-o", "k", "--passphrase-fd", "0", cwd=tmp_path, stdin="horse"
    )
    assert done.returncode == 0, done.stderr
    assert load_signing_key(tmp_path / "k.key.pem", said(b"horse"))


def test_no_option_takes_the_passphrase_itself(tmp_path) -> None:
    done = edgepack("keys", "generate", "--role", "release", "-o", "k", "--passphrase", "horse", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "k.key.pem").exists()


def test_the_doctors_exit_code_is_1_for_an_error_and_0_for_a_warning(tmp_path) -> None:
    pair = generate_key("release", None, tmp_path / "release")
    codes = [edgepack("keys", "doctor", ".", cwd=tmp_path).returncode]
    pair.private.chmod(0o644)
    done = edgepack("keys", "doctor", ".", cwd=tmp_path)
    assert [*codes, done.returncode] == [0, 1]
    assert len(done.stderr.splitlines()) == 1


def test_the_command_exports_what_generate_wrote(tmp_path) -> None:
    pair = generate_key("root", None, tmp_path / "root")
    done = edgepack("keys", "export-public", "root.key.pem", cwd=tmp_path)
    assert done.stdout.encode() == pair.public.read_bytes()
