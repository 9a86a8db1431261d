"""The second reader, in C and from the document alone, gives the same verdicts as the files and as the library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tools.conformance import Question, Reader, load
from tools.differential import campaign, mutant, seeds
from tools.python_reader import answer
from tools.run_vectors import run

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tools" / "reader-c"


def _missing() -> str | None:
    """Say what this machine lacks to build the reader; None if nothing."""
    if not shutil.which("make"):
        return "make is missing: apt-get install make"
    found = subprocess.run(["make", "-C", FOLDER, "header"], capture_output=True, text=True, check=False)
    return found.stderr.partition("\n")[0] if found.returncode else None


@pytest.fixture(scope="module")
def reader_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := _missing():
        # Whoever develops something else may have no C compiler; where everything is checked, it must be there.
        assert os.environ.get("CI") != "true", missing
        pytest.skip(missing)
    out = tmp_path_factory.mktemp("reader-c")
    built = subprocess.run(["make", "-C", FOLDER, f"OUT={out}"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out / "reader"


def test_the_reader_in_c_gives_the_verdict_of_every_file(reader_c: Path) -> None:
    with Reader([str(reader_c)]) as reader:
        count, wrong, skipped = run(reader.ask, load())
    assert (count - len(skipped) >= 300, wrong) == (True, [])


def test_both_readers_agree_on_5000_mutants(reader_c: Path) -> None:
    with Reader([str(reader_c)]) as reader:
        found = campaign([answer, reader.ask], count=5000, run=1)
    assert found.disagreements == []
    # The mutants get everywhere: every step refused some, but 13, which no whole file can reach; 0 is the manifest.
    steps = {int(said.split()[2]) for said in found.answers if said != "ok"}
    assert sorted(steps) == [step for step in range(17) if step != 13]


def test_a_reader_that_leaves_out_one_check_is_found_by_the_mutants() -> None:
    def lenient(question: Question) -> str:
        said = answer(question)
        return "ok" if said == "refused payload 14" else said

    found = campaign([answer, lenient], count=300, run=1)
    assert found.disagreements != []


def test_a_mutant_on_which_readers_differ_is_kept_as_a_request(tmp_path: Path) -> None:
    found = campaign([answer, lambda _: "ok"], count=20, run=1, keep=tmp_path)
    kept = {int(path.stem.split("-")[1]): path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == len(found.disagreements) > 0
    assert kept == {number: mutant(number, seeds(), 1).pack() for number in kept}


@pytest.mark.parametrize(
    "request_bytes",
    [b"threshold 1", b"nonsense\n", b"floor x\n", b"trust 00\n", b"profile a\nbundle 9\nshort", b"bundle 0\n"],
)
def test_a_malformed_request_ends_the_reader_in_c(reader_c: Path, request_bytes: bytes) -> None:
    done = subprocess.run([reader_c], input=request_bytes, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
