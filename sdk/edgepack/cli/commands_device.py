"""`edgepack device`: make a device known to its publisher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import AsJson, PassphraseDescriptor, PassphraseFile

__all__ = ["device"]

device = typer.Typer(help="Enrol devices.", no_args_is_help=True)


@device.callback()
def _device() -> None:
    """Enrol devices."""


@device.command()
def enroll(
    name: Annotated[str, typer.Option(help="What to call the device.")],
    profile: Annotated[str, typer.Option(help="The device profile it is.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the record, and for the key if one is made.")],
    key: Annotated[Path | None, typer.Option(help="A device key (private PEM) that exists.")] = None,
    public: Annotated[
        Path | None, typer.Option(help="Only the public half (PEM), of a key that is on the device.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Write an enrolment record: the device's name, profile and public key. Makes the key unless one is named.

    On the device itself, `edgepack-device enroll` does the same without the host's packages, so that the private key
    is never anywhere else.
    """
    from edgepack.cli.request import enrolled_from
    from edgepack.passphrase import passphrase_from

    passphrase = passphrase_from(passphrase_file, passphrase_fd)
    done = enrolled_from((name, profile), out, (key, public), passphrase)
    if as_json:
        typer.echo(json.dumps(done.to_json()))
        return
    for line in done.lines():
        typer.echo(line)
