"""Have a board probed over the system's ssh: what runs there is `edgepack-device probe`, what comes back is bytes.

The board is asked by an argument vector without a shell on this machine, its answer is a stranger's: it is bounded
here, and read by `edgepack.probed`.
"""

from __future__ import annotations

import base64
import io
import selectors
import shlex
import shutil
import subprocess
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import edgepack_runtime
from edgepack.errors import ProfileError
from edgepack.probed import MAX_PROBE_BYTES, read_refusal
from edgepack_runtime.errors import SchemaError

__all__ = ["RemoteBoard", "probe_over_ssh"]

_SECONDS = 1800.0
_BLOCK = 1 << 16
_MAX_SAID = 2000
_NOT_FOUND = (126, 127)
_SSH_FAILED = 255
# Runs there, under the board's own Python, and leaves nothing behind.
_SCRIPT = """\
import base64, os, sys, tempfile
if sys.version_info < (3, 10):
    sys.exit("edgepack-runtime needs Python 3.10 or newer, this is " + sys.version.split()[0])
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "runtime.zip")
    with open(path, "wb") as file:
        file.write(base64.b64decode("{archive}"))
    sys.path.insert(0, path)
    from edgepack_runtime.cli import main
    code = main({arguments!r})
sys.exit(code)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBoard:
    """Where to probe and how.

    `destination` is what ssh takes (``user@host``, ``ssh://user@host:port``, a name from its configuration), `python`
    the board's Python if `edgepack-device` is not on its PATH, `engine` the one to try instead of all. With `send`
    the runtime is sent along, and nothing need be installed there but Python, numpy and an engine.
    """

    destination: str
    python: str | None = None
    engine: str | None = None
    send: bool = False


def probe_over_ssh(board: RemoteBoard) -> bytes:
    """Return the document that `edgepack-device probe` prints on the board, not yet read.

    Raises:
        ProfileError: the destination is none, ssh is missing or fails, the runtime is not installed there, or the
            probe was refused, printed too much or did not end.
    """
    destination = board.destination
    if destination.startswith("-") or not destination or not destination.isprintable() or " " in destination:
        raise ProfileError(f"{destination[:100]!r} is no destination for ssh, expected such as user@board")
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ProfileError("ssh is not on the PATH", hint="install it: apt-get install openssh-client")
    # Nobody is asked for a password, here or in a job without a terminal.
    command = [ssh, "-T", "-o", "BatchMode=yes", "--", destination, _remote_command(board)]
    with tempfile.TemporaryFile() as sent:
        sent.write(_script(board) if board.send else b"")
        sent.seek(0)
        code, said, complaint = _run(command, sent)
    if code == 0:
        lines = said.splitlines()
        return lines[-1] if lines else b""
    raise _failure(board, code, said, _plain(complaint))


def _arguments(board: RemoteBoard) -> list[str]:
    return ["probe", "--json", *([] if board.engine is None else ["--engine", board.engine])]


def _remote_command(board: RemoteBoard) -> str:
    """Return the command line for the board's shell, each word of it quoted."""
    if board.send:
        words = [board.python or "python3", "-"]
    elif board.python is not None:
        words = [board.python, "-m", "edgepack_runtime.cli", *_arguments(board)]
    else:
        words = ["edgepack-device", *_arguments(board)]
    return shlex.join(words)


def _script(board: RemoteBoard) -> bytes:
    folder = Path(edgepack_runtime.__file__).parent
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in (".py", ".bin"):
                packed.write(path, str(path.relative_to(folder.parent)))
    encoded = base64.b64encode(archive.getvalue()).decode("ascii")
    return _SCRIPT.format(archive=encoded, arguments=_arguments(board)).encode()


def _run(command: list[str], sent: IO[bytes]) -> tuple[int, bytes, bytes]:
    """Return exit code, output and the beginning of the messages of a program; both are kept within limits.

    Raises:
        ProfileError: it printed too much, or did not end.
    """
    deadline = time.monotonic() + _SECONDS
    limits = {"out": MAX_PROBE_BYTES, "err": _MAX_SAID}
    said = {name: bytearray() for name in limits}
    with subprocess.Popen(command, stdin=sent, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with selectors.DefaultSelector() as selector:
                for name, pipe in (("out", process.stdout), ("err", process.stderr)):
                    if pipe is not None:
                        selector.register(pipe, selectors.EVENT_READ, name)
                while selector.get_map():
                    ready = selector.select(max(0.0, deadline - time.monotonic()))
                    if not ready:
                        raise ProfileError(f"no answer from the board within {_SECONDS:g} seconds")
                    for key, _ in ready:
                        part = key.fileobj.read1(_BLOCK)  # type: ignore[union-attr]
                        if not part:
                            selector.unregister(key.fileobj)
                        said[key.data] += part[: limits[key.data] + 1 - len(said[key.data])]
                        if len(said["out"]) > MAX_PROBE_BYTES:
                            raise ProfileError(f"the board printed more than {MAX_PROBE_BYTES} bytes: no probe does")
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    return code, bytes(said["out"]), bytes(said["err"])


def _plain(said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in (lines or ["no message"])[-1])[:300]


def _failure(board: RemoteBoard, code: int, said: bytes, complaint: str) -> ProfileError:
    where = board.destination
    if code == _SSH_FAILED:
        return ProfileError(
            f"ssh to {where} failed: {complaint}",
            hint=f"try `ssh -o BatchMode=yes {shlex.quote(where)} true`; it must need no password (ssh-copy-id)",
        )
    if code in _NOT_FOUND or "No module named" in complaint:
        missing = (board.python or "python3") if board.send else board.python or "edgepack-device"
        return ProfileError(
            f"{where} has no {missing} that runs the probe: {complaint}",
            hint="on the board: python3 -m pip install edgepack-runtime; or name its Python with --python PATH; or "
            "--send sends the runtime along for the length of the probe",
        )
    lines = said.splitlines()
    try:
        message, hint = read_refusal(lines[-1] if lines else b"", where)
    except SchemaError:
        message, hint = complaint, None
    return ProfileError(f"{where}: {message}", hint=hint)
