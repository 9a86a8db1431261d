"""Which version of a distribution is installed, without what `importlib.metadata` imports to tell.

That takes longer than to open a small bundle, and an application starts with it.
"""

from __future__ import annotations

import os
import re
import sys

__all__ = ["installed_version"]

_VERSION = re.compile(r"([^-]+)(-py[0-9.]+)?\.(dist|egg)-info", re.IGNORECASE)


def installed_version(name: str) -> str | None:
    """Return the version of a distribution; None if it is not installed.

    An installed distribution has a folder ``NAME-VERSION.dist-info`` (Python packaging user guide, "Recording
    installed projects"), those of Debian a file or folder ``NAME-VERSION.egg-info``. The first on the path counts.
    """
    start = f"{name.replace('-', '_')}-"
    for folder in sys.path:
        try:
            for entry in os.listdir(folder or os.curdir):  # noqa: PTH208 - pathlib is slow to import
                if entry[: len(start)].lower() == start and (found := _VERSION.fullmatch(entry, len(start))):
                    return found[1]
        except OSError:
            continue
    return None
