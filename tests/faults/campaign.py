"""Fail every operation of a change in turn, cut the power around each, and start again from whatever is left.

A `Scenario` is a change of a folder. `run` finds out which operations it takes, and then, for every operation and
every way it can fail, makes the change on a fresh copy with that fault. Whatever came of it, a fresh start must find
what was in force before or what should be after, never anything else, and leave no temporary file behind. From the
old state the change must then succeed. A change that said it was done must be there after a power cut, too.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diskmodel import Image, digest_of, read_image, write_image
from simulated_disk import ERRORS, KINDS, Fault, PowerCut, SimulatedDisk

from edgepack_runtime._files import is_leftover
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
        self.old = self._start(prepared)
        with self._disk(prepared) as disk:
            scenario.act(prepared)
        self.operations = tuple(disk.operations)
        self.new = self._start(prepared)
        changed = "changed" if self.new != self.old else "did not change"
        self._expect((self.new == self.old) == scenario.changes_nothing, "no fault", f"{changed} what is in force")
        self._expect(disk.unbooked() == [], "no fault", f"around os: {disk.unbooked()}")
        self._look(disk, "no fault", done=True)

    def run(self) -> Findings:
        for at, operation in enumerate(self.operations):
            for kind in KINDS:
                fault = Fault(at=at, kind=kind)
                if fault.applies_to(operation) and len(self.findings.violations) < MOST_VIOLATIONS:
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
                with self._disk(root):
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

    def _start(self, root: Path) -> object:
        with self._disk(root):
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


def run(scenario: Scenario, folder: Path, *, deaf_to: frozenset[str] = frozenset()) -> Findings:
    """Return what came of every fault point of a scenario.

    Args:
        scenario: the change.
        folder: an empty folder to work in.
        deaf_to: as for `SimulatedDisk`.
    """
    return _Campaign(scenario, folder, deaf_to).run()
