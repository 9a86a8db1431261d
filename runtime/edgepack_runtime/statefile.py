"""The folder that holds the device's state: two copies, so written that a power cut leaves the old or the new one.

::

    state.key      32 random bytes, made on this device, mode 0600
    state.a        the state, authenticated with that key; see `edgepack_runtime.state`
    state.b        the same
    provisioned    there was a state once: if it is gone, that is no new device

A change writes one copy after the other, the older one first, each whole and on the disk before it gets its name.
Afterwards both hold the newest state, so that losing one loses nothing. Changes exclude each other by a lock on the
folder; readers need none, as a copy is never seen half-written.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from edgepack_runtime._data import dataclass
from edgepack_runtime._files import read_if_there, write_whole
from edgepack_runtime._folders import leftovers_in, locked, make_folder, sync_names
from edgepack_runtime.errors import FileError, StateError
from edgepack_runtime.state import KEY_SIZE, MAX_STATE_BYTES, DeviceState, Floor

__all__ = ["StateFolder"]

_SLOTS = ("state.a", "state.b")
_KEY = "state.key"
_MARKER = "provisioned"
_MARKER_TEXT = b"This device has a state. If it cannot be read: edgepack-device state repair\n"
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where a device keeps its state. Nothing is read before a method is called."""

    path: Path

    def read(self) -> DeviceState:
        """Return the state in force; what a power cut left half-written is removed, if this process may.

        Raises:
            StateError: there is no state yet, or there was one and no copy of it is good.
            FileError: a file cannot be read.
        """
        self._tidy_unless_busy()
        return self._read()

    def create(self, floors: Iterable[Floor] = ()) -> DeviceState:
        """Make the folder and the first state, or finish what was interrupted.

        Raises:
            StateError: there is a state already, or the rests of one.
            FileError: a folder or file cannot be written, or another process is at it.
        """
        make_folder(self.path)
        with self._lock():
            self._tidy()
            if self._is_provisioned():
                raise StateError(f"{self.path}: this device has a state already")
            key = self._key()
            slots = self._slots(key)
            state = self._best(slots)
            if state is None or key is None:
                # A copy that is there and not good is damage, and no interrupted beginning: those leave good ones.
                if any((self.path / name).exists() for name in _SLOTS):
                    raise self._broken()
                state, key = self._first(floors), self._new_key()
            self._write(state, key, slots)
            return state

    def repair(self, floors: Iterable[Floor]) -> DeviceState:
        """Begin again under a new key, where no copy of the state is good; old copies are worthless then.

        Floors, time and trust updates are forgotten, but for `floors`: give those this device had.

        Raises:
            StateError: the state is good.
            FileError: a folder or file cannot be written, or another process is at it.
        """
        make_folder(self.path)
        with self._lock():
            self._tidy()
            # A copy that cannot be read is as lost as a damaged one: `_write` puts a new file in its place.
            with contextlib.suppress(FileError):
                if self._best(self._slots(self._key())) is not None:
                    raise StateError(f"{self.path}: the state is good, there is nothing to repair")
            state = self._first(floors)
            self._write(state, self._new_key(), {})
            return state

    def update(self, change: Callable[[DeviceState], DeviceState]) -> DeviceState:
        """Replace the state by what `change` makes of it, and return that, safely on the disk.

        A change that changes nothing writes nothing. After an error the old or the new state is in force.

        Raises:
            StateError: there is no good state, or the change would forget a floor.
            FileError: a file cannot be read or written, or another process is at it.
        """
        with self._lock():
            self._tidy()
            old = self._read()
            new = replace(change(old), generation=old.generation)
            if new == old:
                return old
            old.refuse_to_forget(new)
            new = replace(new, generation=old.generation + 1)
            key = self._key()
            if key is None:
                raise self._broken()
            self._write(new, key, self._slots(key))
            return new

    def _read(self) -> DeviceState:
        state = self._best(self._slots(self._key()))
        if not self._is_provisioned():
            raise self._missing()
        if state is None:
            raise self._broken()
        # A process that was killed may have renamed and not synced: whoever acts on what stands here must find it
        # again after a power cut.
        sync_names(self.path)
        return state

    def _first(self, floors: Iterable[Floor]) -> DeviceState:
        ordered = sorted(floors, key=lambda floor: (floor.product, floor.profile))
        return DeviceState(generation=1, floors=tuple(ordered))

    def _missing(self) -> StateError:
        return StateError(
            f"{self.path}: this device has no state yet", hint="edgepack-device state create --device FILE"
        )

    def _broken(self) -> StateError:
        return StateError(
            f"{self.path}: this device had a state, and no copy is good: nothing is run that could be too old",
            hint="edgepack-device state repair --device FILE --floor PRODUCT=VERSION",
        )

    def _key(self) -> bytes | None:
        # One of another length opens no copy.
        return read_if_there(self.path / _KEY, KEY_SIZE + 1)

    def _new_key(self) -> bytes:
        key = secrets.token_bytes(KEY_SIZE)
        write_whole(self.path / _KEY, key, mode=0o600)
        return key

    def _is_provisioned(self) -> bool:
        return read_if_there(self.path / _MARKER, 1) is not None

    def _slots(self, key: bytes | None) -> dict[str, DeviceState]:
        """Return the good copies; one that the disk fails to give is an error, as it could be the newest."""
        found = {}
        for name in _SLOTS:
            data = read_if_there(self.path / name, MAX_STATE_BYTES + 1)
            if data is not None and key is not None:
                with contextlib.suppress(StateError):
                    found[name] = DeviceState.from_bytes(data, key)
        return found

    def _best(self, slots: dict[str, DeviceState]) -> DeviceState | None:
        return max(slots.values(), key=lambda state: state.generation, default=None)

    def _write(self, state: DeviceState, key: bytes, slots: dict[str, DeviceState]) -> None:
        """Write both copies, the older or missing one first, and the marker if it is not there."""
        generations = {name: slots[name].generation if name in slots else -1 for name in _SLOTS}
        for name in sorted(_SLOTS, key=lambda name: generations[name]):
            write_whole(self.path / name, state.to_bytes(key), mode=0o600)
        if not self._is_provisioned():
            write_whole(self.path / _MARKER, _MARKER_TEXT, mode=0o600)

    def _tidy_unless_busy(self) -> None:
        """Remove what a power cut left, unless another process is writing it now or this one may not."""
        with contextlib.suppress(OSError, FileError, StateError):
            if self._leftovers():
                with self._lock(patience=0):
                    self._tidy()

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            for leftover in self._leftovers():
                leftover.unlink()

    def _leftovers(self) -> list[Path]:
        return leftovers_in(self.path)

    @contextlib.contextmanager
    def _lock(self, patience: float = _PATIENCE) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.path, patience=patience, busy="changing the state"))
            except FileNotFoundError:
                raise self._missing() from None
            yield
