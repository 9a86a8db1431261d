"""The committed vectors are what the generator makes, and the library gives the verdict each of them asks for."""

from __future__ import annotations

import sys

import pytest
from tools.conformance import VECTORS, Reader, load
from tools.python_reader import answer
from tools.run_vectors import run
from tools.vectors.__main__ import GROUPS, main
from tools.vectors.vector import STEPS

CASES = list(load())


def test_the_generator_makes_the_committed_vectors() -> None:
    assert main(["--check"]) == 0


def test_there_are_hundreds_of_vectors() -> None:
    told = (VECTORS / "README.md").read_text("utf-8").split("\n\n")[1].split(" ")[0]
    assert (len(CASES), len(CASES) >= 300) == (int(told), True)


def test_no_two_vectors_ask_the_same() -> None:
    asked = [(case.question.pack(), case.question.reads_manifest) for case in CASES if case.group != "order"]
    twice = {question for question in asked if asked.count(question) > 1}
    assert [str(case) for case in CASES if (case.question.pack(), case.question.reads_manifest) in twice] == []


@pytest.mark.parametrize("group", GROUPS)
def test_the_library_gives_the_verdict_of_the_file(group: str) -> None:
    count, wrong, skipped = run(answer, load(group))
    assert (count > 0, wrong, skipped) == (True, [], [])


def test_every_step_but_13_refuses_some_vector() -> None:
    refused = {int(case.answer.split()[2]) for case in CASES if case.answer.startswith("refused")}
    assert sorted(refused - {0}) == [step for step in range(1, 17) if step != 13]


def test_every_outcome_has_a_vector() -> None:
    found = {case.answer.split()[1] if case.answer.startswith("refused") else "ok" for case in CASES}
    assert found == set(STEPS)


def test_a_reader_in_a_process_of_its_own_is_asked_by_the_same_runner() -> None:
    with Reader([sys.executable, "-m", "tools.python_reader"]) as reader:
        count, wrong, _ = run(reader.ask, load("policy"))
    assert (count > 0, wrong) == (True, [])


@pytest.mark.parametrize("given", ["ok", "refused policy 9", "skip"])
def test_a_reader_that_answers_always_the_same_is_found_out(given: str) -> None:
    count, wrong, _ = run(lambda _: given, CASES)
    assert len(wrong) > count // 2
