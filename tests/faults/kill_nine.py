"""Kill a process that accepts bundles, `kill -9`, at random moments: ``kill_nine.py BUNDLES FOLDER COUNT``.

This process forks a child for every kill, so that nothing is imported twice, and never loads an engine itself. The
child makes a state and accepts one bundle of the folder BUNDLES after the other, and says so in a pipe. After the
kill a fresh start must find the last floor that was reported, or the one that was being raised, and leave nothing
over. Prints a JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import bundlekit
import realbundle
from edgepack_runtime._files import is_leftover
from edgepack_runtime.acceptance import accept_bundle
from edgepack_runtime.errors import StateError
from edgepack_runtime.statefile import StateFolder

ENGINES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
PRODUCT, PROFILE = bundlekit.HEADER.product, "bench-board"
CLOCK = 1_760_000_000
LONGEST = 0.25


def work(bundles: list[Path], folder: Path, report: int) -> None:
    """Provision, then accept every bundle; report each version once it is accepted."""
    state = StateFolder(folder)
    state.create()
    os.write(report, b"\0")
    device = realbundle.device(state=state)
    for version, bundle in enumerate(bundles, 1):
        accept_bundle(bundle, device=device, clock=lambda: CLOCK)
        os.write(report, bytes([version]))


def fork(bundles: list[Path], folder: Path) -> tuple[int, int]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            work(bundles, folder, write)
        finally:
            os._exit(0)
    os.close(write)
    return child, read


def last_report(pipe: int) -> int | None:
    said = b""
    while part := os.read(pipe, 4096):
        said += part
    os.close(pipe)
    return said[-1] if said else None


def found_wrong(folder: Path, reported: int | None) -> str | None:
    """Return what a fresh start finds wrong after the last report."""
    state = StateFolder(folder)
    try:
        floor = state.read().floors_of(PROFILE).get(PRODUCT, 0)
    except StateError as error:
        return None if reported is None and "has no state yet" in error.message else repr(error)
    allowed = {0} if reported is None else {reported, reported + 1}
    if floor not in allowed:
        return f"floor {floor} after {reported} was reported"
    if left := [path.name for path in folder.iterdir() if is_leftover(path.name)]:
        return f"left over: {left}"
    state.update(lambda old: old.accepting(replace(bundlekit.HEADER, profile=PROFILE, security_version=floor + 1)))
    return None


def main(bundles: Path, folder: Path, count: int) -> None:
    importlib.import_module(ENGINES[realbundle.ENGINE])
    files = sorted(bundles.iterdir())
    dice = random.Random(count)
    wrong: list[str] = []
    floors, half_written, alive = [], 0, 0
    for i in range(count):
        place = folder / str(i)
        place.mkdir()
        child, pipe = fork(files, place / "state")
        # Once it is at it, so that no kill is spent on the way there; but for a few, that hit the provisioning.
        if i % 8:
            select.select([pipe], [], [], 10)
        time.sleep(dice.random() * (LONGEST if i % 8 else 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        alive += os.WIFSIGNALED(status)
        reported = last_report(pipe)
        half_written += any(is_leftover(path.name) for path in place.rglob("*"))
        floors.append(reported)
        if (why := found_wrong(place / "state", reported)) is not None:
            wrong.append(f"kill {i}: {why}")
        shutil.rmtree(place)
    distinct = len(set(floors))
    print(json.dumps({"kills": alive, "half_written": half_written, "distinct_floors": distinct, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
