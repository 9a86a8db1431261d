"""Work that a second core takes its share of."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["share"]


def share(work: Callable[[int], object], first: int, end: int) -> None:
    """Call `work` with each number from `first` to below `end`, in this thread and a second one.

    They are begun in order. What `work` raises is raised, for the lowest number it was raised for, and no more than
    one is begun after it. The second thread has ended when this has; without one to be had, this one does all.
    """
    left, lock = iter(range(first, end)), threading.Lock()
    failed: list[tuple[int, BaseException]] = []

    def run() -> None:
        while not failed:
            with lock:
                number = next(left, end)
            if number == end:
                return
            try:
                work(number)
            except BaseException as error:  # noqa: BLE001 - it is raised again, by the thread that waits
                failed.append((number, error))

    thread = threading.Thread(target=run, name="edgepack-share", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        run()
    else:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - Ctrl-C between two of them
            failed.append((end, error))
        _end(thread, failed, end)
    if failed:
        raise min(failed, key=lambda failure: failure[0])[1]


def _end(thread: threading.Thread, failed: list[tuple[int, BaseException]], end: int) -> None:
    """Wait for the thread whatever happens: what it writes into may be given back after this."""
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # noqa: BLE001 - Ctrl-C; it is raised again when the thread has ended
            failed.append((end, error))
