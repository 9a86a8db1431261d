"""`edgepack trust`: whom devices believe, from one version to the next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.options import AsJson, PassphraseDescriptor, PassphraseFile

if TYPE_CHECKING:
    from edgepack.cli.request_trust import Keys
    from edgepack.trustdoc import TrustChange

__all__ = ["trust"]

trust = typer.Typer(
    help="Make and change trust documents: root keys say which release keys devices believe.", no_args_is_help=True
)

Current = Annotated[Path, typer.Argument(help="The trust document in force.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write the new document; never overwrites.")]
Signers = Annotated[
    list[str], typer.Option("--key", help="Root key that signs: a private PEM file, or a pkcs11: URI; repeatable.")
]
Roots = Annotated[list[Path], typer.Option("--root", help="Public root key (PEM); repeatable.")]
SomeRoots = Annotated[list[Path] | None, typer.Option("--root", help="The new set of root keys (PEM); repeatable.")]
Releases = Annotated[list[Path], typer.Option("--release", help="Public release key (PEM); repeatable.")]
SomeReleases = Annotated[
    list[Path] | None, typer.Option("--release", help="The new set of release keys (PEM); repeatable.")
]
AddedReleases = Annotated[
    list[Path] | None, typer.Option("--release", help="Public release key (PEM) that joins; repeatable.")
]
RootThreshold = Annotated[int | None, typer.Option("--root-threshold", help="How many root keys must sign.")]
ReleaseThreshold = Annotated[
    int | None, typer.Option("--release-threshold", help="How many release keys must sign a bundle.")
]


@trust.command()
def init(
    root: Roots,
    release: Releases,
    key: Signers,
    out: Out,
    root_threshold: RootThreshold = None,
    release_threshold: ReleaseThreshold = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Make version 1. Thresholds are 1 unless you say otherwise; with three root keys, say 2."""
    from edgepack.cli.request_trust import Keys, role_change
    from edgepack.trustdoc import TrustChange

    change = TrustChange(
        root=role_change(root, "root", root_threshold), release=role_change(release, "release", release_threshold)
    )
    keys = Keys(uris=tuple(key), passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    _write(None, change, keys, out, as_json=as_json)


@trust.command()
def add(
    current: Current,
    release: Releases,
    key: Signers,
    out: Out,
    release_threshold: ReleaseThreshold = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Add release keys to those that count."""
    from edgepack.cli.request_trust import Keys, role_change
    from edgepack.trustdoc import TrustChange

    change = TrustChange(release=role_change(release, "release", release_threshold, joins=True))
    keys = Keys(uris=tuple(key), passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    _write(current, change, keys, out, as_json=as_json)


@trust.command()
def rotate(
    current: Current,
    key: Signers,
    out: Out,
    root: SomeRoots = None,
    release: SomeReleases = None,
    root_threshold: RootThreshold = None,
    release_threshold: ReleaseThreshold = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Replace the set of root keys, of release keys, or both. Old and new root keys must sign."""
    from edgepack.cli.request_trust import Keys, role_change
    from edgepack.trustdoc import TrustChange

    change = TrustChange(
        root=role_change(root or (), "root", root_threshold),
        release=role_change(release or (), "release", release_threshold),
    )
    keys = Keys(uris=tuple(key), passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    _write(current, change, keys, out, as_json=as_json)


@trust.command()
def revoke(
    current: Current,
    key: Signers,
    out: Out,
    revoked_key: Annotated[
        list[str] | None, typer.Option("--revoke-key", help="Key id, or public key (PEM); repeatable.")
    ] = None,
    revoked_bundle: Annotated[
        list[str] | None,
        typer.Option("--revoke-bundle", help="Bundle id, see `edgepack inspect`; repeatable."),
    ] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option("--reset-floor", help="PRODUCT=N: devices take N again, even if they took more; repeatable."),
    ] = None,
    release: AddedReleases = None,
    release_threshold: ReleaseThreshold = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Revoke release or device keys and bundles, for good; a revoked release key does not count any more."""
    from edgepack.cli.request_trust import Keys, revocation, role_change

    joining = role_change(release or (), "release", release_threshold, joins=True)
    change = revocation(current, (revoked_key or (), revoked_bundle or (), floor or ()), joining)
    keys = Keys(uris=tuple(key), passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    _write(current, change, keys, out, as_json=as_json)


@trust.command()
def sign(
    draft: Annotated[Path, typer.Argument(help="A trust document; it is replaced whole or not at all.")],
    key: Signers,
    current: Annotated[
        Path | None, typer.Option("--current", help="The document before it, whose root keys must sign as well.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Add root signatures to a document that another command began: root keys are kept in different places."""
    from edgepack.cli.request_trust import Keys, sign_again
    from edgepack.cli.show_keys import show_draft

    keys = Keys(uris=tuple(key), passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    show_draft(sign_again(draft, current, keys), draft, as_json=as_json)


@trust.command()
def show(
    document: Annotated[Path, typer.Argument(help="A trust document, complete or not.")],
    current: Annotated[Path | None, typer.Option("--current", help="The document before it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which keys count, what is revoked, and which signatures are there."""
    from edgepack.cli.request_trust import read_draft
    from edgepack.cli.show_keys import show_draft

    show_draft(read_draft(document, current), document, as_json=as_json)


def _write(current: Path | None, change: TrustChange, keys: Keys, out: Path, *, as_json: bool) -> None:
    from edgepack.cli.request_trust import write_next
    from edgepack.cli.show_keys import show_draft

    show_draft(write_next(current, change, keys, out), out, as_json=as_json)
