"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Offline", "PassphraseDescriptor", "PassphraseFile", "Trust", "Verbose"]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Offline = Annotated[bool, typer.Option("--offline", help="Refuse to install a missing toolchain.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", help="File whose first line is the passphrase. Default: asked on the terminal."
    ),
]
PassphraseDescriptor = Annotated[
    int | None, typer.Option("--passphrase-fd", help="Open file descriptor to read the passphrase from.")
]
Trust = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        help="Trust file, or a release key's .pub.pem. Default: the project's here, else your development key.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what child processes print.")]
