"""A user's own metric: judged like any other, in a child process, and told clearly where it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import RecipeError
from edgepack.gate import Gate, MetricFunction, Verdict
from edgepack.ownmetric import function_notes, measure_drops
from edgepack.worker import Limits, Workplace

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 400)
SOURCE = {"y": np.eye(3, dtype=np.float32)[LABELS]}
WORSE = {"y": np.eye(3, dtype=np.float32)[np.where(np.arange(400) % 5 == 0, (LABELS + 1) % 3, LABELS)]}
SHARE = "def f(outputs, labels):\n    return outputs['y'].argmax(-1) == labels\n"
TOTAL = "def f(outputs, labels):\n    return (outputs['y'].argmax(-1) == labels).mean()\n"


@pytest.fixture
def judged(tmp_path):
    """Judge a candidate by a function of this text."""

    def judged(text: str, candidate=WORSE, labels=LABELS, seconds=60, **gate):
        path = tmp_path / "mine.py"
        path.write_text(text)
        place = Workplace(python=Path(sys.executable), limits=Limits(seconds=seconds))
        gate = Gate(function=MetricFunction(path=path, entry="f"), **gate)
        return measure_drops(gate, (SOURCE, candidate), labels, place)

    return judged


@pytest.mark.parametrize("text", [SHARE, TOTAL], ids=["one number a sample", "one number"])
def test_a_function_is_judged_like_any_metric(judged, text):
    (bad,) = judged(text)
    (good,) = judged(text, candidate=SOURCE, max_drop=0.05)
    assert (bad.metric, bad.samples, bad.verdict) == ("mine.py:f", 400, Verdict.WORSE)
    assert bad.drop.value == pytest.approx(0.2)
    assert (good.drop.value, good.verdict) == (0.0, Verdict.HOLDS)
    assert good.drop.high > 0


def test_too_few_samples_are_told_of_a_function_too(judged):
    (found,) = judged(SHARE, candidate=SOURCE, max_drop=0.005)
    assert found.verdict is Verdict.UNCLEAR
    assert 400 < found.needed < 2000


def test_without_labels_it_gets_the_float_sources_outputs(judged):
    text = "def f(outputs, wanted):\n    return outputs['y'].argmax(-1) == wanted['y'].argmax(-1)\n"
    (found,) = judged(text, labels=None)
    assert found.drop.value == pytest.approx(0.2)
    assert "without labels" in found.found


def test_labels_by_output_are_given_by_output(judged):
    text = "def f(outputs, labels):\n    return outputs['y'].argmax(-1) == labels['y']\n"
    (found,) = judged(text, labels={"y": LABELS})
    assert (found.drop.value, found.labelled) == (pytest.approx(0.2), True)


def test_less_is_better_where_the_function_says_so(judged):
    text = "def f(outputs, labels):\n    return outputs['y'].argmax(-1) != labels\nf.lower_is_better = True\n"
    (found,) = judged(text)
    assert found.drop.value == pytest.approx(0.2)


def test_further_gates_are_judged_beside_it(judged):
    found = judged(SHARE, also=(Gate(metric="accuracy"),))
    assert [drop.metric for drop in found] == ["mine.py:f", "accuracy"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def g(outputs, labels): pass", r"there is no function 'f'; mine.py defines g"),
        ("f = 3", r"there is no function 'f'"),
        ("def f(:", r"fails when it is imported: SyntaxError"),
        ("import nothing_like_it", r"imports 'nothing_like_it', which is not there"),
        ("raise SystemExit(3)", r"fails when it is imported: SystemExit: 3"),
        ("def f(outputs):\n    return 1", r"fails: TypeError: .*positional"),
        ("def f(outputs, labels):\n    return outputs['z'].mean()", r"fails: KeyError: 'z' \(mine.py, line 2\)"),
        ("def f(outputs, labels):\n    raise SystemExit", r"fails: SystemExit \(mine.py, line 2\)"),
        ("def f(outputs, labels):\n    return float('nan')", r"gives NaN or infinity on 400 samples"),
        ("def f(outputs, labels):\n    return 'good'", r"gives str, wanted a number, or an array"),
        ("def f(outputs, labels):\n    return None", r"gives NoneType, wanted a number"),
        ("def f(outputs, labels):\n    return True", r"gives bool, wanted a number"),
        ("def f(outputs, labels):\n    return labels[:9]", r"gives shape \[9\] of 400 samples"),
        ("import random\ndef f(outputs, labels):\n    return random.random()", r"another value for the same samples"),
        ("import time\ndef f(outputs, labels):\n    time.sleep(1)\n    return 0.5", r"takes 1.0 s a call: too long"),
        ("import os\ndef f(outputs, labels):\n    os._exit(7)", r"--metric mine.py:f: .*ownmetric"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_clearly(judged, text, complaint):
    with pytest.raises(RecipeError, match=complaint):
        judged(text)


def test_a_function_that_never_ends_is_stopped(judged):
    with pytest.raises(RecipeError, match=r"--metric mine.py:f: .* did not finish within 2 s"):
        judged("def f(outputs, labels):\n    while True: pass", seconds=2)


def test_a_function_cannot_spoil_the_samples_of_the_next_call(judged):
    (found,) = judged(
        SHARE.replace("    return", "    labels[:] = labels\n    found =")
        + "    outputs['y'][:] = 0\n    return found\n"
    )
    assert found.source.value == 1.0


def test_an_output_that_is_not_there_is_refused(judged):
    with pytest.raises(RecipeError, match=r"there is no output 'z' for the metric; there are \['y'\]"):
        judged(SHARE, outputs=("z",))


def test_the_functions_digest_is_signed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(b"")
    (note,) = function_notes(Gate(function=MetricFunction(path=path, entry="f")))
    assert note.endswith("SHA-256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert function_notes(Gate()) == ()
