"""Drive a reader over the conformance vectors: ``python -m tools.run_vectors READER_COMMAND...``.

Without a command, `edgepack_runtime` is asked in this process. Exit code 0 if every verdict is the one in the file.
A reader that has no trust updates is asked about bundles alone, and it is said.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tools.conformance import SKIP, Asked, Case, Reader, load
from tools.trust_conformance import load_trust

__all__ = ["has_trust_updates", "main", "run"]

Q = TypeVar("Q", bound=Asked)


def run(ask: Callable[[Q], str], cases: Iterable[Case[Q]]) -> tuple[int, list[str], list[str]]:
    """Return how many cases there were, the disagreements in words, and the names of those skipped."""
    count, wrong, skipped = 0, [], []
    for case in cases:
        count += 1
        found = ask(case.question)
        if found == SKIP and case.question.may_be_skipped:
            skipped.append(str(case))
        elif found != case.answer:
            wrong.append(f"{case}: wanted {case.answer!r}, got {found!r}")
    return count, wrong, skipped


def has_trust_updates(command: Sequence[str]) -> bool:
    """Return whether a reader answers a question about a trust update, in a process of its own.

    One that has none says so, or ends with an exit code: it need not know of the question.
    """
    try:
        with Reader(command) as reader:
            return reader.ask(next(load_trust()).question) != SKIP
    except RuntimeError:
        return False


def main(command: list[str]) -> int:
    """Run all vectors and print what differs; return the exit code."""
    trusts = not command or has_trust_updates(command)
    if command:
        with Reader(command) as reader:
            results = [run(reader.ask, load()), *([run(reader.ask, load_trust())] if trusts else [])]
    else:
        from tools.python_reader import answer, answer_trust

        results = [run(answer, load()), run(answer_trust, load_trust())]
    count = sum(result[0] for result in results)
    wrong = [line for result in results for line in result[1]]
    skipped = [name for result in results for name in result[2]]
    print("\n".join(wrong) or f"all {count - len(skipped)} verdicts are right, {len(skipped)} vectors skipped")
    if not trusts:
        print("this reader has no trust updates: the vectors in trust.json were left out")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
