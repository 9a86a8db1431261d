"""Fuzz every parser of outside bytes: ``python -m tools.fuzz.run --seconds N [--jobs N] [TARGET...]``.

Needs `pip install atheris`. Inputs that found new code are kept under ``.build/fuzz/TARGET`` and are the start of the
next run; an input that broke something is kept under ``.build/fuzz/findings`` and makes the exit code 1. Run one
again with ``--input FILE TARGET``, which needs no atheris. ``--drill`` fuzzes planted bugs instead: each must be
found.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.fuzz.drill import DRILLS
from tools.fuzz.limits import run_within_limits
from tools.fuzz.report import RECORD, Campaign, add_to, commit
from tools.fuzz.targets import MISSING, TARGETS

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".build" / "fuzz"
FINDINGS = KEPT / "findings"
_MAX_INPUT = 64 << 10
# What a campaign ends with after SIGINT or SIGTERM, by libFuzzer's hand, Python's or the kernel's: no finding.
_INTERRUPTED = (72, 130, -2, -15)
_ALL = {**TARGETS, **DRILLS}


def campaign(name: str, seconds: int) -> Campaign:
    """Fuzz one target, and return what came of it."""
    corpus = KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    for seed in _ALL[name].seeds():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    # libFuzzer's clock is the wall's: on a busy machine its timeout is for endless loops only.
    options = [f"-max_total_time={seconds}", "-timeout=300", f"-max_len={_MAX_INPUT}", "-rss_limit_mb=0"]
    options += [f"-artifact_prefix={FINDINGS}/{name}-", "-print_final_stats=1"]
    # In memory where there is a memory file system; removed here, for libFuzzer ends without a farewell.
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    log, began = KEPT / f"{name}.log", time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgepack-fuzz-", dir=shared) as folder:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": folder}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.fuzz.one", name, str(corpus), *options],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            # On a busy machine a minute is not a minute of work.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    if process.returncode in _INTERRUPTED:
        raise SystemExit(f"{name}: stopped by a signal, see {log}")
    runs = re.findall(r"number_of_executed_units: (\d+)|^#(\d+)\t", text, re.MULTILINE)
    covered = [int(edges) for edges in re.findall(r"cov: (\d+)", text)] or [0]
    reason = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Limit)\b.*", text, re.MULTILINE)
    return Campaign(
        target=name,
        seconds=round(time.monotonic() - began),
        cpu_seconds=round(used.ru_utime + used.ru_stime),
        inputs=max((int(a or b) for a, b in runs), default=0),
        start_edges=covered[0],
        edges=covered[-1],
        found="" if process.returncode == 0 else reason[0] if reason else f"exit code {process.returncode}",
        commit=commit(),
    )


def _drill(seconds: int) -> int:
    for name in DRILLS:
        # What an earlier drill learnt would be no find.
        shutil.rmtree(KEPT / name, ignore_errors=True)
    missed = [name for name in DRILLS if not campaign(name, seconds).found]
    print("\n".join(f"NOT FOUND: {name} (see {KEPT / name}.log)" for name in missed) or "every planted bug was found")
    return 1 if missed else 0


def main(arguments: list[str]) -> int:
    """Run the campaigns and say what they found; exit code 1 if anything."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz.run", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--input", type=Path, help="run this one input through one target, without atheris")
    parser.add_argument("--drill", action="store_true", help="fuzz planted bugs: each must be found")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without")
    args = parser.parse_args(arguments)
    for name in args.targets:
        if name not in _ALL:
            parser.error(f"no target {name!r}; there are {', '.join(_ALL)}")
    if args.input is not None:
        if len(args.targets) != 1:
            parser.error("--input goes with one target")
        target = _ALL[args.targets[0]]
        # What is made or imported with the first input is not an input's.
        for seed in target.seeds():
            target.check(seed)
        run_within_limits(lambda data: print(target.check(data)), args.input.read_bytes())
        return 0
    if args.drill:
        return _drill(args.seconds)
    good = True
    with ThreadPoolExecutor(args.jobs) as pool:
        for done in pool.map(lambda name: campaign(name, args.seconds), args.targets or TARGETS):
            add_to(RECORD, done)
            end = f"FOUND {done.found} (see {KEPT / done.target}.log)" if done.found else "ok"
            print(
                f"{done.target:16} {done.inputs:>9} inputs, {done.start_edges:>5} -> {done.edges:>5} edges  {end}",
                flush=True,
            )
            good &= not done.found
    for name, wanted in MISSING.items() if not args.targets else ():
        print(f"{name:16} NOT RUN: it needs {wanted}")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
