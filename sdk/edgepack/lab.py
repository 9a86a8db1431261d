"""Run a model under the exact engine wheel a profile names, in an environment and a process of its own.

The same .tflite file can be right under one engine version and garbage under another, without an error
(`docs/conversion.md`, op versions). So nothing is believed about an engine that was not run here.
"""

from __future__ import annotations

import gc
import importlib
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepack.worker import Workplace, run_task
from edgepack_runtime.engines import load
from edgepack_runtime.errors import EngineError
from edgepack_runtime.plaintext import PlaintextModel
from edgepack_runtime.tensors import Array

__all__ = ["LabRequest", "LabResult", "replay", "run_in_lab"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabRequest:
    """One replay; `feeds` are arrays [n, *input shape] by input name, an empty `version` means any."""

    model: bytes
    engine: str
    num_threads: int
    feeds: Mapping[str, Array]
    version: str = ""

    def fill(self, into: memoryview) -> None:
        """Write the model into `into`."""
        into[:] = self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class LabResult:
    """What came out: arrays [n, *output shape] by output name, and what it took.

    `ram_bytes` is the growth of the process's peak resident memory from before the model was loaded to after its
    first run, measured in a process that holds one sample; `latency_ms` is the median of single runs on `machine`.
    """

    outputs: Mapping[str, Array]
    engine_version: str
    machine: str
    latency_ms: float
    ram_bytes: int


def _resident(field: str) -> int:
    """Return ``VmRSS`` or its peak ``VmHWM`` of this process in bytes (proc(5))."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise EngineError(f"/proc/self/status has no {field}: memory cannot be measured here")


def _forget_peak() -> None:
    """Set the peak of resident memory back to what is resident now (proc(5), clear_refs)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def replay(request: LabRequest) -> LabResult:
    """Return the model's outputs on every sample (runs in the child, in the engine's environment).

    Raises:
        EngineError: the engine cannot load or run the model, or is of another version.
        InputError: the samples do not fit it.
    """
    _warm_up_the_import(request.engine)
    _forget_peak()
    before = _resident("VmRSS")
    with PlaintextModel(len(request.model), request.fill) as plaintext:
        if plaintext.path is None:
            raise EngineError("running a model from memory needs memfd, which only Linux has")
        engine = load(request.engine, plaintext.path, num_threads=request.num_threads)
        if request.version not in ("", engine.version):
            raise EngineError(
                f"{sys.prefix} has {request.engine} {engine.version}, {request.version} was asked for",
                hint="something was installed into this environment: remove it, and it is made again",
            )
        count = len(next(iter(request.feeds.values())))
        columns: dict[str, list[Array]] = {spec.name: [] for spec in engine.outputs}
        seconds, ram = [], 0
        # Never reset: a stateful model's samples are one stream, and this process begins in its first state.
        for i in range(count):
            # Not ascontiguousarray, which makes a vector of a scalar.
            feeds = {name: np.asarray(array[i], order="C") for name, array in request.feeds.items()}
            start = time.perf_counter()
            outputs = engine.run(feeds)
            seconds.append(time.perf_counter() - start)
            if i == 0:
                ram = max(0, _resident("VmHWM") - before)
            for name, value in outputs.items():
                columns[name].append(value)
        version = engine.version
        engine.close()
    return LabResult(
        outputs={name: np.stack(values) for name, values in columns.items()},
        engine_version=version,
        machine=platform.machine(),
        latency_ms=statistics.median(seconds) * 1000,
        ram_bytes=ram,
    )


def _warm_up_the_import(engine: str) -> None:
    """Import the engine, so that its own libraries do not count as the model's memory."""
    try:
        importlib.import_module(engine.replace("-", "_") + ".interpreter")
    except ImportError as error:
        raise EngineError(f"engine {engine} cannot be imported: {error}") from None


def run_in_lab(request: LabRequest, place: Workplace) -> LabResult:
    """Return `replay(request)` computed by the interpreter of the engine's environment.

    Memory is measured in a process of its own: where many samples were unpacked, the allocator has room left over
    in which a model would hide.

    Raises:
        EngineError: the engine cannot load or run the model, or is of another version.
        WorkerError: it crashed or hung doing so.
    """
    one = replace(request, feeds={name: array[:1] for name, array in request.feeds.items()})
    measured = run_task("edgepack.lab:replay", one, LabResult, place)
    result = run_task("edgepack.lab:replay", request, LabResult, place)
    return replace(result, ram_bytes=measured.ram_bytes)
