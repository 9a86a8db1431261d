"""`edgepack probe` and `edgepack profiles import`: the profile of a board, from the board itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.commands_profiles import profiles

__all__ = ["probe"]

Name = Annotated[str | None, typer.Option(help="Name of the profile; default: what the board calls itself.")]
Engine = Annotated[str | None, typer.Option(help="Which engine of several; default: ai-edge-litert, if it works.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")]


@profiles.command("import")
def import_probe(
    document: Annotated[Path, typer.Argument(help="What `edgepack-device probe --output FILE` wrote.")],
    name: Name = None,
    engine: Engine = None,
    output: Folder = Path(),
) -> None:
    """Write the profile NAME.toml of a board that was probed; what really works there is what it supports."""
    from edgepack.cli.show_profiles import show_imported
    from edgepack.probe_import import default_name, profile_of_probe
    from edgepack.probed import read_probe_file
    from edgepack.profiles import write_profile

    found = read_probe_file(document)
    imported = profile_of_probe(found, name or default_name(found), engine)
    show_imported(write_profile(imported.profile, output), imported.notes)


def probe(
    destination: Annotated[str, typer.Argument(metavar="USER@BOARD", help="Where, as ssh takes it.")],
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="The board's Python, if edgepack-device is not on its PATH.")
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send the runtime along; the board needs Python, numpy and an engine only.")
    ] = False,
    name: Name = None,
    engine: Engine = None,
    output: Folder = Path(),
) -> None:
    """Probe a board over ssh: NAME.probe.json is what it found, NAME.toml the profile made of it."""
    from edgepack.cli.show_profiles import show_imported
    from edgepack.probe_import import default_name, profile_of_probe
    from edgepack.probe_ssh import RemoteBoard, probe_over_ssh
    from edgepack.probed import read_probe
    from edgepack.profiles import write_profile
    from edgepack_runtime._files import write_whole

    document = probe_over_ssh(RemoteBoard(destination=destination, python=python, engine=engine, send=send))
    found = read_probe(document, destination)
    imported = profile_of_probe(found, name or default_name(found), engine)
    path = write_profile(imported.profile, output)
    write_whole(path.with_name(f"{imported.profile.name}.probe.json"), document, mode=0o644)
    show_imported(path, imported.notes)
