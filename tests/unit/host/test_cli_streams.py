"""What the `edgepack` command does with outputs that fail, names that are no plain text, and signals."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m edgepack profiles list --json"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)


def test_a_closed_standard_output_is_no_accident():
    done = shell(f"{COMMAND} >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_standard_output_is_one_line():
    done = shell(f"{COMMAND} >/dev/full")
    assert (done.returncode, done.stderr) == (
        1,
        "edgepack: error: cannot use standard output: No space left on device\n",
    )


def test_a_reader_that_goes_away_hears_nothing_more():
    done = shell(f"{COMMAND} | head -c 1; exit ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("[", "")


def test_a_file_name_gives_a_terminal_no_orders():
    done = shell(f"{sys.executable} -m edgepack inspect $'\\x1b[31mred\\xff\\n[bold]'")
    assert done.stderr == (
        r"edgepack: error: cannot open \x1b[31mred\udcff\n[bold]: No such file or directory" + "\n"
    )


def test_a_file_name_that_is_no_text_is_no_accident_where_output_is_strict(tmp_path):
    command = f"{sys.executable} -m edgepack keys generate --role device --out $'{tmp_path}/k\\xff'"
    done = shell(f"PYTHONIOENCODING=utf-8:strict {command}")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"k\udcff.key.pem" in done.stdout


STOPPED = """
import os, signal
from edgepack.cli import ended_by_signals
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with ended_by_signals():
    try:
        os.kill(os.getpid(), signal.{name})
    finally:
        raise RuntimeError("release unlocked lock")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_is_what_ended_it_whatever_error_became_of_that(number):
    done = subprocess.run(
        [sys.executable, "-c", STOPPED.format(name=number.name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (128 + number, "")
