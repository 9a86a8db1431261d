"""Run a model in the interpreter of TensorFlow Lite Micro, in an arena of exactly so many bytes.

The interpreter takes its memory from the arena and from nowhere else, so a budget is enforced to the byte. It is that
of the host: with pointers of 64 bits the arena holds somewhat more than on the board, and its kernels are the
reference ones, without the working memory that optimized ones take. `docs/microcontrollers.md` says what follows.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack_runtime.errors import EngineError
from edgepack_runtime.tensors import Array

__all__ = ["ReferenceRequest", "ReferenceResult", "TflmRequest", "TflmResult", "reference", "replay"]

_NAME = "tflite-micro"


@dataclass(frozen=True, slots=True, kw_only=True)
class TflmRequest:
    """One replay: `inputs` and `outputs` are names in the graph's order, `feeds` arrays [n, *shape] by input name."""

    model: bytes
    version: str
    arena_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    feeds: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class TflmResult:
    """What came out, arrays [n, *shape] by output name, and the smallest arena in which the model runs here."""

    outputs: Mapping[str, Array]
    arena_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """The same model and inputs for the reference kernels of the host's own engine."""

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    feeds: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceResult:
    """What the reference kernels give, arrays [n, *shape] by output name, and name and version of the engine."""

    outputs: Mapping[str, Array]
    engine: str


def replay(request: TflmRequest) -> TflmResult:
    """Return the model's outputs on every sample (runs in the child, in the toolchain's environment).

    Raises:
        EngineError: the interpreter is of another version, or the model does not fit the arena or is refused.
    """
    version = importlib.metadata.version(_NAME)
    if version != request.version:
        raise EngineError(
            f"this environment has {_NAME} {version}, the profile asks for {request.version}",
            hint="name the version in the profile that edgepack has a lock file for",
        )
    interpreter = _interpreter(request, request.arena_bytes)
    columns: dict[str, list[Array]] = {name: [] for name in request.outputs}
    try:
        for i in range(len(next(iter(request.feeds.values())))):
            for index, name in enumerate(request.inputs):
                interpreter.set_input(request.feeds[name][i], index)
            interpreter.invoke()
            for index, name in enumerate(request.outputs):
                columns[name].append(np.array(interpreter.get_output(index)))
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"{_NAME} {version} cannot run the model: {error}") from None
    return TflmResult(
        outputs={name: np.stack(values) for name, values in columns.items()},
        arena_bytes=_smallest(request),
    )


def _interpreter(request: TflmRequest, arena_bytes: int) -> Any:
    from tflite_micro.python.tflite_micro import runtime

    try:
        made = runtime.Interpreter.from_bytes(request.model, arena_size=arena_bytes)
        first = {name: array[0] for name, array in request.feeds.items()}
        for index, name in enumerate(request.inputs):
            made.set_input(first[name], index)
        # Some kernels ask for working memory in their first run only.
        made.invoke()
        made.reset()
    except (ValueError, RuntimeError) as error:
        raise EngineError(
            f"{_NAME} {request.version} does not run the model in an arena of {arena_bytes:,} bytes: {error}",
            hint="the lines it printed above say why (--verbose); a smaller model, or a larger arena in the profile",
        ) from None
    return made


def _smallest(request: TflmRequest) -> int:
    """Return the smallest arena in which the model runs: it does in one of `request.arena_bytes`."""
    low, high = 0, request.arena_bytes
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _interpreter(request, middle)
            high = middle
        except EngineError:
            low = middle
    return high


def reference(request: ReferenceRequest) -> ReferenceResult:
    """Return what the reference kernels of the host's ai-edge-litert give (runs in a child of the host's own).

    Raises:
        EngineError: they refuse the model.
    """
    from ai_edge_litert import interpreter as litert

    name = "ai-edge-litert"
    try:
        made = litert.Interpreter(
            model_content=request.model, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
        )
        made.allocate_tensors()
        columns: dict[str, list[Array]] = {output: [] for output in request.outputs}
        places = [details["index"] for details in made.get_input_details()]
        results = [details["index"] for details in made.get_output_details()]
        for i in range(len(next(iter(request.feeds.values())))):
            for index, feed in zip(places, request.inputs, strict=True):
                made.set_tensor(index, request.feeds[feed][i])
            made.invoke()
            for index, output in zip(results, request.outputs, strict=True):
                columns[output].append(np.array(made.get_tensor(index)))
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"the reference kernels of {name} refuse the model: {error}") from None
    return ReferenceResult(
        outputs={output: np.stack(values) for output, values in columns.items()},
        engine=f"{name} {importlib.metadata.version(name)}, reference kernels",
    )
