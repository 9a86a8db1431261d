"""How far a replay may be from the golden outputs, by what computes them: exact where that is possible.

Seen between x86-64 and emulated ARM with ``python -m tools.kernel_families``: docs/conversion.md, "On the device".
"""

from __future__ import annotations

from collections.abc import Mapping

from edgepack.delegates import delegation
from edgepack.flatbuffer import read_model
from edgepack.schemes import scheme_of_view
from edgepack_runtime.profile import DeviceProfile

__all__ = ["REPEATED", "SIGNED", "on_another_processor"]

# Signed into a bundle, by the scheme whose limits apply: a device may have any kernels.
SIGNED: Mapping[str, float] = {
    "float32": 1e-4,
    "float16": 1e-3,
    "dynamic_range": 5e-2,
    "full_integer": 2e-2,
}
# The same engine on the same processor, in another process. A step of an int8 output is far more.
REPEATED = 1e-6


def on_another_processor(model: bytes, profile: DeviceProfile, signed: float) -> float:
    """Return the share of the range that an emulated board may be off: next to none for integers on XNNPACK.

    ai-edge-litert hands int8 to XNNPACK, whose integers are the same on every processor; its own kernels' are not.

    Args:
        model: a TFLite file.
        profile: engine and processor of the board.
        signed: what holds for other models.

    Raises:
        SourceModelError: the bytes are no TFLite model.
    """
    view, engine = read_model(model), profile.engine
    if engine.name != "ai-edge-litert" or scheme_of_view(view) != "full_integer":
        return signed
    found = delegation(view, engine.name, engine.version, profile.hardware.arch)
    # What is taken at times, sums and the edges, came out the same either way.
    whole = not found.left and not found.why and len(view.subgraphs) == 1
    return REPEATED if whole else signed
