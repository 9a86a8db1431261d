"""Which version of a distribution is installed, without what `importlib.metadata` imports to tell.

That takes longer than to open a small bundle, and an application starts with it.
"""

from __future__ import annotations

import os
import re
import sys

__all__ = ["installed_version"]


def installed_version(name: str) -> str | None:
    """Return the version of a distribution; None if it is not installed.

    An installed distribution has a folder ``NAME-VERSION.dist-info`` (Python packaging user guide, "Recording
    installed projects"), those of Debian a file or folder ``NAME-VERSION.egg-info``. The first on the path counts.
    """
    pattern = re.compile(rf"{name.replace('-', '_')}-([^-]+)(-py[0-9.]+)?\.(dist|egg)-info", re.IGNORECASE)
    for folder in sys.path:
        try:
            with os.scandir(folder or os.curdir) as entries:
                for entry in entries:
                    if found := pattern.fullmatch(entry.name):
                        return found[1]
        except OSError:
            continue
    return None
