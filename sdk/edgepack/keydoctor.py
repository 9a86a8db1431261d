"""Look through key files for what would give a key away, or make it count for more than it should."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edgepack.keys import PRIVATE_SUFFIX, PUBLIC_SUFFIX, KeyInfo, read_key
from edgepack_runtime._files import file_error
from edgepack_runtime.errors import FileError, KeyFileError

__all__ = ["Finding", "examine_keys"]

_READABLE_BY_OTHERS = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with a key file; `is_error` if the key must not be used like this."""

    is_error: bool
    path: Path
    text: str
    remedy: str


def examine_keys(paths: Sequence[Path]) -> tuple[tuple[KeyInfo, ...], tuple[Finding, ...]]:
    """Return the keys under `paths`, files or folders with ``*.pem`` in them, and what is wrong with them.

    Nothing is opened with a passphrase: of an encrypted key, only the label is known.

    Raises:
        FileError: a path does not exist, or a folder cannot be listed.
    """
    keys: list[KeyInfo] = []
    findings: list[Finding] = []
    for path in _files(paths):
        try:
            key = read_key(path)
        except KeyFileError as error:
            text = error.message.removeprefix(f"{path}: ")
            findings.append(Finding(is_error=True, path=path, text=text, remedy=error.hint or "remove it"))
            continue
        keys.append(key)
        findings += _examine(key)
    findings += _counterparts(keys)
    findings += _roles(keys)
    return tuple(keys), tuple(findings)


def _files(paths: Iterable[Path]) -> list[Path]:
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found |= set(_under(path))
        elif path.exists():
            found.add(path)
        else:
            raise FileError(f"{path} does not exist")
    return sorted(found)


def _under(folder: Path) -> Iterator[Path]:
    """Yield the key files in a folder; one that cannot be listed is an error, as a key in it would go unseen."""

    def refuse(error: OSError) -> NoReturn:
        raise file_error("look into", Path(error.filename or folder), error)

    for where, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(where, name) for name in names if name.endswith(".pem") and Path(where, name).is_file())


def _examine(key: KeyInfo) -> list[Finding]:
    found = []

    def find(is_error: bool, text: str, remedy: str) -> None:
        found.append(Finding(is_error=is_error, path=key.path, text=text, remedy=remedy))

    if key.public_key is not None and key.told_id not in (None, key.key_id):
        find(True, "its label names another key", "remove the label, or put the right file here")
    if key.protection is None:
        return found
    try:
        mode = key.path.stat().st_mode & 0o777
    except OSError as error:
        raise file_error("look at", key.path, error) from None
    if mode & _READABLE_BY_OTHERS:
        find(
            True, f"a private key that others can read (mode {mode:04o})", f"chmod 600 {key.path}, or replace the key"
        )
    if key.protection.is_weak:
        find(
            True,
            f"its passphrase can be guessed fast ({key.protection})",
            "openssl pkcs8 -topk8 -scrypt -in OLD -out NEW",
        )
    is_signing = key.role in ("root", "release", "issuer") or (key.role is None and key.algorithm == "ed25519")
    if key.protection.kdf == "none" and is_signing:
        role = "an issuer" if key.role == "issuer" else f"a {key.role or 'signing'}"
        find(
            False,
            f"{role} key without a passphrase",
            "openssl pkcs8 -topk8 -scrypt -in OLD -out NEW, or keep it in a token",
        )
    return found


def _counterparts(keys: Sequence[KeyInfo]) -> list[Finding]:
    """A pair belongs together: STEM.key.pem and STEM.pub.pem are halves of one key."""
    by_path = {key.path: key for key in keys}
    found = []
    for key in keys:
        if key.protection is None or not key.path.name.endswith(PRIVATE_SUFFIX):
            continue
        other = key.path.with_name(key.path.name.removesuffix(PRIVATE_SUFFIX) + PUBLIC_SUFFIX)
        remedy = f"edgepack keys export-public {key.path} -o {other}"
        public = by_path.get(other)
        if public is None and other.exists():
            try:
                public = read_key(other)
            except KeyFileError:
                # It is no key: named below as the half that is missing.
                public = None
        if public is None:
            found.append(Finding(is_error=False, path=key.path, text=f"{other.name} is missing", remedy=remedy))
        elif key.key_id is not None and public.key_id != key.key_id:
            found.append(
                Finding(is_error=True, path=other, text=f"is not the public half of {key.path.name}", remedy=remedy)
            )
    return found


def _roles(keys: Sequence[KeyInfo]) -> list[Finding]:
    """One key has one role: what signs must not open, what signs trust must not sign bundles."""
    roles: dict[str, dict[str, Path]] = {}
    for key in keys:
        if key.key_id is not None and key.role is not None:
            roles.setdefault(key.key_id, {})[key.role] = key.path
    return [
        Finding(
            is_error=True,
            path=path,
            text=f"one key in two roles: {', '.join(f'{role} in {where}' for role, where in sorted(used.items()))}",
            remedy="make a key of its own for each role",
        )
        for used in roles.values()
        if len(used) > 1
        for path in [min(used.values())]
    ]
