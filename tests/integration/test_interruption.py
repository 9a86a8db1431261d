"""A build that is stopped half-way leaves nothing behind: no child, no scratch folder, no bundle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parent.parent / "data" / "mnist"


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()


def _as_in_a_terminal() -> None:
    # In the background, and under nohup, they are ignored, and so they would be in every child.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_build_takes_its_child_with_it(shop, tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepack", "build", str(DIGITS / "model.onnx"), "--profile", "raspberry-pi-4",
         "--calibration", str(shop.folder / "calibration.npz"), "-o", "out"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path), "EDGEPACK_HOME": str(shop.folder / "identity")},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_as_in_a_terminal,  # noqa: PLW1509 - one thread
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (found := children(process.pid)):
        assert time.monotonic() < deadline, "no child was started"
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    # One that was being started hears that its input has ended, and needs a moment for that.
    while any(Path(f"/proc/{child}").exists() for child in found):
        assert time.monotonic() < deadline, "a child is left"
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())
