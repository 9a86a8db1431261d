"""What really works here: every installed engine on tiny models with known answers, each in a child process."""

from __future__ import annotations

import json
import os
import signal
import struct
from dataclasses import replace

import numpy as np
import pytest

from edgepack_runtime import engines, probing
from edgepack_runtime.cli import main
from edgepack_runtime.errors import EngineError
from edgepack_runtime.op_table import operator_table
from edgepack_runtime.probing import probe, probe_input, probe_models

ENGINE, VERSION = engines.installed()[0]
MODELS = {model.name: model for model in probe_models()}
FLOAT = MODELS["float32/plain/FULLY_CONNECTED"]


def verdicts(document, engine=ENGINE) -> dict[str, dict]:
    (found,) = [e for e in document["engines"] if e["name"] == engine]
    return {model["name"]: model for model in found["models"]}


@pytest.fixture(scope="module")
def document():
    # Through JSON, as it leaves the device.
    return json.loads(json.dumps(probe()))


def test_every_scheme_of_profiles_is_tried_on_both_kinds_of_layers():
    kinds = {(name.split("/")[0], name.split("/")[-1]) for name in MODELS}
    schemes = {"float32", "float16", "dynamic_range", "full_integer"}
    assert kinds >= {(scheme, layer) for scheme in schemes for layer in ("CONV_2D", "FULLY_CONNECTED")}


def test_every_answer_has_numbers_that_differ():
    for model in MODELS.values():
        assert len(np.unique(np.frombuffer(model.answer, "<f4"))) == len(model.answer) // 4


def test_float_models_are_right_on_every_engine(document):
    for name, _ in engines.installed():
        found = verdicts(document, name)
        assert [found[f"float32/plain/{kind}"]["verdict"] for kind in ("CONV_2D", "FULLY_CONNECTED")] == ["right"] * 2


def test_the_operators_are_the_engines_own(document):
    assert document["engines"][0]["operators"] == list(operator_table(ENGINE))


def test_dense_weights_with_a_scale_a_channel_are_right_or_refused_when_their_version_is_stated(document):
    assert verdicts(document)["dynamic_range/per_channel/FULLY_CONNECTED"]["verdict"] in ("right", "fails")


@pytest.mark.skipif(ENGINE != "tflite-runtime", reason="other engines compute it right")
def test_dense_weights_with_a_scale_a_channel_are_wrong_on_an_old_engine_when_their_version_is_not_stated(document):
    found = verdicts(document)["dynamic_range/per_channel/unstamped/FULLY_CONNECTED"]
    assert (found["verdict"], found["error"] > 0.5) == ("wrong", True)


def test_threads_are_timed_from_one_to_all_cores(document):
    (found,) = [e for e in document["engines"] if e["name"] == ENGINE]
    counts = [count for count, _ in found["threads"]]
    assert counts == list(range(1, min(8, len(os.sched_getaffinity(0))) + 1))
    assert found["threads"][0] == [1, 1.0]
    assert found["num_threads"] in counts


def test_a_process_with_the_engine_takes_some_megabytes(document):
    assert 5 << 20 < document["engines"][0]["process_bytes"] < 1 << 30


def test_another_answer_is_a_wrong_model():
    doubled = (2 * np.frombuffer(FLOAT.answer, "<f4")).tobytes()
    found = probing._tried(ENGINE, replace(FLOAT, answer=doubled))
    assert found == {"name": FLOAT.name, "verdict": "wrong", "error": pytest.approx(0.5), "reason": ""}


@pytest.mark.parametrize(("tolerance", "verdict"), [(0.02, "right"), (0.005, "wrong")])
def test_an_answer_that_is_off_by_less_than_its_tolerance_is_right(tolerance, verdict):
    moved = (np.frombuffer(FLOAT.answer, "<f4") * 1.01).astype("<f4").tobytes()
    assert probing._tried(ENGINE, replace(FLOAT, answer=moved, tolerance=tolerance))["verdict"] == verdict


def test_numbers_that_are_none_are_wrong_and_told_without_an_error():
    bias = (np.arange(6) / 4 - 0.5).astype("<f4").tobytes()
    assert FLOAT.model.count(bias) == 1
    broken = replace(FLOAT, model=FLOAT.model.replace(bias, struct.pack("<6f", *[float("nan")] * 6)))
    found = probing._tried(ENGINE, broken)
    assert (found["verdict"], "error" in found) == ("wrong", False)


def test_a_file_that_is_no_model_fails_with_the_engines_reason():
    found = probing._tried(ENGINE, replace(FLOAT, model=b"\0" * 4 + b"TFL3" + b"\xff" * 64))
    assert found["verdict"] == "fails"
    assert f"{ENGINE} {VERSION} refuses the model" in found["reason"]


def test_a_crash_on_a_model_is_a_verdict(monkeypatch):
    monkeypatch.setattr(engines, "load", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGSEGV))
    found = probing._tried(ENGINE, FLOAT)
    assert (found["verdict"], "SIGSEGV" in found["reason"]) == ("fails", True)


def test_a_model_that_hangs_is_a_verdict(monkeypatch):
    monkeypatch.setattr(probing, "_MODEL_SECONDS", 0.5)
    monkeypatch.setattr(engines, "load", lambda *args, **kwargs: signal.pause())
    found = probing._tried(ENGINE, FLOAT)
    assert (found["verdict"], "no answer within 0.5 seconds" in found["reason"]) == ("fails", True)


def test_an_engine_that_crashes_when_it_is_asked_is_told_and_nothing_more_is_tried(monkeypatch):
    monkeypatch.setattr(probing, "operator_table", lambda name: os.kill(os.getpid(), signal.SIGABRT))
    found = probe(ENGINE, [FLOAT])["engines"][0]
    assert "SIGABRT" in found["problem"]
    assert found["models"] == []


def test_an_engine_that_is_not_installed_is_refused():
    with pytest.raises(EngineError, match="other is not installed here"):
        probe("other")


def test_the_input_is_the_same_for_every_shape():
    assert probe_input((2, 3)).ravel().tolist() == probe_input((6,)).tolist()


def test_the_command_writes_the_document_whole_and_prints_nothing_of_the_engines_chatter(tmp_path, capfd):
    path = tmp_path / "probe.json"
    assert main(["probe", "--engine", ENGINE, "--output", str(path), "--json"]) == 0
    printed = capfd.readouterr()
    assert (json.loads(printed.out), printed.err) == (json.loads(path.read_text()), "")


def test_the_command_tells_people_each_verdict(monkeypatch, capsys):
    engine = {"name": "e", "version": "1", "problem": "", "operators": [1, 0], "process_bytes": 1 << 20,
              "threads": [[1, 1.0], [2, 0.6]], "num_threads": 2}  # fmt: skip
    models = [
        {"name": "a", "verdict": "right", "error": 0.001, "reason": ""},
        {"name": "b", "verdict": "wrong", "reason": ""},
        {"name": "c", "verdict": "fails", "reason": "no\x1b"},
    ]
    monkeypatch.setattr(probing, "probe", lambda only: {"engines": [engine | {"models": models}]})
    assert main(["probe"]) == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "e 1: 1 operators, 1 MiB with Python",
        "threads: 2 (time of a convolution: 1 with 1, 0.6 with 2)",
        "right a off by 0.10% at most",
        "wrong b gives no numbers",
        "fails c no?",
    ]
