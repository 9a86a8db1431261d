"""What one layer's own error does to the outputs of a model that is float everywhere else.

Rounding a layer to eight bits may be harmless where it happens and ruin everything behind it: a LOG tells apart what
the layer before it rounds to zero. So the layer's own result is put in its place in the float model, which is run on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgepack.layer_sums import LIMIT, LayerSums
from edgepack_runtime.engines import Engine
from edgepack_runtime.tensors import Array

__all__ = ["MOST_LAYERS", "MOST_SAMPLES", "Effects", "worth_a_look"]

# Each layer takes a run of the whole model, each sample.
MOST_LAYERS = 96
MOST_SAMPLES = 4
# Noise below a millionth of the signal harms nobody.
_HARMLESS = 1e-6


def worth_a_look(sums: Sequence[LayerSums]) -> list[int]:
    """Return the layers that round something themselves, by place; the largest own error first."""
    found = []
    for place, one in enumerate(sums):
        parts = (one.from_weights, one.from_rounding, one.from_engine)
        fresh = sum(max(0.0, part) for part in parts) if max(parts) >= 0 else one.own
        if one.own > 0 and fresh > _HARMLESS * one.squares:
            found.append((-one.own / max(one.squares, one.own), place))
    return [place for _, place in sorted(found)[:MOST_LAYERS]]


class Effects:
    """Squared errors of the outputs (their names in the model) by layer, of which there are so many."""

    def __init__(self, engine: Engine, outputs: Sequence[str], layers: int) -> None:
        self.engine, self.outputs = engine, outputs
        self.squares = np.full((layers, len(outputs)), -1.0)
        self.signal: list[list[Array]] = [[] for _ in outputs]
        self.none = {s.name: np.zeros(s.shape, s.dtype) for s in engine.inputs}

    def reference(self, given: Mapping[str, Array], values: Mapping[str, Array]) -> None:
        """Take a sample: what the model is fed, and all that the float model computes of it."""
        self.given = {name: value for name, value in given.items() if name in self.none}
        self.values = values
        for column, name in zip(self.signal, self.outputs, strict=True):
            column.append(values[name].astype(np.float64))

    def add(self, place: int, name: str, value: Array) -> None:
        """Run the sample on with `value` in the place of a tensor."""
        feeds = {**self.none, **self.given}
        index = name[1:]
        value = np.nan_to_num(value, nan=0.0, posinf=LIMIT, neginf=-LIMIT)
        if name in self.given:
            feeds[name] = value.astype(self.given[name].dtype)
        elif f"v{index}" in self.none:
            feeds[f"v{index}"], feeds[f"f{index}"] = value.astype(np.float32), np.array(True)
        else:
            return
        outputs = {**self.given, **self.engine.run(feeds)}
        for position, output in enumerate(self.outputs):
            wanted, found = self.values[output].astype(np.float64), outputs[output].astype(np.float64)
            held = np.isfinite(wanted) & (np.abs(wanted) < LIMIT)
            difference = np.where(held, np.nan_to_num(found) - np.where(held, wanted, 0.0), 0.0)
            self.squares[place, position] = max(0.0, self.squares[place, position]) + float((difference**2).sum())

    def result(self) -> Array:
        """Return the squares as shares of each output's variance over the samples, [layers, outputs]; -1 for none."""
        shares = np.full(self.squares.shape, -1.0)
        for position, column in enumerate(self.signal):
            values = np.stack(column) if column else np.zeros(0)
            values = values[np.isfinite(values) & (np.abs(values) < LIMIT)]
            total = float(((values - values.mean()) ** 2).sum()) if values.size else 0.0
            measured = self.squares[:, position] >= 0
            if total > 0:
                shares[measured, position] = np.minimum(self.squares[measured, position] / total, 1e12)
        return shares
