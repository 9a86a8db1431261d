"""What a build without a network lacks: all of it at once, before anything slow starts."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.errors import ToolchainError
from edgepack.roads import routes
from edgepack.toolchain import HOST, engine_toolchain, locate
from edgepack_runtime.profile import DeviceProfile

__all__ = ["refuse_missing"]


def refuse_missing(source: str, via: Sequence[str], profiles: Sequence[DeviceProfile]) -> None:
    """Refuse to begin where a toolchain is missing that no build of this source can do without.

    Those are the engines', and where no road is there from end to end, the first one's.

    Args:
        source: the source's format.
        via: the roads the user wants.
        profiles: what is built for.

    Raises:
        ToolchainError: one is missing, or several; the message names them all.
        RecipeError: `via` is not understood.
    """
    roads = [
        [locate(road.toolchain) for road in route.roads if road.toolchain != HOST] for route in routes(source, via)
    ]
    wanted = [] if any(all(item.installed for item in road) for road in roads) else roads[0]
    wanted += [engine_toolchain(p.engine.name, version) for p in profiles for version in p.engine.versions]
    missing = list(dict.fromkeys(item.name for item in wanted if not item.installed))
    if missing:
        raise ToolchainError(
            f"not installed, and --offline forbids installing: {', '.join(missing)}",
            hint=f"run `edgepack toolchain install {' '.join(missing)}` while online",
        )
