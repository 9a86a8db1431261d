"""Make, show and export keys, and the development identity that a first build uses when no key is named.

Roles are never mixed: a *root* key signs trust updates, a *release* key bundles; a *device* key opens bundles, and an
*issuer* key opens them only to grant them to more devices.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from edgepack.errors import RecipeError
from edgepack.pkcs8 import KeyProtection, private_pem, protection_in
from edgepack.signers import SignerRequest, is_key_uri, open_signer
from edgepack_runtime._fields import canonical_json
from edgepack_runtime._files import file_error, write_whole
from edgepack_runtime.errors import FileError, KeyFileError
from edgepack_runtime.keyfiles import (
    ROLES,
    PassphraseSource,
    load_verifying_key,
    read_key_file,
    read_label,
    write_label,
)
from edgepack_runtime.signing import AnyPublicKey, key_id
from edgepack_runtime.trust import TrustedKeys

__all__ = [
    "ALGORITHMS",
    "PRIVATE_SUFFIX",
    "PUBLIC_SUFFIX",
    "STATE_FOLDER",
    "Identity",
    "KeyInfo",
    "KeyPair",
    "development_identity",
    "device_file",
    "export_public_key",
    "generate_key",
    "identity_in",
    "make_identity",
    "public_pem",
    "read_key",
]

# The first algorithm of a role is its default.
ALGORITHMS = {
    "root": ("ed25519", "p256"),
    "release": ("ed25519", "p256"),
    "issuer": ("x25519", "p256"),
    "device": ("x25519", "p256"),
}
PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key.pem", ".pub.pem"
# Where a device that `device_file` describes keeps its version floors, beside that file.
STATE_FOLDER = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Where a new key's two halves are, and its id (SHA-256 of the public key's SPKI DER, hex)."""

    role: str
    algorithm: str
    private: Path
    public: Path
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What a key file holds. `protection` is None for a public key; `public_key` is None while nobody can open it.

    `role`, `told_id` and, of a key that was not opened, `key_id` are what the file's label says; None where it says
    nothing.
    """

    path: Path
    role: str | None
    algorithm: str | None
    key_id: str | None
    told_id: str | None
    protection: KeyProtection | None
    public_key: AnyPublicKey | None


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


def generate_key(role: str, algorithm: str | None, stem: Path, passphrase: bytes | None = None) -> KeyPair:
    """Return a new key pair, written to STEM.key.pem (0600) and STEM.pub.pem; never overwrites.

    Args:
        role: one of `ALGORITHMS`.
        algorithm: one of the role's `ALGORITHMS`, or None for its first.
        stem: path without ``.key.pem``; its folder is made when missing.
        passphrase: encrypts the private key; None leaves it readable for whoever has the file.

    Raises:
        RecipeError: the role or its algorithm is unknown.
        KeyFileError: the passphrase is empty.
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
        private=stem.with_name(stem.name + PRIVATE_SUFFIX),
        public=stem.with_name(stem.name + PUBLIC_SUFFIX),
        key_id=key_id(public).hex(),
    )
    private = write_label(role, key_id(public)) + private_pem(key, passphrase)
    _make_folder(stem.parent)
    # Looked at before either is written: half a pair is worse than none. The writes refuse a race.
    for path in (pair.private, pair.public):
        if path.exists():
            raise FileError(f"{path} exists and is not overwritten")
    write_whole(pair.private, private, mode=0o600, replace=False)
    try:
        write_whole(pair.public, public_pem(public, role), replace=False)
    except FileError:
        # Nobody has used it yet.
        with contextlib.suppress(OSError):
            pair.private.unlink()
        raise
    return pair


def public_pem(public_key: AnyPublicKey, role: str | None) -> bytes:
    """Return a public key as PEM, labelled if its role is known."""
    label = b"" if role is None else write_label(role, key_id(public_key))
    return label + public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def export_public_key(uri: str, passphrase: PassphraseSource | None = None) -> bytes:
    """Return the public half of the private key in a file, as PEM with the same label, or of a key in a token.

    Raises:
        KeyFileError: it cannot be found, read or opened, or is no private key.
    """
    if is_key_uri(uri):
        return public_pem(open_signer(SignerRequest(uri=uri, roles=ROLES, passphrase=passphrase)).public_key, None)
    path = Path(uri)
    key = read_key(path, passphrase)
    if key.protection is None:
        raise KeyFileError(f"{path}: this is a public key already")
    if key.public_key is None:
        raise KeyFileError(f"{path}: the private key is protected by a passphrase, and none was given")
    return public_pem(key.public_key, key.role)


def read_key(path: Path, passphrase: PassphraseSource | None = None) -> KeyInfo:
    """Return what a private or public key file holds; an encrypted one is opened only if a passphrase can be had.

    Raises:
        KeyFileError: it cannot be read or opened, or is no key of a kind edgepack uses.
    """
    pem = read_key_file(path)
    label, protection = read_label(pem), protection_in(pem)
    public_key: object = None
    try:
        if protection is None:
            public_key = load_pem_public_key(pem)
        elif protection.kdf == "none" or passphrase is not None:
            secret = None if protection.kdf == "none" or passphrase is None else passphrase(str(path))
            public_key = load_pem_private_key(pem, secret).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "no PEM key" if protection is None or protection.kdf == "none" else "the passphrase does not open it"
        raise KeyFileError(f"{path}: {why}") from None
    except (InternalError, MemoryError):
        # OpenSSL's answer to a scrypt of no cost at all, or of more memory than there is.
        raise KeyFileError(f"{path}: the private key is encrypted in a way that cannot be computed here") from None
    if public_key is None:
        return KeyInfo(
            path=path,
            role=label.role,
            algorithm=None,
            key_id=label.key_id,
            told_id=label.key_id,
            protection=protection,
            public_key=None,
        )
    algorithm = _algorithm(path, public_key)
    found: AnyPublicKey = public_key  # type: ignore[assignment]  # _algorithm narrowed it
    return KeyInfo(
        path=path,
        role=label.role,
        algorithm=algorithm,
        key_id=key_id(found).hex(),
        told_id=label.key_id,
        protection=protection,
        public_key=found,
    )


def _algorithm(path: Path, key: object) -> str:
    if isinstance(key, Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, X25519PublicKey):
        return "x25519"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "p256"
    if isinstance(key, RSAPublicKey):
        return f"rsa{key.key_size}"
    raise KeyFileError(
        f"{path}: a key of kind {type(key).__name__} is of no use here", hint="ed25519, x25519, p256 or RSA-3072"
    )


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
    if not identity.trust.exists():
        _make_whole(folder)
    return identity


def _make_whole(folder: Path) -> None:
    """Make an identity elsewhere and give it its name at once: it may be interrupted, and two may be at it."""
    _make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".identity-", dir=folder.parent) as made:
            make_identity(Path(made, "new"))
            Path(made, "new").rename(folder)
    except OSError as error:
        # Another process was faster; a folder that holds no identity is the user's to look at.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not identity_in(folder).trust.exists():
            raise file_error("make", folder, error) from None


def device_file(profile: str, trust: str, key: str) -> bytes:
    """Return the text of a device.json: what `edgepack_runtime.Device.from_file` reads.

    The device keeps its version floors in a folder beside it, which `edgepack-device state create` makes there.
    """
    return canonical_json({"profile": profile, "trust": trust, "key": key, "state": STATE_FOLDER}) + b"\n"
