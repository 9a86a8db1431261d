"""Work that two threads share."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from edgepack_runtime import encryption
from edgepack_runtime._ahead import share
from edgepack_runtime.encryption import PayloadSuite, check_segments, segment_digests
from edgepack_runtime.errors import PayloadError


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "edgepack-share"]


def test_each_number_is_worked_on_once():
    done = []
    share(done.append, 3, 50)
    assert sorted(done) == list(range(3, 50))


def test_no_numbers_are_no_work():
    done = []
    share(done.append, 5, 5)
    assert done == []


def test_two_threads_work_at_a_time():
    both = threading.Barrier(2, timeout=10)
    share(lambda number: both.wait(), 0, 8)
    assert both.n_waiting == 0


@pytest.mark.parametrize("wrong", [{0}, {3}, {3, 4}, {49}])
def test_the_first_that_went_wrong_is_told(wrong):
    both = threading.Barrier(2, timeout=10)

    def work(number: int) -> None:
        if number in wrong:
            if len(wrong) == 2:
                both.wait()
            raise PayloadError(f"payload: segment {number}")

    with pytest.raises(PayloadError, match=f"segment {min(wrong)}$"):
        share(work, 0, 50)
    assert threads() == []


def test_nothing_is_begun_long_after_one_went_wrong():
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise PayloadError("payload: segment 3")
        time.sleep(0.01)

    with pytest.raises(PayloadError):
        share(work, 0, 50)
    assert max(begun) <= 3 + 2


def test_the_other_thread_has_ended_when_the_work_is_done():
    share(lambda number: time.sleep(0.001), 0, 9)
    assert threads() == []


@pytest.fixture
def interruptible():
    """A process that a shell began in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_both_threads_and_goes_on():
    """What they write into may be given back, and its descriptor to somebody else, as soon as this has returned."""
    done = []

    def work(number: int) -> None:
        if number == 4:
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(KeyboardInterrupt):
        share(work, 0, 100)
    count = len(done)
    time.sleep(0.05)
    assert (threads(), len(done)) == ([], count)
    assert count < 20


def test_without_a_thread_one_does_it_all(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    share(done.append, 0, 5)
    assert done == [0, 1, 2, 3, 4]


def test_without_a_thread_an_error_is_told_too(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ZeroDivisionError):
        share(lambda number: 1 // number, 0, 5)


@pytest.mark.parametrize("segments", [2, 3, 9])
@pytest.mark.parametrize("altered", [0, 1])
def test_a_segment_that_was_not_signed_is_refused_however_many_there_are(segments, altered):
    stored = bytearray(segments << 20)
    digests = segment_digests(PayloadSuite.PLAIN, bytes(stored))
    stored[(altered << 20) + 5] ^= 1
    with pytest.raises(PayloadError, match=f"segment {altered} of {segments} is not the one"):
        check_segments(PayloadSuite.PLAIN, len(stored), digests, lambda at, size: stored[at : at + size])


def test_each_byte_is_asked_for_once():
    asked = []

    def read(at: int, size: int) -> bytes:
        asked.append((at, size))
        return bytes(size)

    length = (6 << 20) + 17
    check_segments(PayloadSuite.PLAIN, length, segment_digests(PayloadSuite.PLAIN, bytes(length)), read)
    assert sorted(asked) == list(encryption.segment_spans(PayloadSuite.PLAIN, length))
