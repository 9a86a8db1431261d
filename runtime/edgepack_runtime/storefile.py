"""The folder that holds what is installed: ciphertext, and one list that says which of it is in force.

::

    store.json      every product with its two slots; see `edgepack_runtime.store`
    slots/          N.edgepack, and N.edgepack.grant where the device's grant is not in the bundle

Whatever changes, changes by one rename of the list. A bundle's name is in the list before its file is made, and out
of it before its file is removed: so every file that is not in the list is a leftover, at any moment, and goes at the
next start. Changes of the list exclude each other by a lock on the folder, installations by one on `slots`: a model
can be opened while another is being copied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edgepack_runtime._data import dataclass
from edgepack_runtime._files import file_error, read_if_there, write_whole
from edgepack_runtime._folders import leftovers_in, locked, make_folder, sync_names
from edgepack_runtime.errors import FileError, StoreError
from edgepack_runtime.slots import Product, Slot
from edgepack_runtime.store import MAX_STORE_BYTES, Store

__all__ = ["StoreFolder"]

_LIST = "store.json"
_SLOTS = "slots"
_PATIENCE = 10.0
# What must stay free beside a bundle: the list and the device's state are written anew at every change.
_RESERVE = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """Where a device keeps its bundles. Nothing is read before a method is called."""

    path: Path

    def read(self) -> Store:
        """Return what is installed; what a power cut left is removed, if this process may. No folder: nothing is.

        Raises:
            StoreError: the list is damaged.
            FileError: a file cannot be read.
        """
        self._tidy_unless_busy()
        return self._read()

    def stamp(self) -> tuple[int, ...]:
        """Return what is another whenever the list was replaced, without opening anything; empty if it is not there.

        A list that was replaced twice within the same tick of the file system's clock can have the same.
        """
        try:
            found = (self.path / _LIST).stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def update(self, change: Callable[[Store], Store]) -> Store:
        """Replace the list by what `change` makes of it, and return that, safely on the disk.

        A change that changes nothing writes nothing. After an error the old or the new list is in force. Files that
        are out of the list now are removed.

        Raises:
            StoreError: the list is damaged, or the change is refused.
            FileError: a file cannot be read or written, or another process is at it.
        """
        make_folder(self._slots)
        with locked(self.path, patience=_PATIENCE, busy="changing the store"):
            old = self._read()
            new = change(old)
            if new != old:
                write_whole(self.path / _LIST, new.to_bytes(), mode=0o600)
            self._tidy(new)
        return new

    def change(self, product: str, change: Callable[[Product], Product]) -> Product:
        """As `update`, of one product; return what became of it.

        Raises:
            StoreError: the list is damaged, or the change is refused.
            FileError: a file cannot be read or written, or another process is at it.
        """
        return self.update(lambda store: store.replacing(change(store.product(product)))).product(product)

    @contextlib.contextmanager
    def installing(self) -> Iterator[None]:
        """Keep every other installer out, for the length of a ``with`` block.

        Raises:
            FileError: another process is installing, or a folder cannot be made.
        """
        make_folder(self._slots)
        with locked(self._slots, patience=0, busy="installing a bundle"):
            self.forget_strangers()
            try:
                yield
            finally:
                with contextlib.suppress(FileError, StoreError):
                    self.forget_strangers()

    def forget_strangers(self) -> None:
        """Remove the files that belong to no slot; only within `installing`, as an installer's files come and go.

        Raises:
            StoreError: the list is damaged, nobody can tell which files these are.
            FileError: the list cannot be read.
        """
        self._tidy_slots(self._read())

    def bundle(self, slot: Slot) -> Path:
        """Return where the bundle of a slot lies."""
        return self._slots / slot.files[0]

    def grants(self, slot: Slot) -> Path | None:
        """Return where the grants of a slot lie, None if there are none beside it."""
        return self._slots / slot.files[1] if slot.granted else None

    def size(self, slot: Slot) -> int:
        """Return how many bytes of the disk the files of a slot take now."""
        return sum(_usage(self._slots / name) for name in slot.files)

    def usage(self) -> int:
        """Return how many bytes of the disk all files in the slots take, those of no slot too.

        Raises:
            FileError: the folder cannot be listed.
        """
        return sum(_usage(path) for path in _listed(self._slots))

    def refuse_lack_of_room(self, slot: Slot, replaced: Slot | None) -> None:
        """Refuse a bundle that does not fit; what lies here of it, and what it replaces, counts as room.

        Raises:
            FileError: there is too little room, or nobody can tell.
        """
        kept = sum(self.size(old) for old in (slot, replaced) if old is not None)
        try:
            found = os.statvfs(self._slots)
        except OSError as error:
            raise file_error("look for room in", self.path, error) from None
        free, wanted = found.f_bavail * found.f_frsize + kept, slot.length + _RESERVE
        if free < wanted:
            raise FileError(
                f"{self.path}: {free} bytes are free or can be freed, {wanted} are wanted",
                hint="make room there; `edgepack-device gc` removes what can never run",
            )

    @property
    def _slots(self) -> Path:
        return self.path / _SLOTS

    def _read(self) -> Store:
        path = self.path / _LIST
        data = read_if_there(path, MAX_STORE_BYTES)
        if data is None:
            # The list is there before the first bundle is, and never removed.
            if _listed(self._slots):
                raise StoreError(
                    f"{path}: it is lost, and nobody knows which of the bundles beside it counts",
                    hint=f"find out what removed it; then remove {self._slots} too, and install bundles anew",
                )
            return Store()
        # A process that was killed may have renamed and not synced: whoever raises a floor for what stands here must
        # find it again after a power cut.
        sync_names(self.path)
        try:
            return Store.from_bytes(data)
        except StoreError as error:
            raise StoreError(
                f"{path}: {error.message}",
                hint=f"find out what damaged it; then remove it and {self._slots}, and install bundles anew",
            ) from None

    def _tidy_unless_busy(self) -> None:
        """Remove leftovers, unless another process is at work or this one may not."""
        with contextlib.suppress(OSError, FileError, StoreError):
            if leftovers_in(self.path) or self._strangers(self._read()):
                with locked(self.path, patience=0, busy="changing the store"):
                    self._tidy(self._read())

    def _tidy(self, store: Store) -> None:
        """Remove leftovers; the caller has the folder's lock."""
        with contextlib.suppress(OSError):
            for leftover in leftovers_in(self.path):
                leftover.unlink()
        # An installer has the other lock, and may be writing grants under another name right now.
        with contextlib.suppress(OSError, FileError), locked(self._slots, patience=0, busy="installing a bundle"):
            self._tidy_slots(store)

    def _tidy_slots(self, store: Store) -> None:
        with contextlib.suppress(OSError, FileError):
            for stranger in self._strangers(store):
                stranger.unlink()

    def _strangers(self, store: Store) -> list[Path]:
        known = store.files()
        return [path for path in _listed(self._slots) if path.name not in known]


def _usage(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise file_error("list", folder, error) from None
