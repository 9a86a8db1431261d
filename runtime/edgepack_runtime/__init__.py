"""Verify, decrypt and run edgepack bundles on the device.

::

    from edgepack_runtime import Device, open_bundle

    with open_bundle("digits-1-raspberry-pi-4.edgepack", device=Device.from_file("device.json")) as session:
        outputs = session.run({"image": image})

Importing this package is cheap: numpy, cryptography and the engine are imported when they are first needed.
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack_runtime.acceptance import accept_bundle
    from edgepack_runtime.activation import open_active
    from edgepack_runtime.device import Device
    from edgepack_runtime.errors import BundleError, EdgepackError, EngineError, InputError
    from edgepack_runtime.live import LiveModel, follow_active
    from edgepack_runtime.session import Session, open_bundle, verify_bundle
    from edgepack_runtime.tensors import TensorSpec

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "Device",
    "EdgepackError",
    "EngineError",
    "InputError",
    "LiveModel",
    "Session",
    "TensorSpec",
    "accept_bundle",
    "follow_active",
    "open_active",
    "open_bundle",
    "verify_bundle",
]

_HOME = {
    "BundleError": "errors",
    "Device": "device",
    "EdgepackError": "errors",
    "EngineError": "errors",
    "InputError": "errors",
    "LiveModel": "live",
    "Session": "session",
    "TensorSpec": "tensors",
    "accept_bundle": "acceptance",
    "follow_active": "live",
    "open_active": "activation",
    "open_bundle": "session",
    "verify_bundle": "session",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        # A collection finds nothing in what an import makes, and takes milliseconds where an application has much.
        collects = gc.isenabled()
        gc.disable()
        try:
            return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        finally:
            if collects:
                gc.enable()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
