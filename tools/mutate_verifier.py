"""Weaken each check of the verifier, one at a time, and see that some test notices.

``python -m tools.mutate_verifier [MODULE]...``: a mutant is one change to one condition in the modules below (left
out, turned round, one operand dropped, a bound moved by one), or one call left out whose result nobody uses, such as
a check or a wipe, or one yes for a no. Each is imported in a process of its own, in place of the true module, and
asked for the conformance vectors; those it answers well it must still answer to the unit tests. Exit code 0 if every
mutant was killed but those that `EQUIVALENT` proves to be the same program.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from tools.conformance import Case, Question, load
from tools.trust_conformance import TrustQuestion, load_trust

__all__ = ["EQUIVALENT", "MODULES", "Mutant", "main", "mutants"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "edgepack_runtime"
# What the vectors reach, and what they do not: no reader is asked what a device remembers.
BY_VECTORS = (
    "container", "table", "encryption", "compression", "signing", "grants", "sidecar", "trust", "trust_update",
    "verify",
)  # fmt: skip
BY_TESTS = ("trust_file", "state", "trial", "acceptance", "manifest", "admission")
MODULES = (*BY_VECTORS, *BY_TESTS)
# The tests of a module that has none of its name.
TESTS_OF = {"trust_file": "stored_trust", "admission": "requires"}
UNIT_TESTS = (
    "tests/conformance/test_guards.py",
    *(
        f"tests/unit/runtime/test_{TESTS_OF.get(name, name)}.py"
        for name in (*MODULES, "revocation", "enrolment", "session")
    ),
)
TIME_LIMIT = 300

# Mutants that are the same program, each with the proof. Named as printed.
EQUIVALENT: Mapping[str, str] = {
    "compression.decompress: never if not (count := reader.readinto(plain[:into.length - at]))": (
        "libzstd gives an error for a frame whose blocks make less than its header says, and what the header says "
        "was held against the signed length before. It stays, so that a library without that check cannot make an "
        "endless loop"
    ),
    "compression.decompress: never if reader.read(1)": (
        "the same for a frame whose blocks make more; it stays for the same reason"
    ),
    "table._pack_name: without _parse_name(what, raw)": (
        "SignedTable.pack, the only way here, parses what it wrote: a name that is malformed in its 32 bytes is "
        "refused by the same _parse_name under the same label, and one that was cut or ends in NUL does not read "
        "back equal. All of them are a FormatError either way"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One changed module: its name, what was changed, and its source."""

    module: str
    what: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.what}"


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = ast.parse(source)
    seen: dict[str, int] = {}
    for index, (node, function) in enumerate(_nodes(tree)):
        for what, change in _changes(node):
            other = copy.deepcopy(tree)
            target = next(found for i, (found, _) in enumerate(_nodes(other)) if i == index)
            _apply(other, target, change)
            label = f"{function}: {what}"
            seen[label] = seen.get(label, 0) + 1
            label += f" #{seen[label]}" if seen[label] > 1 else ""
            yield Mutant(module=module, what=label, source=ast.unparse(ast.fix_missing_locations(other)))


Node = ast.If | ast.Expr | ast.Return
Change = ast.expr | None


def _nodes(tree: ast.AST, function: str = "") -> Iterator[tuple[Node, str]]:
    """Yield what can be mutated with the name of the function it stands in, always in the same order."""
    for child in ast.iter_child_nodes(tree):
        name = function
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f"{function}.{child.name}".lstrip(".")
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            # Never run: no check of anything.
            continue
        is_call = isinstance(child, ast.Expr) and isinstance(child.value, ast.Call)
        is_answer = isinstance(child, ast.Return) and isinstance(child.value, ast.Constant)
        if isinstance(child, ast.If) or is_call or (is_answer and isinstance(child.value.value, bool)):  # type: ignore[attr-defined]
            yield child, name  # type: ignore[misc]
        yield from _nodes(child, name)


def _changes(node: Node) -> Iterator[tuple[str, Change]]:
    """Yield each change to a node: in words, and the expression that takes the place of its condition."""
    text = ast.unparse(node.test if isinstance(node, ast.If) else node)
    if isinstance(node, ast.Expr):
        yield f"without {text}", None
    elif isinstance(node, ast.Return):
        assert isinstance(node.value, ast.Constant)
        yield f"{text} turned round", ast.Constant(not node.value.value)
    else:
        # Evaluated still, because it may bind a name.
        yield f"never if {text}", ast.BoolOp(ast.And(), [node.test, ast.Constant(False)])
        yield f"unless {text}", ast.UnaryOp(ast.Not(), node.test)
        for words, condition in _weaker(node.test):
            yield f"{words} of {text}", condition


BOUNDS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


def _weaker(test: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield conditions with one operand dropped or one bound moved, at any depth of and, or and not."""
    if isinstance(test, ast.BoolOp):
        for i, operand in enumerate(test.values):
            rest = test.values[:i] + test.values[i + 1 :]
            yield f"without {ast.unparse(operand)}", ast.BoolOp(test.op, rest) if len(rest) > 1 else rest[0]
            for words, weaker in _weaker(operand):
                yield words, ast.BoolOp(test.op, [*test.values[:i], weaker, *test.values[i + 1 :]])
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        for words, weaker in _weaker(test.operand):
            yield words, ast.UnaryOp(test.op, weaker)
    elif isinstance(test, ast.Compare):
        for i, operator in enumerate(test.ops):
            if other := BOUNDS.get(type(operator)):
                changed = ast.Compare(test.left, [*test.ops[:i], other(), *test.ops[i + 1 :]], test.comparators)
                yield f"bound {i} moved: {ast.unparse(changed)}", changed
            if len(test.ops) > 1:
                operands = [test.left, *test.comparators]
                yield (
                    f"only {ast.unparse(ast.Compare(operands[i], [operator], [operands[i + 1]]))}",
                    ast.Compare(operands[i], [operator], [operands[i + 1]]),
                )


def _apply(tree: ast.AST, target: Node, change: Change) -> None:
    if isinstance(target, ast.If):
        assert change is not None
        target.test = change
    elif isinstance(target, ast.Return):
        target.value = change
    else:
        target.value = ast.Constant(None)


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from the source of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self._name, self._source = f"{PACKAGE}.{mutant.module}", mutant.source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._name, "exec"), module.__dict__)


CASES: list[Case[Question]] = []
TRUST_CASES: list[Case[TrustQuestion]] = []
DEVICES: dict[bytes, object] = {}


class _TooLongError(BaseException):
    """A trial takes longer than any true one: a loop of the mutant does not end."""


def _too_long(number: int, frame: FrameType | None) -> NoReturn:
    raise _TooLongError


def _trial(mutant: Mutant) -> tuple[str, str]:
    """Return a mutant's name and who killed it, "" if nobody did. Runs in a process of its own."""
    # Not by the signal's own death: the pool would wait for the answer forever.
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TIME_LIMIT)
    try:
        return mutant.name, _killer(mutant)
    except _TooLongError:
        return mutant.name, f"{TIME_LIMIT} seconds"
    finally:
        signal.alarm(0)


def _killer(mutant: Mutant) -> str:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE or name == "tools.python_reader"]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Instead(mutant))
    try:
        reader = importlib.import_module("tools.python_reader")
    except Exception as error:  # noqa: BLE001  # a mutant may fail in any way
        return f"import: {type(error).__name__}"
    if mutant.module in BY_VECTORS and (found := _wrong_vector(reader)):
        return found
    # Its own tests first: most that the vectors leave alive die there.
    own = [path for path in UNIT_TESTS if path.endswith(f"/test_{TESTS_OF.get(mutant.module, mutant.module)}.py")]
    os.chdir(ROOT)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        # Unclosed files are told whenever the garbage collector comes, be it of another process's before the fork:
        # a verdict must not depend on that.
        code = pytest.main(
            ["-x", "-q", "--no-header", "--tb=no", "--assert=plain", "-p", "no:cacheprovider",
             "-W", "ignore::ResourceWarning", *own, *(path for path in UNIT_TESTS if path not in own)]
        )  # fmt: skip
    last = [line for line in out.getvalue().splitlines() if line.startswith("FAILED")]
    return "" if code == 0 else (last or ["a unit test"])[0].split(" - ")[0]


def _wrong_vector(reader: ModuleType) -> str:
    """Return the first vector that a reader gets wrong, "" if none."""
    # Keys are of `cryptography`, which no mutant touches; parsing RSA ones again would be most of the time.
    setattr(reader, "_device", DEVICES.__getitem__)  # noqa: B010  # a module loaded by name has no type
    cases: list[tuple[Any, Case[Any]]] = [
        *((reader.answer, case) for case in CASES),
        *((reader.answer_trust, case) for case in TRUST_CASES),
    ]
    for ask, case in cases:
        try:
            said = ask(case.question)
        except Exception as error:  # noqa: BLE001  # a mutant may fail in any way
            said = f"raised {type(error).__name__}"
        if said != case.answer:
            return f"vector {case}"
    return ""


def _prepare() -> None:
    """Load what every trial needs, once; trials inherit it."""
    CASES.extend(case for case in load() if not case.question.reads_manifest)
    # Small bundles first: most mutants die at once, and the big ones cost the most.
    CASES.sort(key=lambda case: len(case.question.bundle))
    TRUST_CASES.extend(load_trust())
    for case in CASES:
        if case.question.device is not None and case.question.device not in DEVICES:
            DEVICES[case.question.device] = load_der_private_key(case.question.device, None)
    for name in ("numpy", f"{PACKAGE}.verify", "tools.python_reader"):
        importlib.import_module(name)
    # What is garbage by now must not be found, and complained of, in the middle of a trial.
    gc.collect()
    gc.freeze()


def _source(module: str) -> str:
    return (ROOT / "runtime" / PACKAGE / f"{module}.py").read_text("utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all mutants and print what became of them; return the exit code."""
    parser = argparse.ArgumentParser(description="Weaken each check of the verifier; some test must notice.")
    parser.add_argument("modules", nargs="*", default=MODULES, help=f"some of {', '.join(MODULES)}; all if left out")
    parser.add_argument("--verbose", action="store_true", help="also print who killed each mutant")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    tried: list[Mutant] = []
    for module in options.modules:
        tried += mutants(module, _source(module))
    _prepare()
    survived, by_vectors = set(), 0
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        # A test that fails anyway would seem to kill everything.
        module = options.modules[0]
        unchanged = Mutant(module=module, what="(nothing changed)", source=_source(module))
        if killer := pool.apply(_trial, (unchanged,))[1]:
            print(f"no mutant was tried: without one this fails: {killer}")
            return 1
        for name, killer in pool.imap_unordered(_trial, tried, chunksize=1):
            by_vectors += killer.startswith("vector")
            if not killer:
                survived.add(name)
            if options.verbose or (not killer and name not in EQUIVALENT):
                print(f"{killer or 'SURVIVED'}: {name}", flush=True)
    names = {mutant.name for mutant in tried}
    stale = sorted(name for name in EQUIVALENT if name.partition(".")[0] in options.modules and name not in survived)
    print("\n".join(f"proven equivalent, but {'killed' if name in names else 'gone'}: {name}" for name in stale))
    killed = len(tried) - len(survived)
    print(
        f"{len(tried)} mutants: {killed} killed, {by_vectors} of them by vectors; {len(survived & set(EQUIVALENT))} "
        f"equivalent; {len(survived - set(EQUIVALENT))} survived; {time.monotonic() - start:.0f} s"
    )
    return 1 if stale or survived - set(EQUIVALENT) else 0


if __name__ == "__main__":
    sys.exit(main())
