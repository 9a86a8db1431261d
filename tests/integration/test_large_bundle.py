"""The command that packs gigabytes, on a few megabytes; `make test-large` runs it on 2 and 4 GiB."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools import large_bundle

from edgepack_runtime.errors import FileError
from edgepack_runtime.plaintext import PlaintextModel

SIZE = (5 << 20) + 1


def test_it_writes_checks_decrypts_and_refuses(tmp_path: Path) -> None:
    lines: list[str] = []
    held = large_bundle.run(tmp_path, SIZE, lines.append)
    refused = [line.split()[-1] for line in lines[4:]]
    assert (held, refused, list(tmp_path.iterdir())) == (True, ["PayloadError"] * 3 + ["FormatError"] * 2, [])


def test_it_notices_a_step_that_takes_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bundle, "MAX_MEMORY", 1 << 20)
    assert not large_bundle.run(tmp_path, SIZE, lambda line: None)


def test_the_content_is_the_same_however_it_is_read() -> None:
    whole = large_bundle.content(0, SIZE)
    parts = [large_bundle.content(at, min(300_001, SIZE - at)) for at in range(0, SIZE, 300_001)]
    assert (b"".join(parts), len(whole)) == (whole, SIZE)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_a_size_that_no_pointer_has_is_refused(size: int) -> None:
    with pytest.raises(FileError, match=rf"a model of {size} bytes is more than this Python can hold"):
        PlaintextModel(size, lambda view: None)
