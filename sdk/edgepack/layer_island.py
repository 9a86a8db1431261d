"""Which operators of a float model have to stay float for a tensor never to be rounded.

::

    MUL -> t -> RESHAPE -> CONV_2D      t: MUL, RESHAPE and CONV_2D

The one that computes it, and those that read it: an integer reader rounds its float input on the way in. What only
moves values hands them on to be rounded behind it.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgepack.flatbuffer import SubgraphView

__all__ = ["Islands"]

_MOVES = frozenset(
    {"CONCATENATION", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D", "PACK", "PAD", "PADV2", "RELU", "RESHAPE", "SLICE",
     "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK"}
)  # fmt: skip
# What keeps small values small on their way to a logarithm.
_HANDS_ON = _MOVES | {"ADD", "MEAN", "MUL", "SQRT", "SQUARE", "SUM"}
_MAGNIFIERS = frozenset({"LOG", "RSQRT"})
# How many operators far, and how many in all.
_NEAR, _MOST = 24, 64


class Islands:
    """The main graph's operators, by what they read and compute."""

    def __init__(self, graph: SubgraphView, constants: Iterable[int]) -> None:
        fixed = set(constants)
        self.operators = graph.operators
        self.makers = {index: n for n, o in enumerate(graph.operators) for index in o.outputs}
        self.readers: dict[int, list[int]] = {}
        for number, operator in enumerate(graph.operators):
            for index in set(operator.inputs) - fixed:
                self.readers.setdefault(index, []).append(number)

    def magnifier(self, tensor: int) -> str:
        """Return the first operator behind a tensor that tells apart values near zero, '' if none is near."""
        return next((self.operators[n].name for n in self._reached(tensor) if self._magnifies(n)), "")

    def of(self, tensor: int) -> tuple[int, ...]:
        """Return the operators by place, up to the magnifier where there is one near."""
        found = {self.makers[tensor]} if tensor in self.makers else set()
        found |= self._path(tensor) if self.magnifier(tensor) else set(self._behind(tensor))
        return tuple(sorted(found)[:_MOST])

    def _behind(self, tensor: int) -> list[int]:
        """Return the readers of a tensor, through what only moves values."""
        found: dict[int, None] = {}
        front = [tensor]
        while front and len(found) < _MOST:
            new = [n for index in front for n in self.readers.get(index, ()) if n not in found]
            found.update(dict.fromkeys(new))
            front = [i for n in new if self.operators[n].name in _MOVES for i in self.operators[n].outputs]
        return list(found)

    def _magnifies(self, number: int) -> bool:
        return self.operators[number].name in _MAGNIFIERS

    def _reached(self, tensor: int) -> list[int]:
        """Return what small values reach as such, nearest first, with a magnifier at the end."""
        found: dict[int, None] = {}
        front = [tensor]
        for _ in range(_NEAR):
            new = [n for index in front for n in self.readers.get(index, ()) if n not in found][:_NEAR]
            found.update(dict.fromkeys(new))
            if any(self._magnifies(n) for n in new):
                break
            front = [i for n in new if self.operators[n].name in _HANDS_ON for i in self.operators[n].outputs]
        return list(found)

    def _path(self, tensor: int) -> set[int]:
        """Return the operators between a tensor and the magnifier."""
        reached = self._reached(tensor)
        kept = {n for n in reached if self._magnifies(n)}
        for number in reversed(reached):
            outputs = self.operators[number].outputs
            if any(n in kept for index in outputs for n in self.readers.get(index, ())):
                kept.add(number)
        return kept
