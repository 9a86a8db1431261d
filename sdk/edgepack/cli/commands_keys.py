"""`edgepack keys`: make, show, export and examine keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import AsJson, PassphraseDescriptor, PassphraseFile

__all__ = ["keys"]

keys = typer.Typer(help="Make and look after the keys that sign and open bundles.", no_args_is_help=True)


@keys.command()
def generate(
    role: Annotated[
        str,
        typer.Option(
            help="root (signs trust), release (signs bundles), issuer (grants bundles) or device (opens them)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Writes OUT.key.pem (0600) and OUT.pub.pem.")],
    algorithm: Annotated[
        str | None,
        typer.Option(help="root, release: ed25519 or p256; issuer, device: x25519 or p256. Default: the first."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the private key unencrypted; a device key is by default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key pair; an existing file is never overwritten. All but device keys ask for a passphrase."""
    from edgepack.cli.request import new_passphrase
    from edgepack.keys import generate_key

    passphrase = new_passphrase(role, out, (passphrase_file, passphrase_fd), no_passphrase=no_passphrase)
    pair = generate_key(role, algorithm, out, passphrase)
    encrypted = passphrase is not None
    if as_json:
        table = {"role": pair.role, "algorithm": pair.algorithm, "key_id": pair.key_id, "encrypted": encrypted}
        typer.echo(json.dumps(table | {"private": str(pair.private), "public": str(pair.public)}))
        return
    protected = "encrypted with scrypt" if encrypted else "not encrypted; readable by you alone"
    typer.echo(f"{pair.role} key {pair.key_id[:16]} ({pair.algorithm})")
    typer.echo(f"  private: {pair.private} ({protected})")
    typer.echo(f"  public:  {pair.public}")


@keys.command()
def show(
    files: Annotated[list[Path], typer.Argument(help="Private or public key files.")],
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Say what key files hold: role, algorithm, key id, protection. Encrypted ones are not opened unless asked to."""
    from edgepack.cli.show_keys import show_keys
    from edgepack.keys import read_key
    from edgepack.passphrase import passphrase_from

    asked = passphrase_file is not None or passphrase_fd is not None
    passphrase = passphrase_from(passphrase_file, passphrase_fd) if asked else None
    show_keys([read_key(path, passphrase) for path in files], as_json=as_json)


@keys.command("export-public")
def export_public(
    private: Annotated[str, typer.Argument(help="The private key file, or the pkcs11: URI of a key in a token.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where; without it, standard output.")] = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
) -> None:
    """Write the public half of a private key; an existing file is never overwritten."""
    from edgepack.keys import export_public_key
    from edgepack.passphrase import passphrase_from
    from edgepack_runtime._files import write_whole

    text = export_public_key(private, passphrase_from(passphrase_file, passphrase_fd))
    if out is None:
        typer.echo(text.decode("ascii"), nl=False)
    else:
        write_whole(out, text, replace=False)


@keys.command()
def doctor(
    paths: Annotated[list[Path], typer.Argument(help="Key files, and folders with .pem files in them.")],
    as_json: AsJson = False,
) -> None:
    """Look for private keys that others can read, weak passphrase protection, one key in two roles, lost halves.

    Exit code 1 if there is an error; warnings alone are 0.
    """
    from edgepack.cli.show_keys import show_findings
    from edgepack.keydoctor import examine_keys

    found, findings = examine_keys(paths)
    show_findings(found, findings, as_json=as_json)
    if any(finding.is_error for finding in findings):
        raise typer.Exit(1)
