"""What came out so far, a line a case, so that a campaign that was stopped goes on where it was."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.onnx_coverage.results import Row

__all__ = ["Journal", "Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A case's row, and all that the converter said."""

    row: Row
    said: str


class Journal:
    """The outcomes in a file that is only appended to, each under the toolchain it was found with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        written = path.read_bytes() if path.exists() else b""
        # What was being written when the campaign was stopped.
        self._whole = written[: written.rfind(b"\n") + 1]
        if self._whole != written:
            path.write_bytes(self._whole)

    def outcomes(self, road: str, toolchain: str) -> dict[str, Outcome]:
        """Return the latest of each case on `road`, by ``SUITE.NAME``, among those found with `toolchain`."""
        found = {}
        for line in self._whole.splitlines():
            table = json.loads(line)
            if (table["row"]["road"], table["toolchain"]) == (road, toolchain):
                row = Row(**table["row"])
                found[f"{row.suite}.{row.case}"] = Outcome(row=row, said=table["said"])
        return found

    def add(self, outcome: Outcome, toolchain: str) -> None:
        """Write one down, at once."""
        line = json.dumps({"toolchain": toolchain} | asdict(outcome)) + "\n"
        with self._lock, self._path.open("a") as file:
            file.write(line)
