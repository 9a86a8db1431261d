"""`edgepack toolchain`: the pinned environments converters and engines run in."""

from __future__ import annotations

from typing import Annotated

import typer

from edgepack.cli.options import AsJson

__all__ = ["toolchain"]

toolchain = typer.Typer(
    help="Show, install and examine the environments of converters and engines.", no_args_is_help=True
)


@toolchain.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the toolchains: what each is for, whether it is installed, and what it takes on disk."""
    from edgepack.cli.show_toolchains import show_toolchains
    from edgepack.toolchaindoctor import installed

    show_toolchains(installed(), as_json=as_json)


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


@toolchain.command()
def doctor(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all that are installed without a name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Examine toolchains and this machine: versions, imports, leftovers; what a converter is kept from here.

    Exit code 1 if something is broken; warnings alone are 0.
    """
    from edgepack.cli.show_toolchains import show_findings
    from edgepack.toolchaindoctor import ERROR, examine_toolchains

    findings = list(examine_toolchains(names or ()))
    show_findings(findings, as_json=as_json)
    if any(finding.severity == ERROR for finding in findings):
        raise typer.Exit(1)
