"""The targets by name. `MISSING` are those that cannot run here, and what they would need."""

from __future__ import annotations

from tools.fuzz.device_targets import DEVICE_MISSING, DEVICE_TARGETS
from tools.fuzz.host_targets import HOST_MISSING, HOST_TARGETS
from tools.fuzz.target import Target

__all__ = ["MISSING", "TARGETS", "Target"]

TARGETS = {**DEVICE_TARGETS, **HOST_TARGETS}
MISSING = {**DEVICE_MISSING, **HOST_MISSING}
