"""A running application takes the newly activated model over: whole, under load, and keeps the old one if it must."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import realbundle
import storekit
from edgepack_runtime import live as live_module
from edgepack_runtime.activation import now
from edgepack_runtime.errors import EngineError, FormatError, InputError, StoreError
from edgepack_runtime.installation import activate_bundle, install_bundle, roll_back
from edgepack_runtime.live import LiveModel, follow_active
from edgepack_runtime.processing import Classes, Processing
from edgepack_runtime.session import Session
from edgepack_runtime.slots import Health
from edgepack_runtime.statefile import StateFolder
from edgepack_runtime.storefile import StoreFolder
from storekit import CLOCK, PRODUCT, stored


@pytest.fixture
def root(tmp_path) -> Path:
    StateFolder(tmp_path / "state").create()
    publish(tmp_path, 3)
    return tmp_path


def publish(root: Path, security_version: int, health: Health | None = None, **options: object) -> None:
    """Install and activate a bundle, as another process would."""
    path = root / "m.edgepack"
    path.write_bytes(storekit.bundle(security_version, **options))
    install_bundle(path, device=storekit.device(root), clock=lambda: CLOCK)
    activate_bundle(PRODUCT, device=storekit.device(root), health=health)


CLASSES = Classes(output="maybe", activation="none", top=1, threshold=-1e9)


def follow(root: Path, interpreters: int = 1) -> LiveModel:
    return follow_active(PRODUCT, device=storekit.device(root), interpreters=interpreters)


def version(live: LiveModel) -> str:
    with live.using() as session:
        return session.manifest.version


def feeds():
    return realbundle.model().golden[0].inputs


def is_right(outputs) -> bool:
    wanted = realbundle.model().golden[0].outputs
    return all(np.array_equal(outputs[name], array) for name, array in wanted.items())


def damage(root: Path, number: int) -> None:
    path = root / "store" / "slots" / f"{number}.edgepack"
    path.write_bytes(path.read_bytes()[:-1])


def decrypted_copies() -> int:
    mine = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return len({path.stat().st_ino for path in mine if "memfd:edgepack-model" in str(path.readlink())})


def soon(what) -> bool:
    """Return whether something comes true within some seconds."""
    end = time.monotonic() + 20
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Looks:
    """In place of a watch's clock: so many looks, at once; before the last one something happens."""

    def __init__(self, live: LiveModel, count: int, then: Callable[[], None]) -> None:
        self.live, self.left, self.then = live, count, then
        self.failures: list[int] = []

    def wait(self, seconds: float) -> bool:
        self.failures.append(self.live.metrics().failed_reloads)
        if self.left == 1:
            self.then()
        self.left -= 1
        return self.left < 0


def looks(live: LiveModel, count: int, then: Callable[[], None] = lambda: None) -> list[bool]:
    """Have a watch look so often, and return for each look whether it failed to open a newer model."""
    clock, live._stop = live._stop, Looks(live, count, then)
    try:
        live._watch(1.0)
        return [after > before for before, after in itertools.pairwise(live._stop.failures)]
    finally:
        live._stop = clock


def test_a_newly_active_model_takes_over(root):
    with follow(root) as live:
        publish(root, 4)
        assert (version(live), live.reload(), version(live), is_right(live.run(feeds()))) == (
            "1.3",
            True,
            "1.4",
            True,
        )


def test_without_a_newer_one_nothing_is_opened(root):
    with follow(root) as live, live.using() as before:
        assert live.reload() is False
        with live.using() as after:
            assert after is before


def test_an_installed_model_does_not_take_over_before_it_is_active(root):
    with follow(root) as live:
        path = root / "n.edgepack"
        path.write_bytes(storekit.bundle(4))
        install_bundle(path, device=storekit.device(root), clock=lambda: CLOCK)
        assert (live.reload(), version(live)) == (False, "1.3")


def test_a_rollback_takes_over_too(root):
    publish(root, 3, minor=1)
    with follow(root) as live:
        roll_back(PRODUCT, device=storekit.device(root))
        assert (live.reload(), version(live)) == (True, "1.3")


@pytest.mark.parametrize("interpreters", [1, 2])
def test_under_load_no_run_fails_and_none_is_half_of_each(root, interpreters):
    over, wrong = threading.Event(), []
    with follow(root, interpreters) as live, ThreadPoolExecutor(4) as threads:

        def load() -> int:
            count = 0
            while not over.is_set():
                if not is_right(live.run(feeds())):
                    wrong.append("a run")
                with live.using() as session:
                    before = (session.manifest.version, session.bundle.header.security_version)
                    session.run(feeds())
                    after = (session.manifest.version, session.bundle.header.security_version)
                if before != after or before[0] != f"1.{before[1]}":
                    wrong.append(f"{before} {after}")
                count += 1
            return count

        runs = [threads.submit(load) for _ in range(4)]
        try:
            switched = []
            for security_version in range(4, 8):
                publish(root, security_version)
                switched.append(live.reload())
        finally:
            over.set()
        counts = [run.result(30) for run in runs]
        assert (switched, wrong, min(counts) > 0, version(live)) == ([True] * 4, [], True, "1.7")


def test_the_old_one_is_freed_once_its_last_user_is_done(root):
    with follow(root, 2) as live:
        with live.using() as old:
            publish(root, 4)
            live.reload()
            assert (decrypted_copies(), is_right(old.run(feeds()))) == (2, True)
        assert decrypted_copies() == 1
        with pytest.raises(EngineError, match="closed"):
            old.run(feeds())


def test_one_that_does_not_open_leaves_the_old_one_serving(root, caplog):
    with follow(root) as live:
        publish(root, 4)
        damage(root, 2)
        with caplog.at_level(logging.WARNING), pytest.raises(FormatError):
            live.reload()
        assert (version(live), is_right(live.run(feeds())), live.metrics().failed_reloads) == ("1.3", True, 1)
    (record,) = [record for record in caplog.records if record.event == "reload_failed"]
    assert record.fields == {"product": PRODUCT, "running": "1.3"}


def test_one_on_trial_that_does_not_open_is_given_up_and_the_old_one_goes_on(root):
    with follow(root) as live, live.using() as before:
        publish(root, 4, Health())
        damage(root, 2)
        assert live.reload() is False
        with live.using() as after:
            assert after is before
        assert after.notice is not None
        assert "1.4: it could not be opened" in after.notice
        assert live.metrics().failed_reloads == 1
        assert [slot.version for slot in stored(root).slots] == ["1.3", "1.4"]
        assert decrypted_copies() == 1


def test_one_on_trial_whose_time_is_up_falls_back_while_the_application_runs(root, monkeypatch):
    publish(root, 4, Health(seconds=60))
    with follow(root) as live:
        assert (live.reload(), version(live)) == (False, "1.4")
        start = now()
        later = replace(start, seconds=start.seconds + 61)
        for module in ("activation", "live"):
            monkeypatch.setattr(f"edgepack_runtime.{module}.now", lambda: later)
        assert (live.reload(), version(live), live.reload()) == (True, "1.3", False)


def test_one_on_trial_with_its_last_start_goes_on(root):
    publish(root, 4, Health(starts=1))
    with follow(root) as live:
        assert (live.reload(), version(live)) == (False, "1.4")


def test_a_report_is_that_of_the_model_that_runs(root):
    with follow(root) as live:
        publish(root, 4, Health())
        live.reload()
        live.run(feeds())
        live.report_healthy()
    assert [slot.state.value for slot in stored(root).slots] == ["good", "good"]


def test_a_report_that_the_model_before_earned_does_not_end_the_trial_of_the_new_one(root):
    with follow(root) as live:
        live.run(feeds())
        publish(root, 4, Health())
        live.reload()
        live.report_healthy()
    assert [slot.state.value for slot in stored(root).slots] == ["trial", "good"]


def test_a_watched_model_takes_over_by_itself(root):
    with follow(root) as live:
        live.watch(0.02)
        publish(root, 4)
        assert soon(lambda: version(live) == "1.4")
        assert live.metrics().reloads == 1


def test_a_watch_tries_what_failed_less_and_less_often(root):
    with follow(root) as live:
        publish(root, 4)
        path = root / "store" / "slots" / "2.edgepack"
        whole = path.read_bytes()
        damage(root, 2)
        tries = looks(live, 16)
        path.write_bytes(whole)
        looks(live, 1)
        assert ([i for i, failed in enumerate(tries) if failed], version(live)) == ([0, 2, 6, 14], "1.4")


def test_a_watch_that_rests_after_failures_takes_the_next_version_at_once(root):
    with follow(root) as live:
        publish(root, 4)
        damage(root, 2)
        tries = looks(live, 10, then=lambda: publish(root, 5))
        assert (sum(tries), tries[-1], version(live)) == (3, False, "1.5")


def test_a_watch_counts_few_starts_of_one_on_trial_whose_engine_fails(root, monkeypatch):
    publish(root, 4, Health(starts=99))
    with follow(root) as live:
        live.run(feeds())
        live.report_healthy()
        publish(root, 5, Health(starts=99))

        def fail(session: object, runs: int) -> None:
            raise EngineError("it fails")

        monkeypatch.setattr(Session, "bench", fail)
        looks(live, 16)
        trial = stored(root).trial
        assert (trial.started if trial else None, version(live)) == (4, "1.4")


def test_a_watch_outlives_any_error(root, monkeypatch, caplog):
    def out_of_memory(product: str, *, device: object) -> object:
        raise MemoryError

    with follow(root) as live:
        publish(root, 4)
        with monkeypatch.context() as patched:
            patched.setattr(live_module, "open_active", out_of_memory)
            failed = looks(live, 1)
        looks(live, 1)
        assert (failed, version(live)) == ([True], "1.4")
    assert "digits: 1.3 goes on, as the active one did not open: MemoryError" in caplog.messages


def test_a_watch_does_not_read_the_store_while_nothing_changes(root, monkeypatch):
    real, reads = StoreFolder.read, []

    def read(folder: StoreFolder) -> object:
        reads.append(folder)
        return real(folder)

    monkeypatch.setattr(StoreFolder, "read", read)
    with follow(root) as live:
        reads.clear()
        looks(live, 200)
        assert len(reads) == 1


def test_a_watch_looks_after_a_trial_although_nothing_changes_in_the_store(root, monkeypatch):
    publish(root, 4, Health(seconds=60))
    later = replace(now(), seconds=now().seconds + 61)

    def pass_time() -> None:
        for module in ("activation", "live"):
            monkeypatch.setattr(f"edgepack_runtime.{module}.now", lambda: later)

    with follow(root) as live:
        looks(live, 3, then=pass_time)
        assert version(live) == "1.3"


def test_a_closed_model_is_refused_and_closes_twice(root):
    live = follow(root)
    live.watch(0.02)
    live.close()
    live.close()
    with pytest.raises(EngineError, match="the model is closed"):
        live.run(feeds())
    with pytest.raises(EngineError, match="the model is closed"):
        live.reload()
    assert decrypted_copies() == 0
    assert "edgepack" not in [thread.name for thread in threading.enumerate()]


def test_closing_lets_the_runs_end_that_go_on(root):
    live = follow(root)
    with live.using() as session:
        live.close()
        assert is_right(session.run(feeds()))
    assert decrypted_copies() == 0


def test_it_runs_without_holding_up_an_event_loop(root):
    with follow(root, 2) as live:

        async def two():
            return await asyncio.gather(live.arun(feeds()), live.arun(feeds()))

        assert [is_right(outputs) for outputs in asyncio.run(two())] == [True, True]


def test_one_of_which_nothing_is_active_is_refused(root):
    with pytest.raises(StoreError, match="no bundle is active"):
        follow_active("other", device=storekit.device(root))


def test_a_damaged_store_leaves_the_old_one_serving(root):
    with follow(root) as live:
        (StoreFolder(root / "store").path / "store.json").write_bytes(b"{}")
        with pytest.raises(StoreError):
            live.reload()
        assert is_right(live.run(feeds()))


@pytest.mark.parametrize("interpreters", [1, 2])
def test_predictions_are_of_the_model_that_is_active(root, interpreters):
    publish(root, 4, processing=Processing(classes=CLASSES))
    with follow(root, interpreters) as live:
        assert live.predict(feeds()).found[0].label in {"zero", "one"}
        publish(root, 5)
        live.reload()
        with pytest.raises(InputError, match="declares nothing before or behind"):
            live.predict(feeds())
