"""Pools: as many runs at a time as there are interpreters, one decrypted copy, and a close that loses nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import realbundle
from edgepack_runtime.errors import EngineError, InputError
from edgepack_runtime.latency import measure
from edgepack_runtime.observe import Meter
from edgepack_runtime.session import open_bundle


@pytest.fixture
def write(tmp_path):
    def write(name: str) -> Path:
        path = tmp_path / f"{name}.edgepack"
        path.write_bytes(realbundle.bundle(name))
        return path

    return write


@pytest.fixture
def session(write):
    with open_bundle(write("two_by_two"), device=realbundle.device()) as session:
        yield session


def golden(sample: int = 0):
    return realbundle.model().golden[sample]


def is_golden(outputs, sample: int) -> bool:
    return all(np.array_equal(outputs[name], array) for name, array in golden(sample).outputs.items())


def decrypted_copies() -> int:
    """Return how many memory files with models this process has; an engine opens the one it is given once more."""
    mine = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return len({path.stat().st_ino for path in mine if "memfd:edgepack-model" in str(path.readlink())})


def unread():
    raise AssertionError("nothing is predicted here")


class Slow:
    """An engine whose runs last until they are let go, and which counts how many go on at a time."""

    def __init__(self) -> None:
        self.go, self.closed = threading.Event(), False
        self.running = threading.Semaphore(0)

    def run(self, feeds):
        self.running.release()
        assert self.go.wait(20)
        return feeds

    def close(self) -> None:
        self.closed = True


def test_a_pool_gives_the_golden_outputs_to_every_thread(session):
    with session.pool(2) as pool, ThreadPoolExecutor(8) as threads:
        samples = [i % 3 for i in range(120)]
        found = list(threads.map(lambda i: is_golden(pool.run(golden(i).inputs), i), samples))
    assert found == [True] * 120


def test_the_outputs_are_in_the_manifests_order(session):
    with session.pool(1) as pool:
        assert list(pool.run(golden().inputs)) == ["yes", "maybe"]


def test_a_pool_runs_another_signature_by_its_key(tmp_path):
    path = tmp_path / "codec.edgepack"
    path.write_bytes(realbundle.bundle("codec"))
    with open_bundle(path, device=realbundle.device()) as session, session.pool(2) as pool:
        found = pool.run({"x": np.ones((1, 8), np.float32)}, signature_key="encode")
        alone = session.run({"x": np.ones((1, 8), np.float32)}, signature_key="encode")
    np.testing.assert_array_equal(found["code"], alone["code"])


def test_a_pool_and_its_session_share_one_decrypted_copy(session):
    before = decrypted_copies()
    with session.pool(3):
        assert decrypted_copies() == before


def test_a_pool_says_how_many_run_at_a_time(session):
    with session.pool(3) as pool:
        assert len(pool) == 3


def test_as_many_run_at_a_time_as_there_are_interpreters():
    from edgepack_runtime.pool import Pool

    engines = [Slow(), Slow()]
    with Pool(engines, (), Meter(), unread) as pool, ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(pool.run, {}) for _ in range(3)]
        began = [engine.running.acquire(timeout=20) for engine in engines]
        third = any(engine.running.acquire(timeout=0.2) for engine in engines)
        for engine in engines:
            engine.go.set()
        assert (began, third, [one.result(20) for one in waiting]) == ([True, True], False, [{}, {}, {}])


def test_closing_waits_for_a_run_and_refuses_those_that_wait():
    from edgepack_runtime.pool import Pool

    engine = Slow()
    pool = Pool([engine], (), Meter(), unread)
    with ThreadPoolExecutor(3) as threads:
        runs = threads.submit(pool.run, {})
        assert engine.running.acquire(timeout=20)
        waits = threads.submit(pool.run, {})
        closing = threads.submit(pool.close)
        time.sleep(0.1)
        assert (closing.done(), engine.closed) == (False, False)
        engine.go.set()
        assert (runs.result(20), closing.result(20), engine.closed) == ({}, None, True)
        assert isinstance(waits.exception(20), EngineError)


def test_a_closed_pool_is_refused_and_closes_twice(session):
    pool = session.pool(1)
    pool.close()
    pool.close()
    with pytest.raises(EngineError, match="the pool is closed"):
        pool.run(golden().inputs)


def test_a_pool_goes_on_after_an_input_that_does_not_fit(session):
    with session.pool(1) as pool:
        with pytest.raises(InputError):
            pool.run({})
        assert is_golden(pool.run(golden().inputs), 0)


def test_a_model_with_state_has_no_pool(write):
    with (
        open_bundle(write("stateful"), device=realbundle.device()) as session,
        pytest.raises(EngineError, match="would mix its streams"),
    ):
        session.pool(2)


def test_a_closed_session_has_no_pool(session):
    session.close()
    with pytest.raises(EngineError, match="the session is closed"):
        session.pool(1)


def test_a_pool_outlives_its_session(session):
    with session.pool(1) as pool:
        session.close()
        assert is_golden(pool.run(golden().inputs), 0)


def test_awaiting_a_run_does_not_hold_up_the_event_loop():
    from edgepack_runtime.pool import Pool

    async def both() -> dict:
        engine = Slow()
        pool = Pool([engine], (), Meter(), unread)
        waiting = asyncio.create_task(pool.arun({}))
        await asyncio.sleep(0.05)
        engine.go.set()
        return await waiting

    assert asyncio.run(both()) == {}


def test_a_cancelled_run_gives_its_interpreter_back():
    from edgepack_runtime.pool import Pool

    async def cancelled() -> dict:
        engine = Slow()
        pool = Pool([engine], (), Meter(), unread)
        waiting = asyncio.create_task(pool.arun({}))
        await asyncio.to_thread(engine.running.acquire)
        waiting.cancel()
        engine.go.set()
        return await pool.arun({})

    assert asyncio.run(cancelled()) == {}


def test_a_session_can_be_awaited(session):
    assert is_golden(asyncio.run(session.arun(golden(1).inputs)), 1)


@pytest.mark.parametrize("name", ["two_by_two", "int8", "stateful"])
def test_warming_up_leaves_no_state(write, name):
    with open_bundle(write(name), device=realbundle.device()) as session:
        session.warmup(2)
        first = realbundle.model(name).golden[0]
        outputs = session.run(first.inputs)
    assert all(np.array_equal(outputs[key], array) for key, array in first.outputs.items())


def test_a_bench_says_how_long_runs_take(session):
    found = session.bench(runs=20)
    assert found.runs == 20
    assert 0 < found.min_ms <= found.median_ms <= found.p95_ms <= found.max_ms


def test_a_bench_leaves_no_state(write):
    with open_bundle(write("stateful"), device=realbundle.device()) as session:
        session.bench(runs=2)
        first = realbundle.model("stateful").golden[0]
        np.testing.assert_array_equal(session.run(first.inputs)["y"], first.outputs["y"])


@pytest.mark.parametrize(("count", "median", "p95"), [(1, 1, 1), (4, 2.5, 4), (20, 10.5, 19), (100, 50.5, 95)])
def test_a_latency_is_of_single_runs(monkeypatch, count, median, p95):
    ticks = iter([t for ms in range(count, 0, -1) for t in (0, ms * 1_000_000)])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    found = measure(lambda: None, count)
    assert (found.median_ms, found.p95_ms, found.min_ms, found.max_ms) == (median, p95, 1, count)
