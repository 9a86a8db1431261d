"""What every start takes of `cryptography` is what its public modules offer, wherever a version of it keeps that."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers import aead

from edgepack_runtime import _crypto

# Named here: the wheel for devices has no ``__all__`` in this module.
NAMES = ("Encoding", "PublicFormat", "load_der_public_key", "load_pem_private_key", "load_pem_public_key")
PUBLIC = [(aead, "AESGCM"), *((serialization, name) for name in NAMES)]
# A version without the names that are not promised: all that they are needed for is there before they go.
ELSEWHERE = """
import sys
import cryptography.hazmat.bindings._rust as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers import aead
del library.openssl
from edgepack_runtime import _crypto
cipher = _crypto.AESGCM(bytes(32))
assert cipher.decrypt(bytes(12), cipher.encrypt(bytes(12), b"model", None), None) == b"model"
assert _crypto.load_pem_private_key is serialization.load_pem_private_key
print(_crypto.sha256(b"model").hex())
"""
START = """
import sys
from edgepack_runtime import Device, open_bundle
print(*(name for name in sys.modules if name in sys.argv[1:]))
"""
SLOW = ["pathlib", "hashlib", "hmac", "random", "zstandard", "cryptography.hazmat.primitives.serialization"]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_it_is_the_public_one(module, name):
    assert getattr(_crypto, name) is getattr(module, name)


def test_another_version_may_keep_them_elsewhere():
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == hashlib.sha256(b"model").hexdigest()


@pytest.mark.parametrize("data", [b"", b"a" * 3000, bytearray(b"abc"), memoryview(b"abcdef")[2:4]])
def test_a_digest_is_that_of_the_standard_library(data):
    assert _crypto.sha256(data) == hashlib.sha256(data).digest()


def test_nothing_slow_is_imported_before_a_bundle_is_opened():
    done = subprocess.run([sys.executable, "-c", START, *SLOW], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
