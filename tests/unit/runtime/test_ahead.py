"""Steps worked out by a thread that is a little ahead."""

from __future__ import annotations

import threading
import time

import pytest

from edgepack_runtime import encryption
from edgepack_runtime._ahead import ahead
from edgepack_runtime.encryption import PayloadSuite, check_segments, segment_digests
from edgepack_runtime.errors import PayloadError


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "edgepack-ahead"]


def test_the_steps_come_in_order():
    assert list(ahead(lambda number: number * number, 50)) == [number * number for number in range(50)]


def test_no_steps_are_none():
    assert list(ahead(lambda number: number, 0)) == []


def test_they_are_worked_out_by_another_thread():
    (name,) = ahead(lambda number: threading.current_thread().name, 1)
    assert name == "edgepack-ahead"


def test_the_thread_is_never_far_ahead():
    begun = []
    steps = ahead(begun.append, 50)
    for _ in range(10):
        next(steps)
    time.sleep(0.05)
    assert len(begun) <= 10 + 2
    steps.close()


def test_an_error_comes_where_its_step_would_have():
    def work(number: int) -> int:
        if number == 3:
            raise PayloadError("payload: segment 3")
        return number

    steps = ahead(work, 50)
    assert [next(steps) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(PayloadError, match="segment 3"):
        next(steps)
    assert threads() == []


def test_the_thread_has_ended_when_the_steps_were_taken():
    list(ahead(lambda number: number, 5))
    assert threads() == []


def test_the_thread_ends_when_nobody_takes_the_rest():
    steps = ahead(lambda number: number, 50)
    next(steps)
    steps.close()
    assert threads() == []


def test_without_a_thread_the_steps_come_all_the_same(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert list(ahead(lambda number: number, 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("segments", [3, 4, 9])
@pytest.mark.parametrize("altered", [0, 2])
def test_a_segment_that_was_not_signed_is_refused_however_many_there_are(segments, altered):
    stored = bytearray(segments << 20)
    digests = segment_digests(PayloadSuite.PLAIN, bytes(stored))
    stored[(altered << 20) + 5] ^= 1
    with pytest.raises(PayloadError, match=f"segment {altered} of {segments} is not the one"):
        check_segments(PayloadSuite.PLAIN, len(stored), digests, lambda at, size: stored[at : at + size])


def test_each_byte_is_asked_for_once_in_order():
    asked = []

    def read(at: int, size: int) -> bytes:
        asked.append((at, size))
        return bytes(size)

    length = (6 << 20) + 17
    check_segments(PayloadSuite.PLAIN, length, segment_digests(PayloadSuite.PLAIN, bytes(length)), read)
    assert asked == list(encryption.segment_spans(PayloadSuite.PLAIN, length))
