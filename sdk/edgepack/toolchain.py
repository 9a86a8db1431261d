"""Pinned environments that converters and engines run in, made on demand from the registries and cached.

Converters' dependencies exclude each other, and an engine must be the exact wheel the device has; so each gets an
environment of its own. A toolchain is a lock file in ``edgepack/toolchains/`` (every package pinned, with hashes).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgepack.errors import ToolchainError

__all__ = [
    "HOST",
    "Toolchain",
    "base_python",
    "cache_root",
    "engine_toolchain",
    "ensure",
    "installation_lock",
    "list_toolchains",
    "locate",
]

HOST = "host"
_HINT = "# hint: "
_PYTHON = (3, 11)
# What an engine and our runtime need beside it, where no lock file of ours pins that exact version: numpy 1, because
# every engine version can do with it, and what cryptography needs.
_BESIDE_AN_ENGINE = ("cffi==2.1.1", "cryptography==50.0.2", "numpy==1.26.4", "pycparser==3.12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """One environment: `requirements` is the text of its lock file, `python` exists once it is installed."""

    name: str
    requirements: str
    hashed: bool
    folder: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def purpose(self) -> str:
        """What it is for: the second line of its lock file, behind that which names the Python; '' without one."""
        lines = self.requirements.splitlines()
        return lines[1].removeprefix("# ") if len(lines) > 1 and lines[1].startswith("# ") else ""

    @property
    def installed(self) -> bool:
        """Whether it has been made."""
        return (self.folder / ".complete").exists()


def cache_root() -> Path:
    """Return the folder that holds what can be made again: ``$EDGEPACK_CACHE``, else the user's cache folder."""
    if explicit := os.environ.get("EDGEPACK_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgepack"


def _locks() -> Iterator[tuple[str, str]]:
    for item in resources.files("edgepack").joinpath("toolchains").iterdir():
        if item.name.endswith(".txt"):
            yield item.name.removesuffix(".txt"), item.read_text("utf-8")


def _toolchain(name: str, requirements: str, *, hashed: bool) -> Toolchain:
    key = hashlib.sha256(f"{_PYTHON}\0{requirements}".encode()).hexdigest()[:12]
    return Toolchain(
        name=name,
        requirements=requirements,
        hashed=hashed,
        folder=cache_root() / "toolchains" / f"{name}-{key}",
    )


def list_toolchains() -> tuple[Toolchain, ...]:
    """Return every toolchain that ships with edgepack, installed or not."""
    return tuple(_toolchain(name, text, hashed=True) for name, text in sorted(_locks()))


def locate(name: str) -> Toolchain:
    """Return the toolchain `name`, installed or not.

    Raises:
        ToolchainError: there is none of that name.
    """
    for toolchain in list_toolchains():
        if toolchain.name == name:
            return toolchain
    known = ", ".join(t.name for t in list_toolchains())
    raise ToolchainError(f"there is no toolchain {name!r}", hint=f"known are {known}")


def engine_toolchain(engine: str, version: str) -> Toolchain:
    """Return the environment of one engine in one exact version, from a shipped lock file where there is one."""
    name = f"engine-{engine}-{version}"
    for known, text in _locks():
        if known == name:
            return _toolchain(name, text, hashed=True)
    lines = [f"{engine}=={version}", *_BESIDE_AN_ENGINE]
    return _toolchain(name, "".join(f"{line}\n" for line in lines), hashed=False)


def ensure(toolchain: Toolchain, *, offline: bool, say: Callable[[str], None]) -> Path:
    """Return the toolchain's interpreter, making the environment first where it is missing.

    Args:
        toolchain: from `locate` or `engine_toolchain`.
        offline: refuse instead of installing.
        say: told before something is downloaded, and how long it took.

    Raises:
        ToolchainError: it is missing while offline, there is no Python 3.11, or pip failed.
    """
    if toolchain.installed:
        return toolchain.python
    if offline:
        raise ToolchainError(
            f"toolchain {toolchain.name} is not installed, and --offline forbids installing it",
            hint=f"run `edgepack toolchain install {toolchain.name}` while online",
        )
    try:
        with installation_lock(toolchain.folder):
            if not toolchain.installed:
                _install(toolchain, say)
    except OSError as error:
        where = error.filename or toolchain.folder
        raise ToolchainError(f"toolchain {toolchain.name}: {where}: {error.strerror or error}") from None
    return toolchain.python


@contextmanager
def installation_lock(folder: Path) -> Iterator[None]:
    """Hold the lock under which `folder` of the cache is made; the kernel gives it back when this process dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def base_python() -> str:
    """Return the Python 3.11 that toolchains are made with.

    Raises:
        ToolchainError: there is none.
    """
    if sys.version_info[:2] == _PYTHON:
        return getattr(sys, "_base_executable", sys.executable)
    found = shutil.which("python3.11")
    if found is None:
        raise ToolchainError(
            f"toolchains need Python 3.11, this is {sys.version_info[0]}.{sys.version_info[1]} "
            "and no python3.11 is on the PATH",
            hint="install Python 3.11 beside it (tflite-runtime 2.14 has no wheel for a later one)",
        )
    return found


def _install(toolchain: Toolchain, say: Callable[[str], None]) -> None:
    say(f"installing toolchain {toolchain.name} (once; into {toolchain.folder})")
    # A virtual environment can not be moved, so it is made in place and believed only with its marker.
    shutil.rmtree(toolchain.folder, ignore_errors=True)
    _run([base_python(), "-m", "venv", str(toolchain.folder)], toolchain)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="edgepack-lock-") as lock:
        lock.write(toolchain.requirements)
        lock.flush()
        options = ["--require-hashes"] if toolchain.hashed else []
        # --no-deps: the lock is complete, and two packages' metadata contradict what was found to work.
        _run(
            [str(toolchain.python), "-m", "pip", "install", "--quiet", "--no-input", "--no-deps",
             "--disable-pip-version-check", "--ignore-requires-python", *options, "-r", lock.name],
            toolchain,
        )  # fmt: skip
    (toolchain.folder / ".complete").touch()


def _run(command: list[str], toolchain: Toolchain) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        reason = (errors or lines or ["no output"])[0].removeprefix("ERROR: ")
        shutil.rmtree(toolchain.folder, ignore_errors=True)
        raise ToolchainError(
            f"toolchain {toolchain.name} cannot be installed: {reason[:300]}",
            hint=_own_hint(toolchain)
            or "check that pip reaches a package registry; `edgepack toolchain list` shows what is there",
        )


def _own_hint(toolchain: Toolchain) -> str:
    """Return what a lock file says in a line ``# hint: ...``: of a package that not every registry has."""
    lines = (line for line in toolchain.requirements.splitlines() if line.startswith(_HINT))
    return next((line.removeprefix(_HINT) for line in lines), "")
