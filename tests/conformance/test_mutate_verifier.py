"""The tool that weakens the verifier makes the mutants it says, and its list of proofs is about mutants that exist.

The whole run takes minutes: `python -m tools.mutate_verifier`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from tools.mutate_verifier import EQUIVALENT, MODULES, ROOT, mutants

SOURCE = """
def check(a, b):
    if a < 1 or not b:
        raise ValueError
    audit(a)
    return True
"""


def test_every_condition_call_and_answer_is_weakened_in_every_way() -> None:
    assert [mutant.what for mutant in mutants("m", SOURCE)] == [
        "check: never if a < 1 or not b",
        "check: unless a < 1 or not b",
        "check: without a < 1 of a < 1 or not b",
        "check: bound 0 moved: a <= 1 of a < 1 or not b",
        "check: without not b of a < 1 or not b",
        "check: without audit(a)",
        "check: return True turned round",
    ]


def test_no_two_mutants_are_one_program() -> None:
    sources = [mutant.source for mutant in mutants("m", SOURCE)]
    assert len(set(sources)) == len(sources)


def test_every_proof_is_about_a_mutant_that_exists() -> None:
    folder = ROOT / "runtime" / "edgepack_runtime"
    modules = {name.partition(".")[0] for name in EQUIVALENT}
    names = {m.name for module in modules for m in mutants(module, (folder / f"{module}.py").read_text("utf-8"))}
    assert (modules - set(MODULES), set(EQUIVALENT) - names) == (set(), set())


@pytest.mark.slow
def test_every_weakened_signature_check_is_noticed() -> None:
    # In a process of its own: what other tests left in this one must not decide whether a mutant lives.
    done = subprocess.run(
        [sys.executable, "-m", "tools.mutate_verifier", "signing"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 survived" in done.stdout
