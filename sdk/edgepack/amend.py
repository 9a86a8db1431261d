"""Change what is not signed of a finished bundle: further signatures, and grants for more or fewer devices.

The signed region and the payload are copied byte for byte; the file is replaced whole or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.errors import RecipeError
from edgepack.recipients import Recipient
from edgepack.signers import Signer
from edgepack_runtime._files import file_error, write_whole
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.compression import supported
from edgepack_runtime.container import Grant, Signature, assemble_front, pack_grants
from edgepack_runtime.encryption import PayloadSuite, wipe
from edgepack_runtime.errors import FileError, GrantError, RevokedError
from edgepack_runtime.grants import DeviceKey, GrantKind, seal
from edgepack_runtime.sidecar import read_sidecar, sidecar_grants, sidecar_path
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.verify import Policy, UnlockedBundle, VerifiedBundle, verify

__all__ = [
    "GrantOrder",
    "GrantRow",
    "Granted",
    "Removed",
    "Signed",
    "add_grants",
    "add_signature",
    "list_grants",
    "remove_grants",
]

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A bundle that was signed once more: who signed now, and by whom it is signed altogether."""

    bundle: VerifiedBundle
    signer: bytes
    signers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantOrder:
    """What `add_grants` shall do: `opener` opens the bundle; `sidecar` is what to write, None for the bundle."""

    bundle: Path
    trust: TrustedKeys
    opener: DeviceKey = field(repr=False)
    recipients: tuple[Recipient, ...]
    sidecar: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Which recipients were added, which had a grant already, and the file that was written; None if none was."""

    added: tuple[Recipient, ...]
    present: tuple[Recipient, ...]
    path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRow:
    """One grant as found: not signed, so it says who could open the bundle and proves nothing."""

    key_id: bytes
    kind: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Which grants were removed, and from which files."""

    grants: tuple[GrantRow, ...]


def add_signature(path: Path, signer: Signer, trust: TrustedKeys) -> Signed:
    """Return what adding a signature to the bundle at `path` made of it.

    Args:
        path: the bundle.
        signer: the further key.
        trust: one of its keys must have signed already, so that nobody signs what a stranger made.

    Raises:
        BundleError: it is no bundle, or no trusted key has signed it.
        RevokedError: the further key is revoked.
        RecipeError: this key has signed already.
        KeyFileError: the token refuses.
        FileError: the file cannot be read or written.
    """
    if signer.key_id in trust.revoked_keys:
        raise RevokedError(f"key {signer.key_id.hex()[:16]} is revoked: no device would count its signature")
    with BundleFile(path) as file:
        policy = Policy(profile=None, compressions=supported())
        bundle = verify(file.container, dataclasses.replace(trust, threshold=1), policy)
        signatures = file.container.signatures
        if any(signature.key_id == signer.key_id for signature in signatures):
            raise RecipeError(f"{path}: key {signer.key_id.hex()[:16]} has signed it already")
        signatures = (*signatures, signer.sign(file.container.signed))
        _replace_front(file, signatures, file.container.grants)
    return Signed(bundle=bundle, signer=signer.key_id, signers=tuple(sorted(s.key_id for s in signatures)))


def add_grants(order: GrantOrder) -> Granted:
    """Return who can open a bundle now beside those who could; neither signature nor payload are touched.

    Raises:
        BundleError: it is no bundle, its signatures do not hold, or the opener's grant does not open it.
        RevokedError: a recipient's key is revoked.
        RecipeError: the bundle is not encrypted, or a recipient is enrolled as another profile.
        FileError: a file cannot be read or written.
    """
    with BundleFile(order.bundle) as file:
        bundle = verify(file.container, order.trust, Policy(profile=None, compressions=supported()))
        _check_recipients(bundle, order)
        beside = sidecar_grants(file.container, order.opener, order.bundle)
        present = file.container.grants
        if order.sidecar is not None:
            present = read_sidecar(order.sidecar) if order.sidecar.exists() else ()
        held = {grant.key_id for grant in present}
        new = {r.key_id: r for r in order.recipients if r.key_id not in held}
        with bundle.unlock(order.opener, beside) as unlocked:
            _prove_key(unlocked, file)
            grants = [seal(r.public_key, unlocked.content_key, file.container.signed) for r in new.values()]
        if not grants:
            return Granted(added=(), present=order.recipients, path=None)
        if order.sidecar is None:
            _replace_front(file, file.container.signatures, (*present, *grants))
        else:
            write_whole(order.sidecar, pack_grants((*present, *grants)))
    return Granted(
        added=tuple(new.values()),
        present=tuple(r for r in order.recipients if r.key_id in held),
        path=order.sidecar or order.bundle,
    )


def _check_recipients(bundle: VerifiedBundle, order: GrantOrder) -> None:
    header = bundle.header
    if header.suite is PayloadSuite.PLAIN:
        raise RecipeError(f"{order.bundle} is not encrypted: everyone can read it, a grant would change nothing")
    for recipient in order.recipients:
        if recipient.key_id in order.trust.revoked_keys:
            raise RevokedError(f"the key of {recipient.name} is revoked ({recipient.key_id.hex()[:16]})")
        if recipient.profile not in (None, header.profile):
            raise RecipeError(
                f"{recipient.name} is enrolled as {recipient.profile}, the bundle is for {header.profile}",
                hint=f"grant it the bundle that was built for {recipient.profile}",
            )


def _prove_key(unlocked: UnlockedBundle, file: BundleFile) -> None:
    """Decrypt the shortest entry: a grant is not signed, and a wrong key must not be passed on."""
    entry = min(unlocked.bundle.entries, key=lambda entry: entry.content_length)
    buffer = bytearray(entry.content_length)
    unlocked.read_entry(entry.name, file.read, memoryview(buffer))
    wipe(buffer)


def list_grants(path: Path) -> tuple[GrantRow, ...]:
    """Return the grants in a bundle and in the sidecar file beside it.

    Raises:
        FileError: a file cannot be read.
        FormatError: it is no bundle, or the sidecar file is malformed.
    """
    with BundleFile(path) as file:
        found = [_row(grant, path) for grant in file.container.grants]
    beside = sidecar_path(path)
    return (*found, *(_row(grant, beside) for grant in _beside(beside)))


def remove_grants(path: Path, key_ids: Sequence[bytes]) -> Removed:
    """Return what was removed from a bundle and from the sidecar file beside it.

    Whoever has a copy of the bundle from before keeps what it could open.

    Raises:
        GrantError: none of them is there; nothing was written.
        FileError: a file cannot be read or written.
        FormatError: it is no bundle, or the sidecar file is malformed.
    """
    wanted = set(key_ids)
    beside = sidecar_path(path)
    with BundleFile(path) as file:
        embedded, apart = file.container.grants, _beside(beside)
        gone = [_row(g, path) for g in embedded if g.key_id in wanted]
        gone += [_row(g, beside) for g in apart if g.key_id in wanted]
        missing = wanted - {row.key_id for row in gone}
        if missing:
            raise GrantError(
                f"{path}: no grant for key {', '.join(key.hex()[:16] for key in sorted(missing))}",
                hint=f"`edgepack grant list {path}` shows who has one",
            )
        if any(row.path == beside for row in gone):
            write_whole(beside, pack_grants([g for g in apart if g.key_id not in wanted]))
        if any(row.path == path for row in gone):
            _replace_front(file, file.container.signatures, [g for g in embedded if g.key_id not in wanted])
    return Removed(grants=tuple(gone))


def _beside(path: Path) -> tuple[Grant, ...]:
    return read_sidecar(path) if path.exists() else ()


def _row(grant: Grant, path: Path) -> GrantRow:
    known = grant.kind in GrantKind.__members__.values()
    kind = GrantKind(grant.kind).name.lower().replace("_", "-") if known else f"kind {grant.kind}"
    return GrantRow(key_id=grant.key_id, kind=kind, path=path)


def _replace_front(file: BundleFile, signatures: Sequence[Signature], grants: Sequence[Grant]) -> None:
    preamble = file.container.preamble
    front = assemble_front(file.container.signed, signatures, grants, preamble.payload_length)

    def pieces() -> Iterator[bytes]:
        yield front
        offset, left = preamble.front_length, preamble.payload_length
        while left:
            piece = file.read(offset, min(left, _PIECE))
            if not piece:
                raise FileError(f"{file.path} became shorter while it was copied; nothing was written")
            yield piece
            offset, left = offset + len(piece), left - len(piece)

    path = Path(file.path)
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise file_error("look at", path, error) from None
    write_whole(path, pieces(), mode=mode)
