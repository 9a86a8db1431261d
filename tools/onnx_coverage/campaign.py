"""Every case through every road: a queue, and some pairs of forking processes that empty it."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.onnx_coverage.cases import CONSTANTS, read_case
from tools.onnx_coverage.forks import Forks, open_forks
from tools.onnx_coverage.journal import Outcome
from tools.onnx_coverage.results import CONSTANT, EQUAL, REFUSED, WRONG, Row, grouped

__all__ = ["Pair", "open_pair", "run_campaign", "verdict_of"]

_CONVERT_SECONDS, _JUDGE_SECONDS = 240, 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What forks for one road: a process that converts, and one that judges."""

    road: str
    converter: Forks
    judge: Forks


@contextmanager
def open_pair(road: str, python: Path, log: Path) -> Iterator[Pair]:
    """Give both processes; `python` is the interpreter of the road's toolchain."""
    with (
        open_forks(python, "tools.onnx_coverage.roads", road, log) as converter,
        open_forks(Path(sys.executable), "tools.onnx_coverage.judge", road, log) as judge,
    ):
        yield Pair(road=road, converter=converter, judge=judge)


def run_campaign(
    folders: Sequence[Path], road: str, python: Path, jobs: int, told: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Return what becomes of the cases in `folders` on `road`, whose toolchain's interpreter is `python`.

    `told` gets each outcome as soon as it is there.
    """
    waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for folder in folders:
        waiting.put(folder)
    done: list[Outcome] = []
    failed: list[BaseException] = []

    def empty_the_queue(number: int) -> None:
        # Two campaigns may share a folder.
        log = folders[0].parent.parent / f"log-{road}-{os.getpid()}-{number}"
        try:
            with open_pair(road, python, log) as pair:
                while True:
                    try:
                        folder = waiting.get_nowait()
                    except queue.Empty:
                        return
                    outcome = _outcome(pair, folder)
                    told(outcome)
                    done.append(outcome)
                    if len(done) % 50 == 0:
                        print(f"{road}: {len(done)} of {len(folders)}", file=sys.stderr, flush=True)
        except BaseException as error:  # a thread's end is told to the one that waits
            failed.append(error)
            raise

    threads = [threading.Thread(target=empty_the_queue, args=(i,)) for i in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return done


def _outcome(pair: Pair, folder: Path) -> Outcome:
    case = read_case(folder)
    verdict, said = verdict_of(pair, folder)
    if verdict == REFUSED and (folder / CONSTANTS).exists():
        again, also = verdict_of(pair, folder / CONSTANTS)
        if again != REFUSED:
            verdict, said = (CONSTANT, said) if again == EQUAL else (again, also)
    reason = "" if verdict == EQUAL else grouped(said) if verdict in (REFUSED, CONSTANT) else said
    row = Row(
        suite=case.suite, case=case.name, operator=case.operator, road=pair.road, verdict=verdict, reason=reason
    )
    return Outcome(row=row, said=said)


def verdict_of(pair: Pair, folder: Path) -> tuple[str, str]:
    """Return whether a folder's model is equal, refused or wrong on a road, and what was said."""
    ended = pair.converter.run(folder, _CONVERT_SECONDS)
    if ended != "ok":
        return REFUSED, f"the converter {ended}"
    said = json.loads((folder / f"{pair.road}.json").read_text())
    if said["error"]:
        return REFUSED, said["message"]
    ended = pair.judge.run(folder, _JUDGE_SECONDS)
    if ended != "ok":
        return WRONG, f"the engine {ended}"
    verdict, found = json.loads((folder / f"{pair.road}.found.json").read_text())
    return verdict, found or said["notes"][0]
