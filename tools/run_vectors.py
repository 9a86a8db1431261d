"""Drive a reader over the conformance vectors: ``python -m tools.run_vectors READER_COMMAND...``.

Without a command, `edgepack_runtime` is asked in this process. Exit code 0 if every verdict is the one in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from tools.conformance import SKIP, Case, Question, Reader, load

__all__ = ["main", "run"]


def run(ask: Callable[[Question], str], cases: Iterable[Case]) -> tuple[int, list[str], list[str]]:
    """Return how many cases there were, the disagreements in words, and the names of those skipped."""
    count, wrong, skipped = 0, [], []
    for case in cases:
        count += 1
        found = ask(case.question)
        if found == SKIP and case.question.reads_manifest:
            skipped.append(str(case))
        elif found != case.answer:
            wrong.append(f"{case}: wanted {case.answer!r}, got {found!r}")
    return count, wrong, skipped


def main(command: list[str]) -> int:
    """Run all vectors and print what differs; return the exit code."""
    if command:
        with Reader(command) as reader:
            count, wrong, skipped = run(reader.ask, load())
    else:
        from tools.python_reader import answer

        count, wrong, skipped = run(answer, load())
    print("\n".join(wrong) or f"all {count - len(skipped)} verdicts are right, {len(skipped)} vectors skipped")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
