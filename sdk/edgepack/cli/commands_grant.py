"""`edgepack grant`: let more devices open a finished bundle, or leave one out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import AsJson, PassphraseDescriptor, PassphraseFile, Trust

__all__ = ["grant"]

grant = typer.Typer(help="Say which devices can open a finished bundle.", no_args_is_help=True)

Bundle = Annotated[Path, typer.Argument(help="The .edgepack file.")]
Recipients = Annotated[
    list[Path], typer.Option("--recipient", help="Public key (PEM) or enrolment record of a device; repeatable.")
]


@grant.command()
def add(
    bundle: Bundle,
    recipient: Recipients,
    key: Annotated[Path, typer.Option(help="Private key that opens the bundle: the issuer's, or a device's.")],
    trust: Trust = None,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Write BUNDLE.grant and leave the bundle alone.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write this sidecar file instead.")] = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Let more devices open a bundle, without the release key and without touching what is signed or encrypted."""
    from edgepack.amend import GrantOrder, add_grants
    from edgepack.cli.request import trust_from
    from edgepack.cli.show_keys import show_granted
    from edgepack.passphrase import passphrase_from
    from edgepack.recipients import read_recipient
    from edgepack_runtime.keyfiles import load_device_key
    from edgepack_runtime.sidecar import sidecar_path

    order = GrantOrder(
        bundle=bundle,
        trust=trust_from(trust),
        opener=load_device_key(key, passphrase_from(passphrase_file, passphrase_fd)),
        recipients=tuple(read_recipient(path) for path in recipient),
        sidecar=out or (sidecar_path(bundle) if sidecar else None),
    )
    show_granted(add_grants(order), as_json=as_json)


@grant.command("list")
def list_all(bundle: Bundle, as_json: AsJson = False) -> None:
    """List who can open a bundle: the grants in it and in BUNDLE.grant. Grants are not signed."""
    from edgepack.amend import list_grants
    from edgepack.cli.show_keys import show_grants

    show_grants(list_grants(bundle), as_json=as_json)


@grant.command()
def remove(
    bundle: Bundle,
    recipient: Annotated[
        list[str], typer.Option("--recipient", help="Key id, public key (PEM) or enrolment record; repeatable.")
    ],
    as_json: AsJson = False,
) -> None:
    """Remove devices from a bundle and from BUNDLE.grant: copies that are out in the field stay open to them."""
    from edgepack.amend import remove_grants
    from edgepack.cli.request import key_id_from
    from edgepack.cli.show_keys import show_removed

    show_removed(remove_grants(bundle, [key_id_from(text) for text in recipient]), as_json=as_json)
