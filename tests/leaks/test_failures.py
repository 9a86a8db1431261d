"""Every way to fail, forced in a process of its own: no text, frame or page of memory gives a secret away."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import leakkit
import numpy as np
import pytest
from leakcases import CASES
from leakwatch import Child, memory_of

import realbundle

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memfd and /proc are Linux")]

# What fails while the model is being decrypted; the other payload errors come after it was loaded.
WIPED = [
    name
    for name, case in CASES.items()
    if case.error in ("PayloadError", "KeyboardInterrupt", "MemoryError")
    and "golden" not in name
    and not name.endswith("after-open")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaks")
    for name, data in leakkit.bundles():
        (folder / f"{name}.edgepack").write_bytes(data)
    leakkit.write_devices(folder)
    return folder


@pytest.fixture(scope="module")
def child(folder: Path) -> Iterator[Child]:
    with Child(folder) as child:
        yield child


@pytest.fixture(scope="module")
def secrets() -> dict[str, bytes]:
    return leakkit.hidden().all()


def in_memory(child: Child, secrets: dict[str, bytes]) -> list[str]:
    """Return which secrets stand in the child's memory as they are, and in which mapping."""
    found = []
    for name, content in memory_of(child.pid):
        found += [
            f"{secret} in {name or 'anonymous memory'}" for secret, value in secrets.items() if value in content
        ]
    return found


def readable(child: Child) -> bool:
    try:
        return any(True for _ in memory_of(child.pid))
    except PermissionError:
        return False


def test_there_are_at_least_fifty_failures() -> None:
    assert len(CASES) >= 50


def test_the_marker_stands_in_weights_that_matter() -> None:
    marked, plain = leakkit.real(), realbundle.of_file(leakkit.SOURCE)
    name = marked.outputs[0].name
    assert not np.array_equal(marked.golden[0].outputs[name], plain.golden[0].outputs[name])


@pytest.mark.parametrize("name", CASES)
def test_a_failure_gives_nothing_away(child: Child, secrets: dict[str, bytes], name: str) -> None:
    reply, given = child.ask(name)
    assert (reply["error"], leakkit.leaks(given, secrets)) == (CASES[name].error, []), reply["text"]


@pytest.mark.parametrize("name", WIPED)
def test_what_was_decrypted_before_a_failure_is_wiped(folder: Path, secrets: dict[str, bytes], name: str) -> None:
    with Child(folder) as child:
        child.ask(name)
        if not readable(child):
            pytest.skip("only root may read another process's memory")
        assert in_memory(child, {"marker": secrets["marker"], "golden": secrets["golden tensors"]}) == []


def test_that_search_finds_a_model_that_is_in_memory(folder: Path, secrets: dict[str, bytes]) -> None:
    with Child(folder) as child:
        child.ask("open")
        if not readable(child):
            pytest.skip("only root may read another process's memory")
        assert in_memory(child, {"marker": secrets["marker"]}) != []


def test_the_search_of_texts_finds_every_form(secrets: dict[str, bytes]) -> None:
    key = secrets["content key"]
    found = [leakkit.leaks(b"..." + form + b"...", {"key": key}) for form in leakkit.forms(key)]
    assert found == [["key"]] * len(found)


def test_an_open_session_shows_nothing_of_what_it_holds(folder: Path, secrets: dict[str, bytes]) -> None:
    with Child(folder) as child:
        _, shown = child.ask("open")
    names = {"Session", "StoredGolden", "BundleFile", "VerifiedBundle", "SignedTable", "Container", "Grant"}
    assert (names - set(shown.decode().split("\0")), leakkit.leaks(shown, secrets)) == (set(), [])


@pytest.mark.parametrize("what", ["content key", "golden tensors"])
def test_an_open_session_keeps_nothing_it_does_not_need(folder: Path, secrets: dict[str, bytes], what: str) -> None:
    with Child(folder) as child:
        child.ask("open")
        if not readable(child):
            pytest.skip("only root may read another process's memory")
        assert in_memory(child, {what: secrets[what]}) == []


def test_the_logs_of_all_failures_hold_no_secret(child: Child, folder: Path, secrets: dict[str, bytes]) -> None:
    child.ask("forged-last-chunk")
    child.ask("engine-noise")
    written = (folder / "child.log").read_bytes() + (folder / "stderr").read_bytes()
    assert (b"Traceback" in written, leakkit.leaks(written, secrets)) == (True, [])
