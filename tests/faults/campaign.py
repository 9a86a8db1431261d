"""Fail every operation of a change in turn, cut the power around each, and start again from whatever is left.

A `Scenario` is a change of a folder. `run` finds out which operations it takes, and then, for every operation and
every way it can fail, makes the change on a fresh copy with that fault. Whatever came of it, a fresh start must find
what was in force before or what should be after, never anything else, and leave no temporary file behind. From the
old state the change must then succeed. A change that said it was done must be there after a power cut, too.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from diskmodel import Image, digest_of, read_image, write_image
from simulated_disk import ERRORS, KINDS, Fault, PowerCut, SimulatedDisk

from edgepack_runtime._files import file_error, is_leftover, sync_folder
from edgepack_runtime.errors import EdgepackError

# Enough to see what is wrong.
MOST_VIOLATIONS = 20


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A change under test.

    Args:
        name: in reports.
        prepare: fills an empty folder; nothing fails meanwhile.
        act: makes the change; may raise an `EdgepackError` when a fault keeps it from it.
        start: what a fresh process finds in force, to be compared; any exception says that it found nothing good.
        changes_nothing: whether what is in force must stay as it is.
    """

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    start: Callable[[Path], object]
    changes_nothing: bool = False


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A mistake, made while `made()` is entered or by a disk deaf to syncs. The campaign over `scenario` must
    notice, in words that hold `noticed`.
    """

    name: str
    scenario: str
    noticed: str
    made: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    deaf_to: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Findings:
    """What came of the fault points of one scenario, or of several."""

    points: int = 0
    images: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.points += other.points
        self.images += other.images
        self.verdicts += other.verdicts
        self.violations += other.violations

    def __str__(self) -> str:
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(self.verdicts.items()))
        return f"{self.points} fault points, {self.images} disk images; {verdicts}; {len(self.violations)} violations"


def _asked_once() -> AbstractContextManager[object]:
    """Look up each installed package's version once: that takes longer than most of what is under test."""
    return patch.object(importlib.metadata, "version", functools.cache(importlib.metadata.version))


def _unsynced() -> AbstractContextManager[object]:
    """Answer syncs at once, on a folder that no cut will hit any more."""
    return patch.object(os, "fsync", lambda descriptor: None)


class _Campaign:
    def __init__(self, scenario: Scenario, folder: Path, deaf_to: frozenset[str]) -> None:
        self.scenario = scenario
        self.deaf_to = deaf_to
        self.folder = folder
        self.findings = Findings()
        self.dice = random.Random(scenario.name)
        self._count = 0
        # What a start found in images met before: many cuts leave the same.
        self._known: dict[bytes, object] = {}
        prepared = self._fresh()
        prepared.mkdir()
        scenario.prepare(prepared)
        self.before = read_image(prepared)
        self.operations: tuple[str, ...] = ()
        self.old = self.new = self._tried("before the change", lambda: self._start(prepared))
        with self._disk(prepared) as disk:
            self._tried("no fault", lambda: scenario.act(prepared))
        self._expect(disk.unbooked() == [], "no fault", f"around os: {disk.unbooked()}")
        self.new = self._tried("after the change", lambda: self._start(prepared))
        changed = "changed" if self.new != self.old else "did not change"
        self._expect((self.new == self.old) == scenario.changes_nothing, "no fault", f"{changed} what is in force")
        if not self.findings.violations:
            self.operations = tuple(disk.operations)
            self._look(disk, "no fault", done=True)

    def run(self, every: int) -> Findings:
        points = [(Fault(at=at, kind=kind), what) for at, what in enumerate(self.operations) for kind in KINDS]
        for fault in [fault for fault, operation in points if fault.applies_to(operation)][::every]:
            if len(self.findings.violations) < MOST_VIOLATIONS:
                self._point(fault)
        return self.findings

    def _point(self, fault: Fault) -> None:
        self.findings.points += 1
        root = self._fresh()
        write_image(self.before, root)
        where = f"{fault.kind} at {fault.at} ({self.operations[fault.at]})"
        done = False
        with self._disk(root, fault) as disk:
            try:
                self.scenario.act(root)
                done = True
            except PowerCut:
                pass
            except EdgepackError:
                self._expect(fault.kind in ERRORS, where, "refused without an error of the disk")
            except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
                self._violation(where, f"raised {error!r}")
        self._look(disk, where, done=done)
        if not disk.off:
            self._judge(self._found(root), f"{where}, started without a cut", done=done)
        shutil.rmtree(root)

    def _look(self, disk: SimulatedDisk, where: str, *, done: bool) -> None:
        """Start from everything that a power cut now could leave."""
        for image in disk.images(self.dice):
            self.findings.images += 1
            digest = digest_of(image)
            if digest not in self._known:
                self._known[digest] = self._start_from(image)
            self._judge(self._known[digest], f"{where}, cut, {sorted(image)}", done=done)

    def _start_from(self, image: Image) -> object:
        root = self._fresh()
        write_image(image, root)
        found = self._found(root)
        shutil.rmtree(root)
        return found

    def _found(self, root: Path) -> object:
        """Return what a fresh start finds, or in words what is wrong with it."""
        try:
            found = self._start(root)
        except Exception as error:  # noqa: BLE001 - whatever keeps a device from starting
            return f"no start: {error!r}"
        if left := [path.name for path in root.rglob("*") if is_leftover(path.name)]:
            return f"left over after a start: {left}"
        if found == self.old != self.new:
            try:
                with _unsynced():
                    self.scenario.act(root)
                again = self._start(root)
            except Exception as error:  # noqa: BLE001 - whatever keeps a device from going on
                return f"stuck with the old state: {error!r}"
            if again != self.new:
                return f"made again it becomes {again}"
        return found

    def _judge(self, found: object, where: str, *, done: bool) -> None:
        if found == self.new:
            self.findings.verdicts["new"] += 1
        elif found == self.old and not done:
            self.findings.verdicts["old"] += 1
        else:
            self._violation(where, f"found {found}" + (" after the change was reported as done" if done else ""))

    def _tried(self, where: str, act: Callable[[], object]) -> object:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - what fails without a fault is worth no campaign
            return self._violation(where, f"raised {error!r}")

    def _start(self, root: Path) -> object:
        # What it changes is looked at right away, and not after another cut.
        with _unsynced():
            return self.scenario.start(root)

    def _disk(self, root: Path, fault: Fault | None = None) -> SimulatedDisk:
        return SimulatedDisk(root, fault, deaf_to=self.deaf_to)

    def _fresh(self) -> Path:
        self._count += 1
        return self.folder / str(self._count)

    def _expect(self, holds: bool, where: str, what: str) -> None:
        if not holds:
            self._violation(where, what)

    def _violation(self, where: str, what: str) -> None:
        self.findings.violations.append(f"{self.scenario.name}: {where}: {what}")


def run(scenario: Scenario, folder: Path, *, deaf_to: frozenset[str] = frozenset(), every: int = 1) -> Findings:
    """Return what came of the fault points of a scenario.

    Args:
        scenario: the change.
        folder: an empty folder to work in.
        deaf_to: as for `SimulatedDisk`.
        every: take each fault point with 1, each second with 2.
    """
    logger = logging.getLogger("edgepack_runtime")
    with _asked_once(), patch.object(logger, "disabled", new=True):
        return _Campaign(scenario, folder, deaf_to).run(every)


def written_in_place(path: Path, data: bytes, *, mode: int = 0o644, whole: bool = True) -> None:
    """As `write_whole`, by somebody who forgot why it is as it is; a drill."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            count = os.write(descriptor, data)
            while whole and count < len(data):
                count += os.write(descriptor, data[count:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise file_error("write", path, error) from None
