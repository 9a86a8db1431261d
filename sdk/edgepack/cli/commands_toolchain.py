"""`edgepack toolchain`: the pinned environments converters and engines run in."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["toolchain"]

toolchain = typer.Typer(help="Show and install the environments of converters and engines.", no_args_is_help=True)


@toolchain.command("list")
def list_all() -> None:
    """List the toolchains and whether they are installed."""
    from edgepack.toolchain import list_toolchains

    for item in list_toolchains():
        typer.echo(f"{item.name:32} {'installed in ' + str(item.folder) if item.installed else 'not installed'}")


@toolchain.command()
def install(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all of them without a name.")] = None,
) -> None:
    """Install toolchains now, so that builds need no network."""
    from edgepack.toolchain import ensure, list_toolchains, locate

    chosen = [locate(name) for name in names] if names else list(list_toolchains())
    for item in chosen:
        python = ensure(item, offline=False, say=lambda text: typer.echo(text, err=True))
        typer.echo(f"{item.name}: {python}")
