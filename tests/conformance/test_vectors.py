"""The committed vectors are what the generator makes, and the library gives the verdict each of them asks for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tools.conformance import VECTORS, Reader, load
from tools.python_reader import answer, answer_trust
from tools.run_vectors import has_trust_updates, run
from tools.run_vectors import main as run_all
from tools.trust_conformance import load_trust
from tools.vectors.__main__ import GROUPS, main
from tools.vectors.trustlayout import TRUST_STEPS
from tools.vectors.vector import STEPS

CASES = list(load())
TRUST_CASES = list(load_trust())

ROOT = Path(__file__).resolve().parents[2]


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
    assert len(wrong) > count // 3


# Trust documents.


def test_there_are_as_many_trust_documents_as_the_readme_says() -> None:
    told = (VECTORS / "README.md").read_text("utf-8").partition("`trust.json` has ")[2].split(" ")[0]
    assert len(TRUST_CASES) == int(told)


def test_no_two_trust_documents_ask_the_same() -> None:
    asked = [case.question.pack() for case in TRUST_CASES]
    assert [case.name for case in TRUST_CASES if asked.count(case.question.pack()) > 1] == []


def test_the_library_gives_the_verdict_of_each_trust_document() -> None:
    count, wrong, skipped = run(answer_trust, TRUST_CASES)
    assert (count > 0, wrong, skipped) == (True, [], [])


def test_every_step_of_a_trust_update_refuses_some_vector_with_each_of_its_outcomes() -> None:
    found = {tuple(case.answer.split()[1:]) for case in TRUST_CASES if case.answer.startswith("refused")}
    assert found == {(outcome, step) for outcome, steps in TRUST_STEPS.items() for step in steps if step}


def test_a_reader_in_a_process_of_its_own_is_asked_about_trust_too() -> None:
    command = [sys.executable, "-m", "tools.python_reader"]
    assert has_trust_updates(command)
    with Reader(command) as reader:
        count, wrong, skipped = run(reader.ask, TRUST_CASES)
    assert (count > 0, wrong, skipped) == (True, [], [])


@pytest.mark.parametrize("ending", ["print('skip', flush=True); sys.stdin.buffer.read()", "sys.exit(2)"])
def test_a_reader_without_trust_updates_is_asked_about_none(ending: str, tmp_path, capsys) -> None:
    (tmp_path / "reader.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tools import python_reader\n"
        "def none(question):\n    " + ending.replace("; ", "\n    ") + "\n    sys.exit(0)\n"
        "python_reader.answer_trust = none\n"
        "python_reader.answer = lambda question: 'ok'\n"
        "python_reader.main()\n"
    )
    command = [sys.executable, str(tmp_path / "reader.py")]
    assert (has_trust_updates(command), run_all(command)) == (False, 1)
    said = capsys.readouterr().out
    assert ("no trust updates" in said, "trust: " in said) == (True, False)


@pytest.mark.parametrize("given", ["ok", "refused format T3", "skip"])
def test_a_reader_that_says_the_same_of_every_trust_document_is_found_out(given: str) -> None:
    _, wrong, skipped = run(lambda _: given, TRUST_CASES)
    assert len(wrong) + len(skipped) > len(TRUST_CASES) // 3
