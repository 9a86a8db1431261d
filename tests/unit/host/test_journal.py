"""A search's journal: cut off, damaged, of another build, and in use."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepack.journal import open_journal
from edgepack_runtime.errors import FileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    name: str
    figure: float
    parts: tuple[int, ...] = ()


class Heard(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def write(path: Path, *names: str, build: str = "b") -> None:
    with open_journal(path, build, Entry, Heard()) as journal:
        for i, name in enumerate(names):
            journal.add(name, Entry(name=name, figure=i / 3, parts=(i, 2)))


def held(path: Path, names: str, build: str = "b") -> tuple[str, Heard]:
    """Return which of `names` the journal has, and what was said."""
    heard = Heard()
    with open_journal(path, build, Entry, heard) as journal:
        return "".join(name for name in names if journal.find(name) is not None), heard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.journal"


def test_what_was_written_is_there_the_next_time(path):
    write(path, "a", "b")
    with open_journal(path, "b", Entry, Heard()) as journal:
        assert journal.find("b") == Entry(name="b", figure=1 / 3, parts=(1, 2))


def test_it_is_said_that_it_is_used(path):
    write(path, "a", "b")
    assert "2 candidates were measured before" in held(path, "ab")[1][0]


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_last_line_that_was_cut_off_is_left_out_and_told(path, cut):
    write(path, "a", "b")
    path.write_bytes(path.read_bytes()[:-cut])
    found, heard = held(path, "ab")
    assert found == "a"
    assert "the last line is not whole" in heard[0]


def test_after_a_line_that_was_cut_off_writing_goes_on(path):
    write(path, "a", "b")
    path.write_bytes(path.read_bytes()[:-9])
    write(path, "c")
    assert held(path, "abc")[0] == "ac"


def test_a_last_line_of_zeros_is_left_out(path):
    write(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes(29) + b"\n")
    assert held(path, "ab")[0] == "a"


@pytest.mark.parametrize("line", [0, 1])
def test_a_damaged_line_before_the_last_is_refused_with_its_number(path, line):
    write(path, "a", "b")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"b", b"c").replace(b"figure", b"figurf")
    path.write_bytes(b"".join(lines))
    with pytest.raises(FileError, match=rf"line {line + 1} is damaged"):
        held(path, "ab")


def test_a_journal_of_another_build_is_begun_anew_and_that_is_told(path):
    write(path, "a")
    found, heard = held(path, "a", build="other")
    assert (found, len(heard)) == ("", 1)
    assert "of another build" in heard[0]
    assert held(path, "a")[0] == ""


def test_an_entry_of_another_kind_is_refused(path):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Other:
        name: str

    write(path, "a")
    with pytest.raises(FileError, match="line 2 is damaged: entry"), open_journal(path, "b", Other, Heard()):
        pass


def test_two_builds_cannot_write_the_same_journal(path):
    with (
        open_journal(path, "b", Entry, Heard()),
        pytest.raises(FileError, match="another build is writing it"),
        open_journal(path, "b", Entry, Heard()),
    ):
        pass


def test_a_link_is_not_followed(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="cannot open"):
        write(path, "a")


def _write_for_ever(path: str) -> None:
    with open_journal(Path(path), "b", Entry, Heard()) as journal:
        for i in range(10**6):
            journal.add(str(i), Entry(name="x" * 2000, figure=i))


def test_after_kill_9_all_but_the_last_line_are_there(path):
    writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(str(path),))
    writer.start()
    while not path.exists() or path.stat().st_size < 50_000:
        time.sleep(0.005)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    with open_journal(path, "b", Entry, Heard()) as journal:
        count = len(journal)
        assert count >= 20
        assert all(journal.find(str(i)) is not None for i in range(count))
