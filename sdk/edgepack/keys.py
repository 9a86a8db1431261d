"""Make keys, and the development identity that a first build uses when no key is named.

Roles are never mixed: a *release* key signs bundles, a *device* key opens them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edgepack.errors import RecipeError
from edgepack_runtime._fields import canonical_json
from edgepack_runtime._files import file_error, write_whole
from edgepack_runtime.errors import FileError
from edgepack_runtime.keyfiles import load_verifying_key
from edgepack_runtime.signing import key_id
from edgepack_runtime.trust import TrustedKeys

__all__ = [
    "ALGORITHMS",
    "Identity",
    "KeyPair",
    "development_identity",
    "device_file",
    "generate_key",
    "identity_in",
    "make_identity",
]

# The first algorithm of a role is its default.
ALGORITHMS = {"release": ("ed25519", "p256"), "device": ("x25519", "p256")}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Where a new key's two halves are, and its id (SHA-256 of the public key's SPKI DER, hex)."""

    role: str
    algorithm: str
    private: Path
    public: Path
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The files one development setup needs: a release key, a device key, and what the device trusts."""

    signing_key: Path
    recipient: Path
    device_key: Path
    trust: Path


def _new_key(algorithm: str) -> Ed25519PrivateKey | X25519PrivateKey | EllipticCurvePrivateKey:
    if algorithm == "ed25519":
        return Ed25519PrivateKey.generate()
    if algorithm == "x25519":
        return X25519PrivateKey.generate()
    return generate_private_key(SECP256R1())


def generate_key(role: str, algorithm: str | None, stem: Path) -> KeyPair:
    """Return a new key pair, written to STEM.key.pem (0600) and STEM.pub.pem; never overwrites.

    Args:
        role: ``release`` or ``device``.
        algorithm: one of the role's `ALGORITHMS`, or None for its first.
        stem: path without ``.key.pem``; its folder is made when missing.

    Raises:
        RecipeError: the role or its algorithm is unknown.
        FileError: a file exists or cannot be written.
    """
    if role not in ALGORITHMS:
        raise RecipeError(f"role {role!r} is not known", hint=f"known are {', '.join(ALGORITHMS)}")
    algorithm = algorithm or ALGORITHMS[role][0]
    if algorithm not in ALGORITHMS[role]:
        raise RecipeError(f"a {role} key cannot be {algorithm!r}", hint=f"possible are {', '.join(ALGORITHMS[role])}")
    if not stem.name:
        raise FileError(f"{stem} is a folder, not the start of a file name", hint="e.g. --out keys/release")
    key = _new_key(algorithm)
    public = key.public_key()
    pair = KeyPair(
        role=role,
        algorithm=algorithm,
        private=stem.with_name(f"{stem.name}.key.pem"),
        public=stem.with_name(f"{stem.name}.pub.pem"),
        key_id=key_id(public).hex(),
    )
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _make_folder(stem.parent)
    # Looked at before either is written: half a pair is worse than none. The writes refuse a race.
    for path in (pair.private, pair.public):
        if path.exists():
            raise FileError(f"{path} exists and is not overwritten")
    write_whole(pair.private, private_pem, mode=0o600, replace=False)
    write_whole(pair.public, public_pem, replace=False)
    return pair


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise file_error("make folder", folder, error) from None


def make_identity(folder: Path) -> Identity:
    """Return a new development identity in `folder`: release and device keys, and the trust file naming the first.

    Raises:
        FileError: a file exists or cannot be written.
    """
    release = generate_key("release", None, folder / "release")
    device = generate_key("device", None, folder / "device")
    identity = Identity(
        signing_key=release.private,
        recipient=device.public,
        device_key=device.private,
        trust=folder / "trust.json",
    )
    trust = TrustedKeys.of([load_verifying_key(release.public)], threshold=1)
    write_whole(identity.trust, canonical_json(trust.to_json()) + b"\n", replace=False)
    return identity


def identity_in(folder: Path) -> Identity:
    """Return where `make_identity` puts the files of an identity in `folder`, whether they exist or not."""
    return Identity(
        signing_key=folder / "release.key.pem",
        recipient=folder / "device.pub.pem",
        device_key=folder / "device.key.pem",
        trust=folder / "trust.json",
    )


def development_identity() -> Identity:
    """Return this user's own development identity, made on first use; never for production.

    It lies in ``$EDGEPACK_HOME``, else the user's data folder.

    Raises:
        FileError: it cannot be made.
    """
    base = os.environ.get("EDGEPACK_HOME") or Path(
        os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share", "edgepack"
    )
    folder = Path(base) / "development"
    identity = identity_in(folder)
    # The trust file is written last: where it is, everything is.
    return identity if identity.trust.exists() else make_identity(folder)


def device_file(profile: str, trust: str, key: str) -> bytes:
    """Return the text of a device.json: what `edgepack_runtime.Device.from_file` reads."""
    return canonical_json({"profile": profile, "trust": trust, "key": key}) + b"\n"
