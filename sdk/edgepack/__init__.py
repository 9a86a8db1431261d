"""Convert, quantize, prove, encrypt and sign models for edge devices, one bundle per device profile.

::

    from pathlib import Path
    from edgepack import Recipe, build

    results = build(Recipe(model=Path("model.onnx"), calibration=Path("calibration.npz"),
                           profiles=("raspberry-pi-4",), output=Path("dist")))

Importing this package is cheap: everything is imported when it is first needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.builder import BuildResult, build
    from edgepack.errors import GateError, HostError
    from edgepack.gate import Gate
    from edgepack.profiles import list_profiles, load_profile
    from edgepack.recipe import Recipe, load_recipe
    from edgepack.reporter import Reporter
    from edgepack.validation import Report, validate

__version__ = "0.1.0"

__all__ = [
    "BuildResult",
    "Gate",
    "GateError",
    "HostError",
    "Recipe",
    "Report",
    "Reporter",
    "build",
    "list_profiles",
    "load_profile",
    "load_recipe",
    "validate",
]

_HOME = {
    "BuildResult": "builder",
    "Gate": "gate",
    "GateError": "errors",
    "HostError": "errors",
    "Recipe": "recipe",
    "Report": "validation",
    "Reporter": "reporter",
    "build": "builder",
    "list_profiles": "profiles",
    "load_profile": "profiles",
    "load_recipe": "recipe",
    "validate": "validation",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
