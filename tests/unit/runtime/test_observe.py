"""Metrics and events: what they count, and how Prometheus and readers of JSON get them."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import realbundle
import storekit
from edgepack_runtime.errors import EngineError, FormatError, InputError, StoreError
from edgepack_runtime.installation import activate_bundle, install_bundle, roll_back
from edgepack_runtime.observe import Meter, Metrics, event, metrics_json, prometheus_text
from edgepack_runtime.session import open_bundle
from edgepack_runtime.statefile import StateFolder

NAMES = {"model": "digits", "version": "1.3", "profile": "board", "engine": "ai-edge-litert 2.3.0"}
# The text format, version 0.0.4, as far as it is used: no timestamps, no exemplars, label values without raw breaks.
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)\{{({LABEL}(?:,{LABEL})*)\}} (\S+)")
OPENING = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)")


@pytest.fixture
def session(tmp_path):
    path = tmp_path / "m.edgepack"
    path.write_bytes(realbundle.bundle("two_by_two"))
    with open_bundle(path, device=realbundle.device()) as session:
        yield session


def feeds():
    return realbundle.model().golden[0].inputs


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of a Prometheus text, read strictly: each is of the family opened last, and there once."""
    assert text.endswith("\n")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    family, kind, opened = "", "", []
    for line in text.splitlines():
        if (opening := OPENING.fullmatch(line)) is not None:
            word, name, rest = opening.groups()
            opened.append((word, name))
            if word == "TYPE":
                assert opened[-2:] == [("HELP", name), ("TYPE", name)]
                assert rest in ("counter", "histogram")
                family, kind = name, rest
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        name, labels, value = sample.groups()
        endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        assert name in [family + ending for ending in endings]
        key = (name, frozenset(tuple(pair) for pair in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
        assert key not in found, line
        found[key] = float(value)
    assert len(set(opened)) == len(opened)
    return found


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset({**NAMES, **labels}.items())]


def metrics(**changes: object) -> Metrics:
    meter = Meter()
    for _ in range(3):
        meter.timed(lambda given: given, None)
    return Meter.metrics(meter, **{**NAMES, **changes})


def lost(meter: Meter, error: Exception) -> None:
    def run(given: None) -> None:
        raise error

    with pytest.raises(type(error)):
        meter.timed(run, None)


@pytest.fixture
def root(tmp_path):
    StateFolder(tmp_path / "state").create()
    return tmp_path


def install(root, security_version: int, **options: object) -> None:
    path = root / "m.edgepack"
    path.write_bytes(storekit.bundle(security_version, **options))
    install_bundle(path, device=storekit.device(root), clock=lambda: storekit.CLOCK)


def activate(root) -> None:
    activate_bundle(storekit.PRODUCT, device=storekit.device(root))


def test_each_run_is_counted_in_one_bucket(session):
    for _ in range(5):
        session.run(feeds())
    found = session.metrics()
    assert (found.runs, found.refused, found.failed, found.seconds > 0) == (5, 0, 0, True)


def test_the_metrics_name_the_model_and_what_runs_it(session):
    found = session.metrics()
    assert (found.model, found.version, found.profile) == (
        session.bundle.header.product,
        session.manifest.version,
        session.bundle.header.profile,
    )
    assert found.engine == session.engine


def test_runs_of_pools_are_counted_with_those_of_their_session(session):
    with session.pool(2) as pool, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pool.run(feeds()), range(40)))
    session.run(feeds())
    assert session.metrics().runs == 41


def test_a_closed_pool_is_no_failure_of_the_model(session):
    pool = session.pool(1)
    pool.close()
    with pytest.raises(EngineError):
        pool.run(feeds())
    assert session.metrics().failed == 0


def test_inputs_that_do_not_fit_are_counted_apart_from_failures_of_the_engine():
    meter = Meter()
    lost(meter, InputError("no"))
    lost(meter, EngineError("no"))
    lost(meter, EngineError("no"))
    found = meter.metrics(**NAMES)
    assert (found.runs, found.refused, found.failed) == (0, 1, 2)


def test_a_run_that_ends_in_a_foreign_error_is_counted_as_failed():
    meter = Meter()
    lost(meter, MemoryError())
    assert meter.metrics(**NAMES).failed == 1


def test_a_run_without_the_input_that_counts_samples_is_one_sample():
    meter = Meter("x")
    meter.timed(dict, {"code": np.ones((3, 4))})
    meter.timed(dict, {"x": np.float32(1)})
    found = meter.metrics(model="m", version="1", profile="p", engine="e")
    assert (found.runs, found.samples) == (2, 2)


def test_the_samples_of_a_run_are_the_first_dimension_that_the_model_leaves_open():
    meter = Meter("x")
    for size in (4, 3):
        meter.timed(dict, {"x": np.zeros((size, 2)), "y": np.zeros(9)})
    found = meter.metrics(**NAMES)
    assert (found.runs, found.samples) == (2, 7)


def test_a_run_of_a_model_of_a_fixed_shape_is_one_sample(session):
    session.run(feeds())
    assert session.metrics().samples == 1


def test_self_tests_and_benches_are_no_runs_of_the_application(session):
    session.warmup()
    session.bench(3)
    session.self_test()
    assert session.metrics().runs == 0


def test_no_run_is_lost_between_threads():
    meter, gate = Meter(), threading.Barrier(4)

    def many() -> None:
        gate.wait(20)
        for _ in range(5000):
            meter.timed(lambda given: given, None)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(many) for _ in range(4)]:
            done.result(60)
    assert meter.metrics(**NAMES).runs == 20_000


def test_a_run_is_in_the_first_bucket_whose_end_it_does_not_pass(monkeypatch):
    times = iter([0, 10_000, 0, 10_001, 0, 10**12])
    monkeypatch.setattr("edgepack_runtime.observe.perf_counter_ns", lambda: next(times))
    meter = Meter()
    for _ in range(3):
        meter.timed(lambda given: given, None)
    found = meter.metrics(**NAMES)
    assert (found.counts[0], found.counts[1], found.counts[-1], found.runs) == (1, 1, 1, 3)


def test_the_prometheus_text_is_read_strictly_and_says_what_was_counted(session):
    for _ in range(4):
        session.run(feeds())
    with pytest.raises(InputError):
        session.run({})
    found = session.metrics()
    names = {"model": found.model, "version": found.version, "profile": found.profile, "engine": found.engine}
    text = prometheus_text(found)
    assert value(text, "edgepack_run_seconds_count", **names) == 4
    assert value(text, "edgepack_run_seconds_bucket", **names, le="+Inf") == 4
    assert value(text, "edgepack_run_seconds_sum", **names) == found.seconds
    assert value(text, "edgepack_lost_runs_total", **names, kind="refused") == 1


def test_the_buckets_never_fall_and_end_with_all_runs():
    found = samples(prometheus_text(metrics()))
    ends = {
        float(dict(labels)["le"].replace("+Inf", "inf")): runs
        for (name, labels), runs in found.items()
        if name == "edgepack_run_seconds_bucket"
    }
    counts = [ends[end] for end in sorted(ends)]
    assert (counts == sorted(counts), counts[-1], max(ends)) == (True, 3, math.inf)


def test_several_models_share_one_text():
    found = samples(prometheus_text(metrics(), metrics(model="letters")))
    counted = {dict(labels)["model"] for name, labels in found if name == "edgepack_run_seconds_count"}
    assert counted == {"digits", "letters"}


def test_two_sessions_of_one_model_are_added_up_as_a_text_with_a_series_twice_is_refused():
    text = prometheus_text(metrics(), metrics())
    assert [value(text, f"edgepack_{name}") for name in ("run_seconds_count", "samples_total")] == [6, 6]
    assert value(text, "edgepack_run_seconds_bucket", le="+Inf") == 6


def test_a_label_is_escaped_as_prometheus_wants_it():
    text = prometheus_text(metrics(version='1 "\\\n2'))
    assert value(text, "edgepack_run_seconds_count", version='1 \\"\\\\\\n2') == 3


def test_the_json_says_the_same_as_the_metrics():
    one = metrics()
    (found,) = json.loads(metrics_json(one))["models"]
    assert (found["runs"], found["seconds"], found["model"]) == (3, one.seconds, "digits")
    assert found["latency"][-1] == {"le": "+Inf", "runs": 3}


def test_opening_is_an_event_with_fields(tmp_path, caplog):
    path = tmp_path / "m.edgepack"
    path.write_bytes(realbundle.bundle("two_by_two"))
    with caplog.at_level(logging.INFO, "edgepack_runtime"), open_bundle(path, device=realbundle.device()) as session:
        (record,) = [record for record in caplog.records if getattr(record, "event", "") == "opened"]
        assert record.fields == {
            "product": session.bundle.header.product,
            "version": session.manifest.version,
            "security_version": session.bundle.header.security_version,
            "engine": session.engine,
        }


def test_a_refusal_is_an_event_that_names_its_error(tmp_path, caplog):
    path = tmp_path / "m.edgepack"
    path.write_bytes(realbundle.bundle("two_by_two")[:-1])
    with caplog.at_level(logging.INFO, "edgepack_runtime"), pytest.raises(FormatError) as caught:
        open_bundle(path, device=realbundle.device())
    (record,) = caplog.records
    assert (record.levelname, record.event, record.fields) == ("INFO", "refused", {"error": "FormatError"})
    assert record.message == f"{path}: {caught.value.message}"


def test_what_becomes_of_a_bundle_in_the_store_is_told(root, caplog):
    with caplog.at_level(logging.INFO, "edgepack_runtime"):
        for minor in (3, 4):
            install(root, minor)
        activate(root)
        with pytest.raises(StoreError):
            roll_back(storekit.PRODUCT, device=storekit.device(root))
    found = [(record.event, record.fields.get("version")) for record in caplog.records]
    assert found == [("installed", "1.3"), ("installed", "1.4"), ("activated", "1.4"), ("refused", None)]


def test_going_back_is_told(root, caplog):
    for options in ({}, {"minor": 1}):
        install(root, 3, **options)
        activate(root)
    with caplog.at_level(logging.INFO, "edgepack_runtime"):
        roll_back(storekit.PRODUCT, device=storekit.device(root))
    assert [(record.event, record.fields["version"]) for record in caplog.records] == [("rolled_back", "1.3")]


def test_the_child_that_tries_a_bundle_touches_no_handler_of_the_application(root):
    log = root / "log"
    handler = logging.FileHandler(log)
    logger = logging.getLogger("edgepack_runtime")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        install(root, 3)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
    assert log.read_text() == "digits 1.3 is installed\n"


def test_neither_metrics_nor_events_hold_anything_of_the_inputs_and_outputs(session, caplog):
    marked = {name: np.full_like(array, 77) for name, array in feeds().items()}
    with caplog.at_level(logging.DEBUG):
        outputs = session.run(marked)
        session.report_healthy()
    text = prometheus_text(session.metrics()) + metrics_json(session.metrics()) + caplog.text
    names = [*marked, *outputs]
    assert [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_an_application_that_does_not_log_does_not_import_logging():
    code = (
        "import sys; from edgepack_runtime.observe import event; event('opened', 'it is open'); "
        "print('logging' in sys.modules); event('fell_back', 'it fell back', warning=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "it fell back\n")


def test_a_warning_is_logged_with_its_fields(caplog):
    event("fell_back", "it fell back", warning=True, product="digits")
    (record,) = caplog.records
    assert (record.levelname, record.message, record.fields) == ("WARNING", "it fell back", {"product": "digits"})
