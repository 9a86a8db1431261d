"""`edgepack micro`: what was built for microcontrollers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import AsJson, Trust

__all__ = ["micro"]

micro = typer.Typer(help="Check what was built for microcontrollers.", no_args_is_help=True)


@micro.callback()
def _micro() -> None:
    """Check what was built for microcontrollers."""


@micro.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A folder that `edgepack build` wrote for a microcontroller.")],
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Check the signed evidence of a folder, and that each file in it is the one that was signed."""
    from edgepack.cli.request import trust_from
    from edgepack.cli.show_micro import show_checked_folder
    from edgepack.statement import check_folder

    show_checked_folder(folder, check_folder(folder, trust_from(trust)), as_json=as_json)
