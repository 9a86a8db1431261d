"""The two slots of a product, and how bundles change places between them. No I/O.

One slot is *active*: it is opened. The other, *spare*, is being filled, holds what was installed and is not active
yet, the last known good, or what was given up. `docs/device.md` has the table.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from edgepack_runtime._data import dataclass
from edgepack_runtime.errors import RollbackError, StoreError
from edgepack_runtime.table import is_name

__all__ = ["Health", "Moment", "Product", "Slot", "SlotState", "Trial", "shown"]

_MAX_NOTE = 500
_MAX_COUNT = 10**9


class SlotState(Enum):
    """How far a bundle has come on this device."""

    INCOMING = "incoming"
    INSTALLED = "installed"
    TRIAL = "trial"
    GOOD = "good"
    FAILED = "failed"


_RUNNING = (SlotState.TRIAL, SlotState.GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One bundle in the store.

    Args:
        number: names its files; no two bundles ever have the same.
        state: how far it has come.
        digest: SHA-256 of its front and of the grants beside it, in hex: tells a bundle from any other.
        version: the publisher's name for it, shortened.
        security_version: the one that was signed.
        length: bytes of the bundle file.
        granted: whether a file with grants lies beside it.
        note: why it was given up.
    """

    number: int
    state: SlotState
    digest: str
    version: str
    security_version: int
    length: int
    granted: bool
    note: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files: the bundle, and the grants if there are any."""
        bundle = f"{self.number}.edgepack"
        return (bundle, f"{bundle}.grant") if self.granted else (bundle,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How soon a bundle must be reported as healthy once it is active; else the last known good comes back.

    Args:
        starts: how often it may be opened without a report.
        seconds: how long after it was first opened since the device was switched on; None for no limit.

    Raises:
        StoreError: one of them is below 1, or absurd.
    """

    starts: int = 3
    seconds: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.starts <= _MAX_COUNT or not 1 <= (self.seconds or 1) <= _MAX_COUNT:
            raise StoreError(f"a health check within {self.starts} starts and {self.seconds} seconds: at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point in time since the device was switched on, and which time that was: no clock need be right for it."""

    boot: str
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of the active bundle's health check so far; `first` is when it was first opened."""

    health: Health
    started: int = 0
    first: Moment = Moment(boot="", seconds=0)

    def overdue(self, now: Moment) -> str | None:
        """Return why the report came too late, in words, or None."""
        if self.started >= self.health.starts:
            return f"it was opened {_times(self.started)} and never reported healthy"
        return self.late(now)

    def late(self, now: Moment) -> str | None:
        """Return why the report came too late for the start that goes on, or None."""
        limit = self.health.seconds
        if limit is not None and self.started and self.first.boot == now.boot:
            passed = now.seconds - self.first.seconds
            if passed >= limit:
                return f"it was not reported healthy within {limit} seconds"
        return None

    def counting(self, now: Moment) -> Trial:
        """Return the trial with one more start."""
        first = self.first if self.started and self.first.boot == now.boot else now
        return replace(self, started=self.started + 1, first=first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The two slots of one product. Each method gives what becomes of it, or refuses.

    Raises:
        StoreError: the slots contradict each other.
    """

    name: str
    active: Slot | None = None
    spare: Slot | None = None
    trial: Trial | None = None

    def __post_init__(self) -> None:
        wrong = (
            not is_name(self.name)
            or (self.active is not None and self.active.state not in _RUNNING)
            or (self.spare is not None and self.spare.state is SlotState.TRIAL)
            or (self.trial is not None) != (self.active is not None and self.active.state is SlotState.TRIAL)
        )
        if wrong:
            raise StoreError(f"store: the slots of {self.name!r} contradict each other")

    def active_slot(self) -> Slot:
        """Return the bundle that is opened.

        Raises:
            StoreError: there is none.
        """
        if self.active is None:
            ready = self.spare is not None and self.spare.state is SlotState.INSTALLED
            raise StoreError(
                f"{self.name}: no bundle is active",
                hint=f"edgepack-device {f'activate {self.name}' if ready else 'install BUNDLE'} --device FILE",
            )
        return self.active

    def good_spare(self, floor: int) -> Slot | None:
        """Return the bundle to fall back to: one that has proven good, and is not below the floor."""
        spare = self.spare
        if spare is None or spare.state is not SlotState.GOOD or spare.security_version < floor:
            return None
        return spare

    def receiving(self, slot: Slot) -> Product:
        """Return it with an incoming bundle in the spare slot; what was there is forgotten.

        Raises:
            StoreError: the spare slot is what a bundle on trial falls back to.
        """
        if self.trial is not None and self.spare is not None and self.spare.state is SlotState.GOOD:
            raise StoreError(
                f"{self.name} {self.active_slot().version} is on trial, and the other slot is what it goes back to",
                hint=f"wait until it is reported healthy, or go back: edgepack-device rollback {self.name}",
            )
        return replace(self, spare=replace(slot, state=SlotState.INCOMING))

    def installed(self, number: int) -> Product:
        """Return it with the incoming bundle ready to be activated.

        Raises:
            StoreError: the incoming bundle is not that one.
        """
        if self.spare is None or self.spare.number != number:
            raise StoreError(f"{self.name}: another installation has taken the slot")
        return replace(self, spare=replace(self.spare, state=SlotState.INSTALLED))

    def installed_slot(self) -> Slot:
        """Return the bundle that `activated` would make the active one.

        Raises:
            StoreError: there is none.
        """
        if self.spare is None or self.spare.state is not SlotState.INSTALLED:
            raise StoreError(
                f"{self.name}: nothing is installed that is not active yet",
                hint="edgepack-device install BUNDLE --device FILE",
            )
        return self.spare

    def activated(self, health: Health | None) -> Product:
        """Return it with the installed bundle active: on trial, or good at once without a health check.

        Raises:
            StoreError: nothing is installed.
        """
        slot = self.installed_slot()
        state = SlotState.GOOD if health is None else SlotState.TRIAL
        old = self.active
        if old is not None and old.state is SlotState.TRIAL:
            old = _failed(old, "it was replaced before it was reported healthy")
        trial = None if health is None else Trial(health=health)
        return replace(self, active=replace(slot, state=state, note=""), spare=old, trial=trial)

    def started(self, floor: int, now: Moment) -> Product:
        """Return it before the active bundle is opened: one start more, or fallen back if no report came in time.

        With nothing to fall back to, the bundle on trial goes on.
        """
        if self.trial is None:
            return self
        why = self.trial.overdue(now)
        if why is None:
            return replace(self, trial=self.trial.counting(now))
        return self if self.good_spare(floor) is None else self.given_up(self.active_slot().number, why)

    def given_up(self, number: int, why: str) -> Product:
        """Return it with the last known good active again, if the bundle `number` is active and on trial."""
        good, given_up = self.good_spare(0), self.active
        if self.trial is None or given_up is None or given_up.number != number or good is None:
            return self
        return replace(self, active=good, spare=_failed(given_up, why), trial=None)

    def rolled_back(self, floor: int) -> Product:
        """Return it with the slots changed: the one before is active again.

        Raises:
            StoreError: there is none before it.
            RollbackError: it is below the floor.
        """
        spare = self.spare
        if self.active is None or spare is None or spare.state is not SlotState.GOOD:
            raise StoreError(f"{self.name}: there is no earlier bundle to go back to")
        if spare.security_version < floor:
            raise RollbackError(
                f"{self.name} {spare.version}: security version {spare.security_version} is lower than {floor}, "
                "which this device accepted",
                hint=f"publish {self.name} again with a security version of at least {floor}",
            )
        old = self.active
        if self.trial is not None:
            old = _failed(old, "it was rolled back before it was reported healthy")
        return replace(self, active=spare, spare=old, trial=None)

    def proven(self, number: int) -> Product:
        """Return it with the active bundle good, if it is the one of that number."""
        if self.active is None or self.active.number != number:
            return self
        return replace(self, active=replace(self.active, state=SlotState.GOOD), trial=None)

    def cleaned(self, floor: int) -> Product:
        """Return it without a spare bundle that can never run: half copied, given up, or below the floor."""
        useless = self.spare is not None and (
            self.spare.state in (SlotState.INCOMING, SlotState.FAILED) or self.spare.security_version < floor
        )
        return replace(self, spare=None) if useless else self

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Those that hold something."""
        return tuple(slot for slot in (self.active, self.spare) if slot is not None)


def shown(text: str, most: int) -> str:
    """Return a stranger's words, cut to `most` characters that a terminal shows and does not obey."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


def _failed(slot: Slot, why: str) -> Slot:
    return replace(slot, state=SlotState.FAILED, note=shown(why, _MAX_NOTE))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
