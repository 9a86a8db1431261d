"""How a long build speaks while it works; the CLI shows it, a library user may listen or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Reporter"]


class Reporter:
    """Says nothing; subclass it to listen."""

    def say(self, text: str) -> None:
        """Tell something the user should know: a choice made, something installed."""

    def log(self, text: str) -> None:
        """Tell what a child process wrote to its standard error."""

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Enclose a step that may take long."""
        yield
