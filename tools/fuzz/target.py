"""What a target is: a parser of outside bytes, what it may raise, what a campaign starts from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.fuzz.limits import refuse_hidden_memory_error

__all__ = ["Target", "file", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parser of outside bytes: what runs it, what it may raise, what to start from."""

    run: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def check(self, data: bytes) -> bool:
        """Return whether an input was accepted; any error that is none of `errors` passes through.

        Raises:
            OverLimit: a refusal hides that memory ran out: within the limits of a campaign that is a finding.
        """
        try:
            self.run(data)
        except self.errors as error:
            refuse_hidden_memory_error(error, data)
            return False
        return True


_made: tempfile.TemporaryDirectory[str] | None = None


def file(name: str, data: bytes) -> Path:
    """Return the path of a file of this process that holds `data`; a name is used again and again."""
    global _made  # noqa: PLW0603 - made with the first input, and removed with the process
    _made = _made or tempfile.TemporaryDirectory(prefix="edgepack-fuzz-")
    path = Path(_made.name) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def ignore(_: object) -> None:
    """Take a result: what a parser returns is not the point."""
