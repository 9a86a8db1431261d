"""The watched process, and its memory as root sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType


def memory_of(pid: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each readable mapping of a process."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            span, access, *_, name = (
                [*line.split(maxsplit=5), ""][:6] if len(line.split()) > 5 else [*line.split(), ""]
            )
            start, end = (int(part, 16) for part in span.split("-"))
            if "r" in access and not name.startswith(("[vvar", "[vsyscall")):
                try:
                    memory.seek(start)
                    yield name.strip(), memory.read(end - start)
                except OSError:
                    continue


class Child:
    """The watched process; talk to it one line at a time."""

    def __init__(self, folder: Path, **options: object) -> None:
        paths = os.pathsep.join([str(Path(__file__).parent), *(path for path in sys.path if path)])
        home = folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PYTHONPATH": paths,
            "HOME": str(home),
            "TMPDIR": str(folder / "tmp"),
            "PATH": os.environ["PATH"],
        }
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        (folder / "tmp").mkdir(exist_ok=True)
        self.errors = (folder / "stderr").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", str(Path(__file__).with_name("leakchild.py")), str(folder)],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, **options,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, line: str) -> tuple[dict[str, object], bytes]:
        """Send a line; return the answer and what came with it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        head = self.process.stdout.readline()
        assert head, f"the child died of {line!r}: {Path(self.errors.name).read_text()[-2000:]}"
        reply = json.loads(head)
        return reply, self.process.stdout.read(reply.get("length", 0))

    def die(self, name: str) -> int:
        """Have it kill itself by a signal; return how it ended, as `os.waitpid` says it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"die {name}\n".encode())
        self.process.stdin.flush()
        _, status = os.waitpid(self.pid, 0)
        self.process.returncode = -os.WTERMSIG(status)
        return status

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.errors.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
