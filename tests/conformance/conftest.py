"""Puts the repository's root on the import path: the conformance tools are the package `tools`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
