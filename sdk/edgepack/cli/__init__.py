"""The `edgepack` command: parse, call, print. No logic a library user would miss lives here."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run one command; exit 0 for good, 1 for refused, 2 for wrong usage."""
    from edgepack.cli.app import app
    from edgepack.cli.show import show_error
    from edgepack_runtime.errors import EdgepackError

    try:
        app()
    except EdgepackError as error:
        show_error(error, as_json="--json" in sys.argv)
        sys.exit(1)
    except BrokenPipeError:
        # The reader went away (`edgepack … | head`): nothing is left to say, not even at exit.
        sys.stdout = None
        sys.exit(1)
