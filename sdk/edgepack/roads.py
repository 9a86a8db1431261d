"""The roads from a source format to float TFLite: which there are, and in which order they are tried.

A road is one converter module, or an exporter followed by the roads of the format it exports to::

    model.onnx          -> onnx2tf
    model.pt            -> torch-onnx -> onnx2tf

The converter modules say which formats they take and what they are called; the order is written here, once.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgepack import converters
from edgepack.errors import RecipeError

__all__ = ["ORDER", "Road", "Route", "all_roads", "formats", "routes"]

# The order in which roads are tried; one that is not named here comes after them. Why: docs/conversion.md.
ORDER = ("tensorflow", "tflite", "torch-onnx", "litert-torch", "skl2onnx", "onnx2tf", "onnx-tf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """One converter module; `then` is the format it exports to, empty where it gives TFLite itself.

    One that `explains` names the first layer that differs, once its conversion was refused.
    """

    name: str
    module: str
    formats: tuple[str, ...]
    toolchain: str
    then: str
    explains: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Roads one behind the other: all but the last export, the last gives TFLite."""

    roads: tuple[Road, ...]

    def __str__(self) -> str:
        return " -> ".join(road.name for road in self.roads)


def _rank(road: Road) -> tuple[int, str]:
    return (ORDER.index(road.name) if road.name in ORDER else len(ORDER), road.name)


def all_roads() -> tuple[Road, ...]:
    """Return every road there is, in the order they are tried."""
    found = []
    for item in pkgutil.iter_modules(converters.__path__):
        if not item.name.startswith("_"):
            name = f"{converters.__name__}.{item.name}"
            module = importlib.import_module(name)
            found.append(
                Road(
                    name=module.ROAD,
                    module=name,
                    formats=module.FORMATS,
                    toolchain=module.TOOLCHAIN,
                    then=getattr(module, "THEN", ""),
                    explains=hasattr(module, "first_difference"),
                )
            )
    return tuple(sorted(found, key=_rank))


def formats() -> tuple[str, ...]:
    """Return the source formats some road begins at, sorted."""
    return tuple(sorted({name for road in all_roads() for name in road.formats}))


def routes(source: str, via: Sequence[str] = ()) -> tuple[Route, ...]:
    """Return the routes from a source format, in the order they are tried.

    Args:
        source: the format.
        via: the roads the user wants, in the user's order; wherever one of them could be taken, no other is.

    Raises:
        RecipeError: `via` names a road that does not exist, or that no route from this format takes.
    """
    roads = all_roads()
    known = {road.name for road in roads}
    for name in via:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise RecipeError(
                f"--via {name}: there is no such road" + (f" (did you mean {near[0]}?)" if near else ""),
                hint=f"roads from {source}: {', '.join(_names(source, roads))}",
            )
    found = tuple(Route(roads=steps) for steps in _walk(source, roads, tuple(via)))
    unused = [name for name in via if not any(road.name == name for route in found for road in route.roads)]
    if unused:
        raise RecipeError(
            f"--via {unused[0]}: no way from {source} takes this road",
            hint=f"roads from {source}: {', '.join(_names(source, roads))}",
        )
    return found


def _walk(source: str, roads: Sequence[Road], via: tuple[str, ...]) -> Iterator[tuple[Road, ...]]:
    here = [road for road in roads if source in road.formats]
    wanted = [road for name in via for road in here if road.name == name]
    for road in wanted or here:
        if road.then:
            yield from ((road, *rest) for rest in _walk(road.then, roads, via))
        else:
            yield (road,)


def _names(source: str, roads: Sequence[Road]) -> list[str]:
    names = [road.name for steps in _walk(source, roads, ()) for road in steps]
    return list(dict.fromkeys(names))
