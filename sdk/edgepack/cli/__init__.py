"""The `edgepack` command: parse, call, print. No logic a library user would miss lives here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

__all__ = ["ended_by_signals", "main"]


def main() -> None:
    """Run one command; exit 0 for good, 1 for refused, 2 for wrong usage, 128 + the signal's number when stopped."""
    if sys.stdout is None:
        # Standard output was closed by whoever started this: there is nobody to print to.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    with ended_by_signals():
        _run()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have Ctrl-C, a supervisor and a terminal that is closed end the process by `SystemExit`, with 128 + the number.

    So child processes and scratch folders go. The exit code is that also if the ``with`` block makes another error of
    it on the way out, as `threading` does: a thread that is being started then releases its lock twice.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        sys.exit(128 + number)

    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        # Not where somebody said to ignore it, as nohup does.
        if signal.getsignal(number) is usual:
            signal.signal(number, stop)
    try:
        yield
    finally:
        if came:
            sys.exit(128 + came[0])


def _run() -> None:
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
    except BrokenPipeError:
        # The reader went away (`edgepack … | head`): nothing is left to say.
        drop_standard_output()
        sys.exit(1)
    except OSError as error:
        drop_standard_output()
        what = error.filename or "standard output"
        show_error(FileError(f"cannot use {what}: {error.strerror or error}"), as_json=False)
        sys.exit(1)
