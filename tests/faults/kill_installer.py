"""Kill a process that installs bundles, `kill -9`, at random moments: ``kill_installer.py FOLDER COUNT``.

As `kill_nine`, for the store: the child installs and activates one bundle after the other, and says so in a pipe.
After the kill another child starts as a device does: it must open the last bundle that was reported, or the one that
was being activated, find nothing left over and nothing in clear, and install and run the next one. Prints a JSON
object.
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
from collections import Counter
from pathlib import Path

import store_scenarios
from kill_nine import ENGINES, last_report

import realbundle
import storekit

LONGEST = 0.25
MOST = 16
# Long enough that many kills hit the copy.
ASSET = b"asset" * (3 << 17)


def work(sources: list[Path], root: Path, report: int) -> None:
    """Provision, then install and activate every bundle; report each version once it is active."""
    store_scenarios.provision(root)
    for version, source in enumerate(sources, 1):
        store_scenarios.install(root, source)
        store_scenarios.activate(root)
        os.write(report, bytes([version]))


def look(sources: list[Path], root: Path, reported: int) -> str:
    """Return what a fresh start finds wrong, "" for nothing."""
    # A kill before the first report may have come before there was a state.
    if not (root / "state" / "provisioned").exists():
        return "" if reported == 0 else "the state is gone"
    found = store_scenarios.start(root)
    runs = 0 if found.runs is None else int(found.runs.removeprefix("1."))
    if runs not in (reported, reported + 1) or not reported <= found.floor <= runs:
        return f"{found} after {reported} was reported"
    store_scenarios.install(root, sources[runs])
    store_scenarios.activate(root)
    found = store_scenarios.start(root)
    return "" if (found.runs, found.floor) == (f"1.{runs + 1}", runs + 1) else f"afterwards {found}"


def fork(act: object, *arguments: object) -> tuple[int, int]:
    """Run `act(*arguments, pipe)` in a child; return its id, and where to read what it writes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            act(*arguments, write)  # type: ignore[operator]
        finally:
            os._exit(0)
    os.close(write)
    return child, read


def look_and_tell(sources: list[Path], root: Path, reported: int, pipe: int) -> None:
    try:
        wrong = look(sources, root, reported)
    except BaseException as error:  # noqa: BLE001 - whatever keeps a device from starting
        wrong = repr(error)
    os.write(pipe, b"." + wrong.encode()[:4000])


def said(pipe: int) -> str:
    parts = []
    while part := os.read(pipe, 4096):
        parts.append(part)
    os.close(pipe)
    return b"".join(parts).decode()


def sources_in(folder: Path) -> list[Path]:
    found = []
    for version in range(1, MOST + 1):
        path = folder / f"{version}.edgepack"
        path.write_bytes(storekit.bundle(version, asset=ASSET))
        found.append(path)
    return found


def main(folder: Path, count: int) -> None:
    importlib.import_module(ENGINES[realbundle.ENGINE])
    # In a child, as it loads an engine.
    child, pipe = fork(lambda pipe: sources_in(folder))
    said(pipe)
    os.waitpid(child, 0)
    sources = [folder / f"{version}.edgepack" for version in range(1, MOST + 1)]
    dice = random.Random(count)
    wrong: list[str] = []
    reports: Counter[int] = Counter()
    half_copied = alive = 0
    for i in range(count):
        root = folder / str(i)
        root.mkdir()
        child, pipe = fork(work, sources, root)
        # Once it is at it, so that no kill is spent on the way there; but for a few, that hit the first installation.
        if i % 8:
            select.select([pipe], [], [], 10)
        time.sleep(dice.random() * LONGEST)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        alive += os.WIFSIGNALED(status)
        reported = last_report(pipe) or 0
        reports[reported] += 1
        half_copied += b'"incoming"' in read_if_there(root / "store" / "store.json")
        child, pipe = fork(look_and_tell, sources, root, reported)
        if (told := said(pipe)) != ".":
            wrong.append(f"kill {i}: {told[1:] or 'the start died'}")
        os.waitpid(child, 0)
        shutil.rmtree(root)
    print(json.dumps({"kills": alive, "half_copied": half_copied, "distinct": len(reports), "wrong": wrong}))


def read_if_there(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
