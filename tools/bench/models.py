"""Float models of a wanted size, with seeded weights: what is measured when no model is named."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tools.probe_models import Writer

__all__ = ["SIZES", "chain"]

_FLOAT = schema.TensorType.FLOAT32
# What it is called in the report, and how many fully connected layers of which width it has.
SIZES = {"4 MB": (4, 512), "14 MB": (14, 512), "100 MB": (24, 1024)}


def chain(layers: int, width: int) -> bytes:
    """Return a model of so many dense layers: 4 * layers * width^2 bytes of weights, which each run reads once."""
    rng = np.random.default_rng(0)
    writer = Writer()
    at = start = writer.tensor((1, width), _FLOAT)
    for _ in range(layers):
        weights = writer.constant(rng.normal(size=(width, width)).astype(np.float32) / np.float32(width**0.5), _FLOAT)
        bias = writer.constant(np.zeros(width, np.float32), _FLOAT)
        end = writer.tensor((1, width), _FLOAT)
        at = writer.operator("FULLY_CONNECTED", [at, weights, bias], end, schema.FullyConnectedOptionsT())
    writer.graph.inputs, writer.graph.outputs = [start], [at]
    return writer.written(stamped=True)
