"""What the `edgepack` command does when nobody reads what it prints."""

from __future__ import annotations

import subprocess
import sys

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
