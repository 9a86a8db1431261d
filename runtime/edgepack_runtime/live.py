"""A model that follows the store: what is activated takes over while the application runs.

The new one is opened and tried beside the old one, and takes over by one assignment. A run, and a `LiveModel.using`
block, keeps the model it began with; the old one is closed when the last of them is over. So nothing is ever half of
each, and nothing waits. While both are open, both take memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from edgepack_runtime._data import dataclass
from edgepack_runtime.activation import floor_of, folders_of, now, open_active
from edgepack_runtime.device import Device
from edgepack_runtime.errors import EdgepackError, EngineError
from edgepack_runtime.observe import Metrics, event
from edgepack_runtime.pool import Pool
from edgepack_runtime.session import Session

if TYPE_CHECKING:
    from edgepack_runtime.prediction import Given, Prediction
    from edgepack_runtime.tensors import Array

__all__ = ["LiveModel", "follow_active"]

_MOST_DOUBLINGS = 8


@dataclass(slots=True, kw_only=True)
class _Serving:
    """An open model, and how many use it now; `LiveModel` closes it when it is replaced and nobody does."""

    session: Session
    pool: Pool | None
    users: int = 0

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()
        self.session.close()


class LiveModel:
    """The active model of a product, for any number of threads, whichever that is now. Close it, or use ``with``.

    `follow_active` makes one. It looks for a newer model when `reload` tells it to, or by itself after `watch`.
    """

    def __init__(self, product: str, device: Device, interpreters: int) -> None:
        self.product = product
        self._device, self._interpreters = device, interpreters
        self._lock, self._reloading = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._reloads = self._failed = 0
        self._serving: _Serving | None = self._open()

    def run(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return what `Session.run` of the model returns that is active when the run begins.

        Raises:
            InputError: a name, shape or dtype does not fit, or there is no such signature; a newer model may have
                others.
            EngineError: the engine failed, or this is closed.
        """
        serving = self._enter()
        try:
            return (serving.session if serving.pool is None else serving.pool).run(feeds, signature_key)
        finally:
            self._leave(serving)

    def predict(self, given: Given) -> Prediction:
        """Return what `Session.predict` of the model returns that is active when it begins.

        Raises:
            EdgepackError: as `Session.predict`, or this is closed.
        """
        serving = self._enter()
        try:
            return (serving.session if serving.pool is None else serving.pool).predict(given)
        finally:
            self._leave(serving)

    async def arun(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return what `run` returns, without holding up the event loop: it runs in a thread.

        Raises:
            InputError: as `run`.
            EngineError: the engine failed, or this is closed.
        """
        import asyncio  # an application without an event loop does not pay for it

        return await asyncio.to_thread(self.run, feeds, signature_key)

    @contextmanager
    def using(self) -> Iterator[Session]:
        """Give the session that is active now to a ``with`` block: it stays open and the same to the block's end.

        Raises:
            EngineError: this is closed.
        """
        serving = self._enter()
        try:
            yield serving.session
        finally:
            self._leave(serving)

    def reload(self) -> bool:
        """Have the model that is active in the store take over, and return whether one did.

        It has opened, in all its interpreters, and run on a golden input before it takes over. After an error the one
        before goes on. A bundle on trial whose time is up without a report falls back here too. `Session.notice` says
        what fell back.

        Raises:
            StoreError: nothing of the product is active, or the store is damaged.
            StateError: there is no good state.
            FileError: a file cannot be read.
            BundleError: as `open_active`.
            EngineError: the engine refuses the model, or this is closed.
        """
        with self._reloading, self.using() as session:
            try:
                wanted = self._wanted(session)
                if wanted is None:
                    return False
                fresh = self._open()
            except Exception as error:  # memory can run out anywhere while both are open
                self._failed += 1
                running = session.manifest.version
                why = error.message if isinstance(error, EdgepackError) else type(error).__name__
                text = f"{self.product}: {running} goes on, as the active one did not open: {why}"
                event("reload_failed", text, warning=True, product=self.product, running=running)
                raise
            if fresh.session.slot != wanted != session.slot and fresh.session.notice is not None:
                self._failed += 1
            if fresh.session.slot == session.slot:
                session.notice = fresh.session.notice
                fresh.close()
                return False
            self._reloads += 1
            with self._lock:
                # This block counts as a user: the old one is closed at its end, or by the last run that goes on.
                self._serving = fresh
            old, new = session.manifest.version, fresh.session.manifest.version
            event("reloaded", f"{self.product}: {new} took over from {old}", product=self.product, version=new)
            return True

    def watch(self, seconds: float = 5.0) -> None:
        """Look for a newer model every so often from now on, in a thread.

        Failures are logged and counted, and the model before goes on; what failed is tried again less and less often,
        and at once when the store changes. Watching twice is the same as once.
        """
        with self._lock:
            if self._watcher is None and not self._stop.is_set():
                self._watcher = threading.Thread(target=self._watch, args=(seconds,), name="edgepack", daemon=True)
                self._watcher.start()

    def report_healthy(self) -> None:
        """Say that the model that is active now does its work here; see `Session.report_healthy`.

        Of one that took over and has not run yet for the application, nobody can say that: it stays on trial.

        Raises:
            EngineError: this is closed.
            StoreError: the store is damaged.
            StateError: there is no good state.
            FileError: the report cannot be written down; the trial goes on.
        """
        with self.using() as session:
            if session.metrics().runs:
                session.report_healthy()

    def metrics(self) -> Metrics:
        """Return the metrics of the model that is active now, with how many took over and how many could not.

        Raises:
            EngineError: this is closed.
        """
        with self.using() as session:
            return replace(session.metrics(), reloads=self._reloads, failed_reloads=self._failed)

    def close(self) -> None:
        """Stop watching and free the model, once the runs are over that go on; closing twice is allowed."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        with self._reloading:
            with self._lock:
                serving, self._serving = self._serving, None
                idle = serving is not None and not serving.users
            if serving is not None and idle:
                serving.close()

    def _enter(self) -> _Serving:
        with self._lock:
            serving = self._serving
            if serving is None:
                raise EngineError("the model is closed", hint=f"open it again: follow_active({self.product!r})")
            serving.users += 1
            return serving

    def _leave(self, serving: _Serving) -> None:
        with self._lock:
            serving.users -= 1
            over = not serving.users and serving is not self._serving
        if over:
            serving.close()

    def _wanted(self, session: Session) -> int | None:
        """Return the number of the bundle that should run instead of this one; its own if its trial is over."""
        folder, _ = folders_of(self._device)
        record = folder.read().product(self.product)
        active = record.active_slot().number
        if active != session.slot:
            return active
        late = record.trial is not None and record.trial.late(now()) is not None
        return active if late and record.good_spare(floor_of(self._device, self.product)) is not None else None

    def _open(self) -> _Serving:
        session = open_active(self.product, device=self._device)
        try:
            # On a golden input: zeros, in the smallest shape there is, need not be what the model takes.
            session.bench(1)
            pool = session.pool(self._interpreters) if self._interpreters > 1 else None
        except BaseException:
            session.close()
            raise
        return _Serving(session=session, pool=pool)

    def _watch(self, seconds: float) -> None:
        folder, _ = folders_of(self._device)
        failures = rest = 0
        seen: tuple[int, ...] | None = None
        while not self._stop.wait(seconds):
            # Reading the store costs a disk two syncs, each time; looking whether it changed costs nothing.
            stamp, before, rest = folder.stamp(), self._failed, rest - 1
            changed, seen = stamp != seen, stamp
            if not changed and rest > 0:
                continue
            # It was logged and counted. Whatever it was, a device whose watch ended would get no update any more.
            with suppress(Exception):
                self.reload()
            if self._failed > before:
                failures = min((0 if changed else failures) + 1, _MOST_DOUBLINGS)
                # Counting the start of a bundle on trial changed the store too, which is no reason to try at once.
                seen, rest = folder.stamp(), 2**failures
            else:
                failures, rest = 0, 1 if self._is_on_trial() else 2**_MOST_DOUBLINGS

    def _is_on_trial(self) -> bool:
        """Tell whether the model that runs has to be looked after by the minute."""
        serving = self._serving
        return serving is not None and serving.session.on_healthy is not None

    def __enter__(self) -> LiveModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def follow_active(product: str, *, device: Device, interpreters: int = 1) -> LiveModel:
    """Return the active model of a product, opened as by `open_active`, which newer ones can take over from.

    Args:
        product: as installed.
        device: with a store and a state folder.
        interpreters: how many threads run it at a time, as in `Session.pool`; a model with state has one.

    Raises:
        SchemaError: the device has no store or no state folder.
        StoreError: nothing of the product is active, or the store is damaged.
        StateError: there is no good state.
        FileError: a file cannot be read.
        BundleError: as `open_bundle`.
        EngineError: the engine is missing, of another version, or refuses the model.
    """
    return LiveModel(product, device, interpreters)
