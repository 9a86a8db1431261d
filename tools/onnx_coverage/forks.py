"""A process that has the frameworks imported and forks once a job: start-up is paid once, crashes stay in the fork.

Run by whichever Python has the frameworks: ``PYTHON -m tools.onnx_coverage.forks MODULE ROAD``, with one job a line
on standard input, ``SECONDS FOLDER``. `MODULE`'s ``warm(road)`` runs once, its ``work(road, folder)`` for each job in
a process of its own, and writes its findings into the folder. The answer is one line: ``ok``, or how the process
ended.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Forks", "open_forks"]

_MEMORY = 8 << 30
_ROOT = Path(__file__).resolve().parents[2]


class Forks:
    """The parent's end of one such process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, seconds: int) -> str:
        """Return ``ok``, or in a few words how the fork ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds} {folder}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the forking process ended: {self._process.wait()}")
        return answer


@contextmanager
def open_forks(python: Path, module: str, road: str, log: Path) -> Iterator[Forks]:
    """Give a process that forks for `module`'s ``work``, and ends with the context; it prints to `log`."""
    scratch = log.with_suffix(".scratch")
    scratch.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")} | {
        "TMPDIR": str(scratch),
        "PYTHONPATH": os.pathsep.join(str(_ROOT / part) for part in ("sdk", "runtime", "")),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [str(python), "-m", "tools.onnx_coverage.forks", module, road]
    pipe = subprocess.PIPE
    with (
        log.open("a") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            yield Forks(process)
        finally:
            process.kill()


def _ended(pid: int, seconds: int) -> str:
    deadline = time.monotonic() + seconds
    wait = 0.002
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"stopped after {seconds} s"
        time.sleep(wait)
        wait = min(wait * 1.5, 0.05)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return "ok"
    return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


def _serve(arguments: Sequence[str]) -> None:
    # What frameworks print belongs into the log, not between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, road = arguments
    module = importlib.import_module(name)
    module.warm(road)
    # A collection in a fork would copy everything imported so far.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        seconds, _, folder = line.rstrip("\n").partition(" ")
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
            code = 1
            try:
                module.work(road, Path(folder))
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        answers.write(_ended(pid, int(seconds)) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1:])
