"""`edgepack profiles`: what devices there are, and what a profile of one's own is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["profiles"]

profiles = typer.Typer(help="Show, check and write device profiles.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Named = Annotated[str, typer.Argument(help="Name, alias, 'local', or the path of a .toml file.")]


@profiles.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the profiles that ship with edgepack; 'local' is this machine. With --json, devices only."""
    from edgepack.cli.show import show_profiles
    from edgepack.cli.show_micro import show_micros
    from edgepack.micro_profile import list_micros
    from edgepack.profiles import list_profiles

    show_profiles(list_profiles(), as_json=as_json)
    if not as_json:
        show_micros(list_micros())


@profiles.command()
def show(name: Named, as_json: AsJson = False) -> None:
    """Show one profile with the source of each figure."""
    from edgepack.cli.show import show_profile
    from edgepack.cli.show_micro import show_micro_profile
    from edgepack.micro_profile import find_micro
    from edgepack.profiles import load_profile

    if (micro := find_micro(name)) is not None:
        show_micro_profile(micro, as_json=as_json)
        return
    show_profile(load_profile(name), as_json=as_json)


@profiles.command()
def check(name: Named, as_json: AsJson = False) -> None:
    """Check a profile: is it well formed, does its engine exist for it, what is only assumed.

    Exit code 1 if nothing could run on such a board; notes alone are no failure.
    """
    from edgepack.cli.show_profiles import show_findings
    from edgepack.micro_profile import find_micro
    from edgepack.profile_check import ERROR, check_micro, check_profile
    from edgepack.profiles import load_profile

    if (micro := find_micro(name)) is not None:
        findings, shown = check_micro(micro), micro.name
    else:
        profile = load_profile(name)
        findings, shown = check_profile(profile), profile.name
    show_findings(shown, findings, as_json=as_json)
    if any(finding.severity == ERROR for finding in findings):
        raise typer.Exit(1)


@profiles.command()
def diff(first: Named, second: Named, as_json: AsJson = False) -> None:
    """Show the fields in which two profiles differ; exit code 1 if there are any, as diff has it."""
    from edgepack.cli.show_profiles import show_differences
    from edgepack.profile_check import profile_differences
    from edgepack.profiles import load_profile

    ours, theirs = load_profile(first), load_profile(second)
    differences = profile_differences(ours, theirs)
    show_differences(ours, theirs, differences, as_json=as_json)
    if differences:
        raise typer.Exit(1)


@profiles.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the new profile; the file is NAME.toml.")],
    base: Annotated[str, typer.Option("--from", help="The profile to begin with.")] = "generic-aarch64-linux",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the file.")] = Path(),
) -> None:
    """Write a profile of your own to begin with, from one that exists; each figure in it is assumed until you say."""
    from edgepack.profile_text import derived_profile
    from edgepack.profiles import load_profile, write_profile

    path = write_profile(derived_profile(load_profile(base), name), output)
    typer.echo(f"{path}: edit it, then `edgepack profiles check {path}`")


@profiles.command()
def schema(
    micro: Annotated[bool, typer.Option("--micro", help="That of microcontrollers' profiles.")] = False,
) -> None:
    """Print the JSON Schema of a profile file, for editors that check TOML by one."""
    import json

    from edgepack.micro_text import micro_schema
    from edgepack.profile_text import profile_schema

    typer.echo(json.dumps(micro_schema() if micro else profile_schema(), indent=2))
