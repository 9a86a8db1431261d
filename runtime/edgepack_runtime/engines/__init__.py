"""Inference engines, one module each: TFLite bytes in a file or a memfd become something that runs.

An engine is a module of this package named after its distribution ("ai-edge-litert" is `ai_edge_litert`) with two
functions: ``load(model_path, *, num_threads, delegates) -> Engine``, and ``loads(model: bytes) -> bool``, which tells
whether the engine takes a file at all. Nothing heavy is imported until one is called; there is no list to add to.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edgepack_runtime.engines._distributions import installed_version
from edgepack_runtime.errors import EngineError

if TYPE_CHECKING:
    from edgepack_runtime.tensors import Array, SignatureSpec, TensorSpec

Got = TypeVar("Got")

__all__ = ["Engine", "installed", "load", "loads"]


class Engine(Protocol):
    """A model loaded into an inference engine.

    `inputs` and `outputs` stand in the order of the model's graph. Names are those of the model's SignatureDef, or
    the tensors' own where it has none. Of several they are those of one that is about the first graph:
    ``serving_default``, or the first in alphabetical order.
    """

    @property
    def name(self) -> str:
        """The engine, as profiles name it."""

    @property
    def version(self) -> str:
        """The installed version of the engine."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives."""

    @property
    def signatures(self) -> Mapping[str, SignatureSpec]:
        """The model's SignatureDefs by their keys; names in alphabetical order where there are several."""

    def run(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return the outputs by name, as copies the caller may keep; one thread at a time gets in.

        Raises:
            InputError: a name, shape or dtype does not fit `inputs`, or those of the signature; or there is no such.
            EngineError: the engine failed, or is closed.
        """

    def run_in_place(
        self, fill: Callable[[dict[str, Array]], object], read: Callable[[dict[str, Array]], Got]
    ) -> Got:
        """Return what `read` makes of the outputs after `fill` wrote the inputs, both in the engine's own memory.

        Raises:
            EngineError: an array was kept, the model has open dimensions, or the engine failed or is closed.
        """

    def reset(self) -> None:
        """Set the model's variable tensors to zero.

        Resource variables keep their value, and no engine says whether a model has any: open it again for those.

        Raises:
            EngineError: the engine failed, or is closed.
        """

    def close(self) -> None:
        """Free the model; closing twice is allowed."""


def _known() -> tuple[str, ...]:
    try:
        names = {entry.partition(".")[0] for entry in os.listdir(__path__[0])}  # noqa: PTH208 - as below
    except OSError:
        # In an archive. Elsewhere the start of an application does not wait for this import.
        import pkgutil

        names = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(name.replace("_", "-") for name in names if not name.startswith("_")))


def installed() -> tuple[tuple[str, str], ...]:
    """Return name and version of each engine installed here, in alphabetical order, without importing one."""
    versions = ((name, installed_version(name)) for name in _known())
    return tuple((name, version) for name, version in versions if version is not None)


def load(name: str, model_path: str, *, num_threads: int, delegates: tuple[str, ...] = ()) -> Engine:
    """Return the TFLite model at `model_path` ready to run; ``/proc/self/fd/N`` of a sealed memfd will do.

    The path may be closed or deleted once this has returned. `delegates` are shared libraries, looked for where the
    system has them; none is done without.

    Raises:
        EngineError: the engine is unknown, not installed or broken, or refuses the model, or a delegate is missing.
        FileError: `model_path` cannot be read.
    """
    engine: Engine = _module(name).load(model_path, num_threads=num_threads, delegates=delegates)
    return engine


def loads(name: str, model: bytes) -> bool:
    """Return whether the engine makes an interpreter of a TFLite file: it knows each operator in its table.

    Raises:
        EngineError: the engine is unknown, not installed or broken.
    """
    taken: bool = _module(name).loads(model)
    return taken


def _module(name: str) -> Any:
    if name not in _known():
        raise EngineError(f"engine {name!r} is none of {', '.join(_known())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
