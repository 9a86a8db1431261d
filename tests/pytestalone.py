"""pytest and what it needs, and nothing else of this environment: for Pythons that have only the runtime."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

__all__ = ["link_pytest"]

_PLAIN = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_NATIVE = ("hypothesis", "sortedcontainers")


def link_pytest(folder: Path, *, foreign: bool = False) -> Path:
    """Return `folder`, filled with links to pytest and hypothesis and what they import.

    For a `foreign` processor without hypothesis, a part of which is native code.
    """
    for name in _PLAIN if foreign else (*_PLAIN, *_NATIVE):
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder
