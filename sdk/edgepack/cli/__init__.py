"""The `edgepack` command: parse, call, print. No logic a library user would miss lives here."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

__all__ = ["main"]

_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run one command; exit 0 for good, 1 for refused, 2 for wrong usage, 128 + the signal's number when stopped."""
    if sys.stdout is None:
        # Standard output was closed by whoever started this: there is nobody to print to.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    # Stopped by a supervisor, child processes and scratch folders must go as they do on Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Not where somebody said to ignore it, as nohup does.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)

    from edgepack.cli.app import command
    from edgepack.cli.show import show_error
    from edgepack_runtime._files import drop_standard_output, print_any_name
    from edgepack_runtime.errors import EdgepackError, FileError

    print_any_name()
    try:
        try:
            command()()
        finally:
            sys.stdout.flush()
    except EdgepackError as error:
        show_error(error, as_json="--json" in sys.argv)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (`edgepack … | head`): nothing is left to say.
        drop_standard_output()
        sys.exit(1)
    except OSError as error:
        drop_standard_output()
        what = error.filename or "standard output"
        show_error(FileError(f"cannot use {what}: {error.strerror or error}"), as_json=False)
        sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
