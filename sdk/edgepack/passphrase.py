"""Where passphrases and PINs come from: a terminal, a file, a file descriptor. Never the command line or environment.

Both of those are readable by other programs of the same user, end up in histories and logs, and are inherited by
child processes.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from edgepack_runtime.errors import KeyFileError
from edgepack_runtime.keyfiles import MAX_PASSPHRASE, PassphraseSource, passphrase_in

__all__ = ["ask_terminal", "ask_terminal_twice", "from_descriptor", "passphrase_from"]


def passphrase_from(file: Path | None, descriptor: int | None) -> PassphraseSource:
    """Return where the user wants passphrases taken from; the terminal if neither a file nor a descriptor was named.

    Raises:
        KeyFileError: both were named, or the descriptor cannot be read or holds no passphrase.
    """
    if file is not None and descriptor is not None:
        raise KeyFileError("name --passphrase-file or --passphrase-fd, not both")
    if file is not None:
        return passphrase_in(file)
    return ask_terminal if descriptor is None else from_descriptor(descriptor)


def ask_terminal(what: str) -> bytes:
    """Return what the user types, unseen.

    Raises:
        KeyFileError: there is no terminal, or nothing was typed.
    """
    return _ask(f"passphrase of {what}: ", what)


def ask_terminal_twice(what: str) -> bytes:
    """Return a new passphrase, typed twice the same, unseen.

    Raises:
        KeyFileError: there is no terminal, nothing was typed, or two different things were.
    """
    first = _ask(f"new passphrase of {what}: ", what)
    if _ask("the same again: ", what) != first:
        raise KeyFileError("the two passphrases are not the same; nothing was written")
    return first


def _ask(prompt: str, what: str) -> bytes:
    # getpass would fall back to reading standard input aloud.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise KeyFileError(
            f"{what} needs a passphrase, and there is no terminal to ask on",
            hint="name a file with --passphrase-file, or an open descriptor with --passphrase-fd",
        ) from None
    try:
        typed = getpass.getpass(prompt).encode()
    except EOFError:
        typed = b""
    if not typed:
        raise KeyFileError(f"no passphrase was typed for {what}")
    return typed


def from_descriptor(descriptor: int) -> PassphraseSource:
    """Return a source of the passphrase on the first line of an open file descriptor, which is read and closed now.

    Raises:
        KeyFileError: it cannot be read, or holds no passphrase.
    """
    if descriptor in (1, 2):
        raise KeyFileError(f"passphrase: file descriptor {descriptor} is where results or messages go")
    try:
        with os.fdopen(descriptor, "rb") as file:
            line = file.readline(MAX_PASSPHRASE + 1).rstrip(b"\r\n")
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KeyFileError(f"passphrase: cannot read file descriptor {descriptor}: {reason}") from None
    if len(line) > MAX_PASSPHRASE:
        # Cut, it would encrypt a key under something nobody knows.
        del line
        raise KeyFileError(
            f"passphrase: the first line of file descriptor {descriptor} is longer than {MAX_PASSPHRASE} bytes"
        )
    if not line:
        raise KeyFileError(f"passphrase: the first line of file descriptor {descriptor} is empty")
    return lambda _: line
