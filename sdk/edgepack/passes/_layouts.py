"""How weights lie that are int8 beside float activations, by engine and operator; what is missing stays float.

What a kernel makes of them differs by engine. On tflite-runtime 2.14 (measured): one scale a channel is right
for CONV_2D and DEPTHWISE_CONV_2D, silently wrong for FULLY_CONNECTED and BATCH_MATMUL, which get one scale per tensor
there; a single scale is wrong for grouped CONV_2D; TRANSPOSE_CONV and EMBEDDING_LOOKUP have no such kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DYNAMIC_LAYOUTS", "PER_CHANNEL", "PER_TENSOR"]

PER_CHANNEL, PER_TENSOR = "per_channel", "per_tensor"
DYNAMIC_LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "ai-edge-litert": {
        "CONV_2D": PER_CHANNEL,
        "DEPTHWISE_CONV_2D": PER_CHANNEL,
        "TRANSPOSE_CONV": PER_CHANNEL,
        "FULLY_CONNECTED": PER_CHANNEL,
        "BATCH_MATMUL": PER_CHANNEL,
        "EMBEDDING_LOOKUP": PER_CHANNEL,
    },
    "tflite-runtime": {
        "CONV_2D": PER_CHANNEL,
        "DEPTHWISE_CONV_2D": PER_CHANNEL,
        "FULLY_CONNECTED": PER_TENSOR,
        "BATCH_MATMUL": PER_TENSOR,
    },
}
