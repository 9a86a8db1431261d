"""A decrypted model lives in memory: no file of the process that opened it holds a byte of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import realbundle

GOOD = realbundle.bundle()
_WATCHER = """
import os, sys
sys.path[:0] = {paths!r}
import realbundle
from edgepack_runtime.session import open_bundle
written = []
def watch(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(args[0]))
device, data = realbundle.device(), realbundle.model().data
open_bundle("m.edgepack", device=device).close()
sys.addaudithook(watch)
session = open_bundle("m.edgepack", device=device)
session.run(realbundle.model().golden[0].inputs)
marker = data[len(data) // 2 :][:64]
for folder in {folders!r}:
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                with open(os.path.join(path, name), "rb") as file:
                    if marker in file.read():
                        written.append(os.path.join(path, name))
            except OSError:
                pass
print(written)
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Return what a process that opened a bundle wrote, and whether it would dump core."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "m.edgepack").write_bytes(GOOD)
    # Found by the same search that finds nothing else: a file that does hold the plaintext.
    (folder / "bait").write_bytes(b"x" * 100 + realbundle.model().data)
    script = _WATCHER.format(paths=[p for p in sys.path if p], folders=[str(folder), "/dev/shm"])
    environment = {"TMPDIR": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return folder, done.stdout.splitlines()


def test_the_decrypted_model_is_written_to_no_file(watched):
    folder, lines = watched
    assert lines[0] == str([str(folder / "bait")])


def test_a_process_that_opened_a_bundle_dumps_no_core(watched):
    assert watched[1][1] == "0"


def test_the_model_does_not_stand_in_the_bundle_in_clear():
    data = realbundle.model().data
    assert [at for at in range(0, len(data) - 16, 16) if any(data[at : at + 16]) and data[at : at + 16] in GOOD] == []
