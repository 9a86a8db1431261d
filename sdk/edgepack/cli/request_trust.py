"""From the options of `edgepack trust` to a document with signatures."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.cli.request import key_id_from
from edgepack.errors import RecipeError
from edgepack.passphrase import passphrase_from
from edgepack.signers import Signer, SignerRequest, open_signer
from edgepack.trustdoc import (
    Draft,
    RoleChange,
    TrustChange,
    next_document,
    revoke_keys,
    sign_document,
)
from edgepack_runtime._files import write_whole
from edgepack_runtime.errors import FileError
from edgepack_runtime.keyfiles import load_verifying_key
from edgepack_runtime.trust import TrustedKey
from edgepack_runtime.trust_file import read_trust, read_unbelieved
from edgepack_runtime.trust_update import FloorReset

__all__ = ["Keys", "read_draft", "revocation", "role_change", "sign_again", "write_next"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The root keys that shall sign, and where their passphrases come from."""

    uris: tuple[str, ...]
    passphrase_file: Path | None
    passphrase_fd: int | None

    def signers(self) -> list[Signer]:
        """Return them, opened.

        Raises:
            KeyFileError: one cannot be found or opened, or is labelled with another role.
        """
        passphrase = passphrase_from(self.passphrase_file, self.passphrase_fd)
        return [open_signer(SignerRequest(uri=uri, roles=("root",), passphrase=passphrase)) for uri in self.uris]


def role_change(paths: Sequence[Path], role: str, threshold: int | None, *, joins: bool = False) -> RoleChange:
    """Return what the public keys in `paths` make of a role: they replace the keys there were, or join them.

    Raises:
        KeyFileError: a file holds no such key, or is labelled with another role.
    """
    keys = tuple(_trusted_key(path, role) for path in paths)
    return RoleChange(added=keys, threshold=threshold) if joins else RoleChange(keys=keys, threshold=threshold)


def _trusted_key(path: Path, role: str) -> TrustedKey:
    name = path.name.removesuffix(".pem").removesuffix(".pub")
    return TrustedKey(name=name, public_key=load_verifying_key(path, roles=(role,)))


def revocation(
    current: Path, wanted: tuple[Sequence[str], Sequence[str], Sequence[str]], joining: RoleChange
) -> TrustChange:
    """Return the change that revokes.

    Args:
        current: the document in force.
        wanted: keys, bundle ids and floors as the user named them.
        joining: release keys that come instead.

    Raises:
        RecipeError: nothing is named, or something is no id, no floor, a root key or revoked already.
        KeyFileError: a file holds no public key.
        BundleError: the document in force is none.
    """
    keys, bundles, floors = wanted
    if not keys and not bundles and not floors:
        raise RecipeError("nothing to revoke", hint="--revoke-key, --revoke-bundle or --reset-floor say what")
    for text in bundles:
        if not re.fullmatch(r"[0-9a-f]{32}", text):
            raise RecipeError(f"{text!r} is no bundle id: 32 hex digits", hint="`edgepack inspect` shows it")
    document = read_trust(current).document
    return TrustChange(
        release=joining,
        revoked_keys=revoke_keys(document, [key_id_from(text) for text in keys]),
        revoked_bundles=frozenset(bytes.fromhex(text) for text in bundles),
        floors=tuple(_floor(text) for text in floors),
    )


def _floor(text: str) -> FloorReset:
    product, equals, number = text.partition("=")
    if not equals or not re.fullmatch(r"[0-9]{1,15}", number):
        raise RecipeError(f"{text!r} is no floor", hint="--reset-floor PRODUCT=N")
    return FloorReset(product=product, security_version=int(number))


def write_next(current: Path | None, change: TrustChange, keys: Keys, out: Path) -> Draft:
    """Return the next document, signed by `keys`, after it was written to `out`.

    Raises:
        EdgepackError: a key or the document in force cannot be read, the change makes no sense, or `out` exists.
    """
    before = None if current is None else read_trust(current)
    if change == TrustChange():
        raise RecipeError("nothing would change", hint="--root, --release or a threshold says what")
    document = next_document(None if before is None else before.document, change, int(time.time()))
    if out.exists():
        raise FileError(f"{out} exists and is not overwritten")
    draft = sign_document(document, keys.signers(), before)
    write_whole(out, draft.file(), replace=False)
    return draft


def sign_again(path: Path, current: Path | None, keys: Keys) -> Draft:
    """Return the document at `path` after `keys` have signed it too.

    Raises:
        EdgepackError: it is no trust document, or a key cannot be read, would not count or has signed already.
    """
    before = None if current is None else read_trust(current)
    draft = sign_document(read_unbelieved(path), keys.signers(), before)
    write_whole(path, draft.file())
    return draft


def read_draft(path: Path, current: Path | None) -> Draft:
    """Return the document at `path` and how its signatures stand.

    Raises:
        EdgepackError: it is no trust document, or a signature in it is wrong.
    """
    before = None if current is None else read_trust(current)
    return sign_document(read_unbelieved(path), (), before)
