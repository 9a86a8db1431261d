"""The second reader's primitives, called from here, give the verdicts of the vectors that others published.

RSA-OAEP is not among them: Wycheproof's one message of a content key's length has an empty label, which no grant has
and the reader refuses. `tests/vectors` asks that.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bundlekit import seed
from publishedvectors import HpkeCase, hpke, wycheproof

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "reader-c"
OURS = [case for case in hpke() if case.ours]
SIGNATURES = {
    "ed25519": {"valid": 88, "invalid": 63},
    "ecdsa_secp256r1_sha256": {"valid": 174, "invalid": 310},
}


class View(ctypes.Structure):
    """`bytes` of the reader: where they are, and how many."""

    _fields_ = (("at", ctypes.c_char_p), ("size", ctypes.c_size_t))

    @classmethod
    def of(cls, data: bytes) -> View:
        return cls(data, len(data))


class Primitives:
    """What the reader does with keys, as a shared library."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, result in {
            "public_key": ctypes.c_void_p,
            "private_key": ctypes.c_void_p,
            "may_sign": ctypes.c_bool,
            "is_signed": ctypes.c_bool,
            "open_grant": ctypes.c_bool,
        }.items():
            getattr(self._library, name).restype = result

    def _key(self, reader: str, der: bytes) -> ctypes.c_void_p:
        key = getattr(self._library, reader)(View.of(der))
        assert key
        return ctypes.c_void_p(key)

    def is_signed(self, spki: bytes, value: bytes, message: bytes) -> bool:
        key = self._key("public_key", spki)
        good = self._library.may_sign(key) and self._library.is_signed(key, View.of(value), View.of(message))
        self._library.EVP_PKEY_free(key)
        return bool(good)

    def open_grant(self, pkcs8: bytes, sealed: bytes, info: bytes) -> bytes | None:
        key, out = self._key("private_key", pkcs8), ctypes.create_string_buffer(32)
        good = self._library.open_grant(key, View.of(sealed), View.of(info), out)
        self._library.EVP_PKEY_free(key)
        return out.raw if good else None


@pytest.fixture(scope="module")
def primitives(tmp_path_factory: pytest.TempPathFactory) -> Primitives:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    missing = next((tool for tool in ("make", compiler[0]) if not shutil.which(tool)), None)
    if missing or subprocess.run(["make", "-C", FOLDER, "header"], capture_output=True, check=False).returncode:
        # Whoever develops something else may have no C compiler; where everything is checked, it must be there.
        assert os.environ.get("CI") != "true", f"{missing or 'openssl/opensslv.h'} is missing"
        pytest.skip(f"{missing or 'openssl/opensslv.h'} is missing")
    out = tmp_path_factory.mktemp("reader-c") / "crypto.so"
    sources = [str(FOLDER / f"{name}.c") for name in ("bytes", "container", "crypto", "grants", "hpke")]
    options = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O1", "-shared", "-fPIC"]
    command = [*compiler, *options, *sources, "-lcrypto", "-o", str(out)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Primitives(out)


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_signature_of_wycheproof_gets_its_verdict(primitives: Primitives, name: str) -> None:
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for group, case in wycheproof(name):
        spki, value, message = (bytes.fromhex(text) for text in (group["publicKeyDer"], case["sig"], case["msg"]))
        seen[case["result"]] += 1
        if primitives.is_signed(spki, value, message) != (case["result"] == "valid"):
            wrong.append(f"tc{case['tcId']} {case['comment']}")
    assert (wrong, dict(seen)) == ([], SIGNATURES[name])


@pytest.mark.parametrize("case", OURS, ids=lambda case: case.name)
def test_a_grant_sealed_with_the_keys_of_rfc_9180_opens(primitives: Primitives, case: HpkeCase) -> None:
    pkcs8 = case.device.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    sealed = case.seal_again(seed("content key"))
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert primitives.open_grant(pkcs8, sealed, case.info) == seed("content key")
    assert primitives.open_grant(pkcs8, altered, case.info) is None
    assert primitives.open_grant(pkcs8, sealed, case.info + b"\0") is None


def test_both_kinds_of_hpke_are_asked() -> None:
    assert len(OURS) == 2
