"""ai-edge-litert: Google's current TFLite engine, for 64-bit ARM and x86-64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack_runtime.engines._interpreter import import_interpreter, makes, open_model

if TYPE_CHECKING:
    from edgepack_runtime.engines import Engine

__all__ = ["load", "loads"]

_NAME = "ai-edge-litert"
_HINT = "install it: python3 -m pip install ai-edge-litert"


def load(model_path: str, *, num_threads: int, delegates: tuple[str, ...] = ()) -> Engine:
    """Return the model at `model_path` in an ai-edge-litert interpreter.

    Raises:
        EngineError: ai-edge-litert is missing or broken, refuses the model, or a delegate is missing.
        FileError: `model_path` cannot be read.
    """
    version, interpreter = import_interpreter(_NAME, "ai_edge_litert.interpreter", hint=_HINT)
    return open_model(interpreter, model_path, num_threads=num_threads, delegates=delegates, engine=(_NAME, version))


def loads(model: bytes) -> bool:
    """Return whether ai-edge-litert makes an interpreter of a TFLite file.

    Raises:
        EngineError: ai-edge-litert is missing or broken.
    """
    _, interpreter = import_interpreter(_NAME, "ai_edge_litert.interpreter", hint=_HINT)
    return makes(interpreter, model)
