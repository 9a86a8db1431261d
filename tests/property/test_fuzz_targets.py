"""The fuzz targets without a fuzzer: good inputs are taken, mutants of them raise typed errors only.

The real campaigns are `python -m tools.fuzz.run`; this keeps the targets alive and the cheap bugs out.
"""

from __future__ import annotations

import mmap
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.fuzz import limits  # noqa: E402
from tools.fuzz.drill import DRILLS  # noqa: E402
from tools.fuzz.limits import MAX_BYTES, OverLimit, OverTime, run_within_limits  # noqa: E402
from tools.fuzz.target import ignore  # noqa: E402
from tools.fuzz.targets import MISSING, TARGETS, Target  # noqa: E402

MUTANTS = 150
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")


def mutant(data: bytes, choice: random.Random) -> bytes:
    """Return `data` with a few bytes changed, cut out, doubled or replaced by likely numbers."""
    changed = bytearray(data)
    for _ in range(choice.randint(1, 4)):
        at = choice.randrange(len(changed) + 1)
        kind = choice.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << choice.randrange(8)
        elif kind == 1:
            changed[at : at + 4] = choice.choice([b"\xff" * 4, b"\0" * 4, b"\0\0\0\x80", b"99999", b"[[[[", b"-1"])
        elif kind == 2:
            del changed[at : at + choice.randrange(1, 40)]
        elif kind == 3:
            changed[at:at] = changed[at : at + choice.randrange(1, 40)]
        else:
            changed = changed[:at]
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_campaign_starts_from_is_taken(name: str) -> None:
    target = TARGETS[name]
    assert any(target.check(seed) for seed in target.seeds())


@linux
@pytest.mark.parametrize("name", TARGETS)
def test_mutants_raise_typed_errors_within_the_limits(name: str) -> None:
    target, choice, refused = TARGETS[name], random.Random(name), 0
    seeds = target.seeds()

    def run(data: bytes) -> None:
        nonlocal refused
        refused += not target.check(data)

    for _ in range(MUTANTS):
        run_within_limits(run, mutant(choice.choice(seeds), choice))
    assert refused > MUTANTS // 20


# Inputs that campaigns broke something with, by target.
FOUND = [
    ("source", bytes.fromhex("5d000080 0a372a35 000026e6 0879642e e9772900")),  # asks LZMA for 128 MiB and more
    ("options", b'\0{"inputs": ["x:1\xc2\xb2"]}'),
    ("options", b'\0{"inputs": ["x:%b"]}' % (b"9" * 5000)),
    ("probe", b"\x1e".join((b"aarch64", b"", b"MemTotal: %b kB" % (b"9" * 5000), b"glibc 2.36", b"", b"", b"",
                            b"ai-edge-litert", b"2.3.0"))),
    ("torch_archive", b'w{"config": []}'),
    ("torch_archive", b"g" + b'{"a":' * 900 + b"1" + b"}" * 900),
    ("feeds", b"\x93NUMPY\1\0\x3f\0{'descr': '<f4', 'fortran_order': False, 'shape': (999999999,)}"),
]  # fmt: skip


@linux
@pytest.mark.parametrize(("name", "data"), FOUND, ids=[name for name, _ in FOUND])
def test_what_was_found_once_is_refused_within_the_limits(name: str, data: bytes) -> None:
    taken = []
    run_within_limits(lambda given: taken.append(TARGETS[name].check(given)), data)
    assert taken == [False]


def test_an_untyped_error_passes_through() -> None:
    def broken(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        Target(run=broken, errors=(ValueError,), seeds=list).check(b"x")


@linux
def test_an_input_that_takes_too_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(data: bytes) -> None:
        sum(i * i for i in range(3_000_000))

    monkeypatch.setattr(limits, "MAX_SECONDS", 0.05)
    with pytest.raises(OverTime, match=r"s for 1 bytes of input"):
        run_within_limits(slow, b"x")


@linux
def test_an_input_that_takes_too_much_memory_is_a_finding() -> None:
    with pytest.raises(OverLimit, match=r"more than 64 MiB for 1 bytes"):
        run_within_limits(lambda data: bytearray(MAX_BYTES + (8 << 20)), b"x")  # type: ignore[arg-type,return-value]


def allocate_in_python(data: bytes) -> None:
    bytearray(MAX_BYTES + (8 << 20))


def allocate_by_the_system(data: bytes) -> None:
    mmap.mmap(-1, MAX_BYTES + (8 << 20))


def allocate_in_zstd(data: bytes) -> None:
    one_byte_in_a_window_of_128_mib = b"\x28\xb5\x2f\xfd\x00\x88\x09\0\0x"
    zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj().decompress(one_byte_in_a_window_of_128_mib)


@linux
@pytest.mark.parametrize("allocate", [allocate_in_python, allocate_by_the_system, allocate_in_zstd])
def test_a_refusal_that_hides_that_memory_ran_out_is_a_finding(allocate: Callable[[bytes], None]) -> None:
    def refuses(data: bytes) -> None:
        try:
            allocate(data)
        except (MemoryError, OSError, zstandard.ZstdError):
            raise ValueError("whatever went wrong") from None

    with pytest.raises(OverLimit, match=r"more than 64 MiB for 1 bytes"):
        run_within_limits(
            lambda data: ignore(Target(run=refuses, errors=(ValueError,), seeds=list).check(data)), b"x"
        )


@linux
@pytest.mark.parametrize("name", DRILLS)
def test_a_planted_bug_is_a_finding_once_an_input_reaches_it(name: str) -> None:
    with pytest.raises((OverLimit, KeyError)):
        run_within_limits(lambda data: ignore(DRILLS[name].check(data)), b"EP\xc3\x7a")


@pytest.mark.parametrize("name", DRILLS)
def test_no_planted_bug_is_reached_by_what_a_campaign_starts_from(name: str) -> None:
    assert {DRILLS[name].check(seed) for seed in DRILLS[name].seeds()} <= {True, False}


def test_a_target_that_cannot_run_here_is_said_to_be_missing() -> None:
    assert TARGETS.keys() & MISSING.keys() == set()
    assert {"hdf5", "zstd"} <= TARGETS.keys() | MISSING.keys()


@linux
def test_an_input_runs_alone_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(TARGETS["table"].seeds()[0])
    done = subprocess.run(
        [sys.executable, "-m", "tools.fuzz.run", "--input", str(tmp_path / "input"), "table"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"
