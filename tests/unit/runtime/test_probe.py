"""What the machine at hand says of itself."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgepack_runtime import engines
from edgepack_runtime.probe import read_machine, storage_folder


def test_the_machine_is_the_one_that_python_runs_on():
    machine = read_machine()
    assert (machine.machine, machine.cores) == (platform.machine(), len(os.sched_getaffinity(0)))


def test_every_installed_engine_is_told_with_its_version():
    assert read_machine().engines == engines.installed() != ()


def test_of_proc_only_what_is_needed_is_told():
    # A Raspberry Pi's /proc/cpuinfo has its serial number.
    told = {line.partition(":")[0].strip() for line in read_machine().cpuinfo.splitlines()}
    assert told <= {"CPU implementer", "CPU part", "model name", "Features", "flags"}
    assert told


def test_cores_that_are_alike_are_told_once():
    lines = read_machine().cpuinfo.splitlines()
    assert len(set(lines)) == len(lines)


def test_storage_is_looked_at_where_the_home_folder_is_but_not_named():
    assert storage_folder()[0] == Path.home()
    assert read_machine().free_where == "the home folder"
