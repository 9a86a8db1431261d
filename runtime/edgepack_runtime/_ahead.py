"""Steps that a second core works out while the first one uses those before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["ahead"]

_STEPS = 2
Step = TypeVar("Step")


def ahead(work: Callable[[int], Step], count: int) -> Iterator[Step]:
    """Yield ``work(0)`` to ``work(count - 1)`` in this order; a thread is up to two steps ahead of what was taken.

    What `work` raises is raised where its step would have come, and no later step is begun. The thread has ended when
    this has. Without a thread to be had, each step is worked out when it is asked for.
    """
    room, done = threading.Semaphore(_STEPS), queue.SimpleQueue[tuple[Step | None, BaseException | None]]()
    ended = False

    def run() -> None:
        for number in range(count):
            room.acquire()
            if ended:
                return
            try:
                done.put((work(number), None))
            except BaseException as error:  # noqa: BLE001 - it is raised again, where it belongs
                done.put((None, error))
                return

    thread = threading.Thread(target=run, name="edgepack-ahead", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        yield from map(work, range(count))
        return
    try:
        for _ in range(count):
            step, error = done.get()
            if error is not None:
                raise error
            room.release()
            yield step  # type: ignore[misc]
    finally:
        ended = True
        room.release()
        thread.join()
