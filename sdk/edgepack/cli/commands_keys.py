"""`edgepack keys`: make and show keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["keys"]

keys = typer.Typer(help="Make the keys that sign and open bundles.", no_args_is_help=True)


@keys.command()
def generate(
    role: Annotated[str, typer.Option(help="release (signs bundles) or device (opens them).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Writes OUT.key.pem (0600) and OUT.pub.pem.")],
    algorithm: Annotated[
        str | None, typer.Option(help="release: ed25519 or p256; device: x25519 or p256. Default: the first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a key pair; an existing file is never overwritten."""
    from edgepack.keys import generate_key

    pair = generate_key(role, algorithm, out)
    if as_json:
        table = {"role": pair.role, "algorithm": pair.algorithm, "key_id": pair.key_id}
        typer.echo(json.dumps(table | {"private": str(pair.private), "public": str(pair.public)}))
        return
    typer.echo(f"{pair.role} key {pair.key_id[:16]} ({pair.algorithm})")
    typer.echo(f"  private: {pair.private} (not encrypted; readable by you alone)")
    typer.echo(f"  public:  {pair.public}")
