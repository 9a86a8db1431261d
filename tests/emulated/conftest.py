"""Two emulated boards, made from nothing where the cache has none: 64-bit and 32-bit ARM, each with its engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepack.profiles import load_profile
from edgepack.userland import EMULATED, Userland, board, ensure_userland, is_native, userland
from edgepack_runtime.profile import DeviceProfile

PROFILES = ("raspberry-pi-4", "raspberry-pi-3")


@dataclass(frozen=True, kw_only=True)
class Board:
    """An emulated board: its profile, its userland, and its Python as a program."""

    profile: DeviceProfile
    where: Userland
    python: Path


def missing() -> list[str]:
    return [name for name in ("apt-get", "dpkg-deb", *(a.qemu for a in EMULATED.values())) if not shutil.which(name)]


@pytest.fixture(scope="session")
def userlands() -> dict[str, Userland]:
    """Return the userlands by profile, made beside each other."""
    if gone := missing():
        text = f"emulated boards need {', '.join(gone)}: apt-get install qemu-user (on Debian or Ubuntu)"
        # CI installs it (.ci/run); on a developer's machine that has none, nothing is broken.
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)

    def made(name: str) -> Userland:
        profile = load_profile(name)
        where = userland(profile.hardware.arch, profile.engine.name, profile.engine.version)
        ensure_userland(where, offline=False, say=print)
        return where

    with ThreadPoolExecutor() as pool:
        return dict(zip(PROFILES, pool.map(made, PROFILES), strict=True))


@pytest.fixture(scope="session", params=PROFILES)
def emulated(request: pytest.FixtureRequest, userlands: dict[str, Userland]) -> Iterator[Board]:
    profile = load_profile(request.param)
    assert not is_native(profile.hardware.arch)
    with board(profile, userlands[request.param]) as python:
        yield Board(profile=profile, where=userlands[request.param], python=python)
