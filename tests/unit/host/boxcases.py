"""Pictures with boxes, found and there, made by arithmetic alone: the same numbers wherever they are made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgepack.boxmetric import Boxed


def numbers(seed: int) -> Iterator[float]:
    """Yield numbers from 0 to 1, by Lehmer's generator."""
    state = seed + 1
    while True:
        state = state * 48271 % 2147483647
        yield state / 2147483647


def pictures(seed: int, count: int = 12, kinds: int = 3) -> tuple[list[Boxed], list[Boxed]]:
    """Return what is found and what is there, as shares of the picture; every third picture has an object missed."""
    draw = numbers(seed)
    found, there = [], []
    for picture in range(count):
        objects = [(int(next(draw) * kinds), *box(draw)) for _ in range(int(next(draw) * 6))]
        said = []
        for kind, *corners in objects[picture % 3 == 0 :]:
            moved = [corner + (next(draw) - 0.5) * 0.07 for corner in corners]
            said.append((kind if next(draw) < 0.85 else (kind + 1) % kinds, next(draw), *moved))
            if next(draw) < 0.2:
                said.append((kind, next(draw), *corners))
        said += [(int(next(draw) * kinds), next(draw), *box(draw)) for _ in range(int(next(draw) * 3))]
        said.sort(key=lambda one: -one[1])
        found.append(boxed([(kind, score, *corners) for kind, score, *corners in said]))
        there.append(boxed([(kind, 1.0, *corners) for kind, *corners in objects]))
    return found, there


def box(draw: Iterator[float]) -> tuple[float, float, float, float]:
    left, top = next(draw) * 0.7, next(draw) * 0.7
    return left, top, left + 0.05 + next(draw) * 0.25, top + 0.05 + next(draw) * 0.25


def boxed(rows: list[tuple[float, ...]]) -> Boxed:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxed(corners=table[:, 2:], kinds=table[:, 0].astype(np.int64), scores=table[:, 1])
