"""Fuzz every parser of outside bytes: ``python -m tools.fuzz.run --seconds N [--jobs N] [TARGET...]``.

Needs `pip install atheris`. Inputs that found new code are kept under ``.build/fuzz/TARGET`` and are the start of the
next run; an input that broke something is kept under ``.build/fuzz/findings`` and makes the exit code 1. Run one
again with ``--input FILE TARGET``, which needs no atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.fuzz.limits import run_within_limits
from tools.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".build" / "fuzz"
FINDINGS = KEPT / "findings"
_MAX_INPUT = 64 << 10


def campaign(name: str, seconds: int) -> tuple[str, bool]:
    """Fuzz one target; return a line about it, and whether nothing was found."""
    corpus = KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    for seed in TARGETS[name].seeds():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-timeout=20", f"-max_len={_MAX_INPUT}", "-rss_limit_mb=0"]
    options += [f"-artifact_prefix={FINDINGS}/{name}-", "-print_final_stats=1"]
    # In memory where there is a memory file system; removed here, for libFuzzer ends without a farewell.
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="edgepack-fuzz-", dir=shared) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tools.fuzz.one", name, str(corpus), *options],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": folder}, capture_output=True, text=True,
            errors="replace", check=False,
        )  # fmt: skip
    text = done.stdout + done.stderr
    (KEPT / f"{name}.log").write_text(text)
    runs = re.search(r"number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    line = f"{name:14} {runs[1] if runs else '?':>9} inputs, {covered[-1] if covered else '?':>6} edges"
    if done.returncode == 0:
        return f"{line}  ok", True
    reason = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Limit)\b.*", text, re.MULTILINE)
    return f"{line}  FOUND {reason[0] if reason else done.returncode} (see {KEPT / name}.log)", False


def main(arguments: list[str]) -> int:
    """Run the campaigns and say what they found; exit code 1 if anything."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz.run", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--input", type=Path, help="run this one input through one target, without atheris")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all without")
    args = parser.parse_args(arguments)
    for name in args.targets:
        if name not in TARGETS:
            parser.error(f"no target {name!r}; there are {', '.join(TARGETS)}")
    names = args.targets or list(TARGETS)
    if args.input is not None:
        if len(names) != 1:
            parser.error("--input goes with one target")
        run_within_limits(lambda data: print(TARGETS[names[0]].check(data)), args.input.read_bytes())
        return 0
    good = True
    with ThreadPoolExecutor(args.jobs) as pool:
        for line, held in pool.map(lambda name: campaign(name, args.seconds), names):
            print(line, flush=True)
            good &= held
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
