"""`edgepack profiles`: what devices there are."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["profiles"]

profiles = typer.Typer(help="Show device profiles.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@profiles.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the profiles that ship with edgepack; 'local' is this machine."""
    from edgepack.cli.show import show_profiles
    from edgepack.profiles import list_profiles

    show_profiles(list_profiles(), as_json=as_json)


@profiles.command()
def show(
    name: Annotated[str, typer.Argument(help="Name, alias, 'local', or the path of a .toml file.")],
    as_json: AsJson = False,
) -> None:
    """Show one profile with the source of each figure."""
    from edgepack.cli.show import show_profile
    from edgepack.profiles import load_profile

    show_profile(load_profile(name), as_json=as_json)
