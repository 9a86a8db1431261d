"""Several interpreters of one model, so that as many threads run it at a time; its decrypted copy is there once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edgepack_runtime.engines import Engine
from edgepack_runtime.errors import EngineError
from edgepack_runtime.observe import Meter

if TYPE_CHECKING:
    from edgepack_runtime.prediction import Given, Prediction, Predictor
    from edgepack_runtime.tensors import Array

__all__ = ["Pool"]


class Pool:
    """Runs a model for as many threads at a time as it has interpreters; others wait. Close it, or use ``with``.

    What an interpreter needs beside the weights, its tensors and what it packs of weights, is there once for each.
    """

    __slots__ = ("_closing", "_engines", "_free", "_lock", "_meter", "_outputs", "_reader")

    def __init__(
        self, engines: Sequence[Engine], outputs: tuple[str, ...], meter: Meter, reader: Callable[[], Predictor]
    ) -> None:
        self._engines, self._outputs, self._meter, self._reader = tuple(engines), outputs, meter, reader
        self._free: queue.SimpleQueue[Engine | None] = queue.SimpleQueue()
        for engine in engines:
            self._free.put(engine)
        self._lock = threading.Lock()
        self._closing = False

    def __len__(self) -> int:
        """Return how many threads run at a time."""
        return len(self._engines)

    def run(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return the outputs by name for one set of inputs, as `Session.run` does; any number of threads may call it.

        Raises:
            InputError: a name, shape or dtype does not fit, or there is no such signature; nothing is cast.
            EngineError: the engine failed, or the pool is closed.
        """
        engine = self._free.get()
        try:
            if engine is None or self._closing:
                raise EngineError("the pool is closed", hint="make a new one: session.pool(n)")
            # Without the wait for an interpreter: it says how busy the application is, not how fast the model.
            run = engine.run if signature_key is None else partial(engine.run, signature_key=signature_key)
            outputs = self._meter.timed(run, feeds)
        finally:
            # What closed the pool is handed on to the next one that waits.
            self._free.put(engine)
        return outputs if signature_key is not None else {name: outputs[name] for name in self._outputs}

    def predict(self, given: Given) -> Prediction:
        """Return what the model finds in a picture or a sound, as `Session.predict` does; for any number of threads.

        Raises:
            EdgepackError: as `Session.predict`, or the pool is closed.
        """
        return self._reader().predict(given, self.run)

    async def arun(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return what `run` returns, without holding up the event loop: it runs in a thread.

        A task that is cancelled stops waiting; its run goes on to its end in the thread, and its arrays have to stay
        as they are until then.

        Raises:
            InputError: as `run`.
            EngineError: the engine failed, or the pool is closed.
        """
        import asyncio  # an application without an event loop does not pay for it

        return await asyncio.to_thread(self.run, feeds, signature_key)

    def close(self) -> None:
        """Free the interpreters, each once its run is over; who waits is refused. Closing twice is allowed."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            for _ in self._engines:
                engine = self._free.get()
                if engine is not None:
                    engine.close()
            self._free.put(None)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
