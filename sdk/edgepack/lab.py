"""Run a model under the exact engine wheel a profile names, in an environment and a process of its own.

The same .tflite file can be right under one engine version and garbage under another, without an error
(`docs/conversion.md`, op versions). So nothing is believed about an engine that was not run here.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepack.errors import WorkerError
from edgepack.timing import Timing, take_turns
from edgepack.worker import Workplace, run_task
from edgepack_runtime.engines import Engine, load
from edgepack_runtime.errors import EngineError, InputError
from edgepack_runtime.plaintext import PlaintextModel, Room
from edgepack_runtime.tensors import Array

__all__ = ["LabRequest", "LabResult", "replay", "run_in_lab"]

_STACK_BYTES = 512 << 10
# More than any libc's `pthread_attr_t` takes.
_ATTRIBUTES_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LabRequest:
    """One replay; `feeds` are arrays [n, *input shape] by input name, an empty `version` means any.

    `ram_budget` is what the model may add to the process: it is held to that, if it is not 0. `beside` is a model of
    the same inputs whose time is taken by turns with this one's, empty for none.
    """

    model: bytes
    engine: str
    num_threads: int
    feeds: Mapping[str, Array]
    version: str = ""
    ram_budget: int = 0
    beside: bytes = b""

    def fill(self, into: Room) -> None:
        """Write the model into `into`."""
        into.write(0, self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabResult:
    """What came out: arrays [n, *output shape] by output name, and what it took.

    `ram_bytes` is the growth of the process's peak resident memory from before the model was loaded to after its
    first run, measured in a process that holds one sample; `latency_ms` is the median of single runs on `machine`.
    `within_budget` is whether it was loaded and run in a process that could not take more than the request's budget.
    `timing` is None where nothing was to be timed beside it, or the engine cannot run that.
    """

    outputs: Mapping[str, Array]
    engine_version: str
    machine: str
    latency_ms: float
    ram_bytes: int
    within_budget: bool = True
    timing: Timing | None = None


def _resident(field: str) -> int:
    """Return ``VmRSS``, its peak ``VmHWM``, or ``VmData`` of this process in bytes (proc(5))."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise EngineError(f"/proc/self/status has no {field}: memory cannot be measured here")


def _forget_peak() -> None:
    """Set the peak of resident memory back to what is resident now (proc(5), clear_refs)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", "ascii")


@contextmanager
def _budget(request: LabRequest) -> Iterator[None]:
    """Hold what this process allocates from here on to the request's budget.

    The decrypted model lies in shared memory, which the kernel does not count as data (getrlimit(2), RLIMIT_DATA), so
    it is taken off first. Threads' stacks are reserved and hardly used: they are made small, or four of them would
    take 32 MiB of the budget and no memory.

    Raises:
        EngineError: the model alone is larger.
    """
    if not request.ram_budget:
        yield
        return
    left = request.ram_budget - len(request.model)
    if left <= 0:
        raise EngineError(f"the model alone takes {len(request.model):,} of the {request.ram_budget:,} bytes it may")
    _shrink_stacks()
    old = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_resident("VmData") + left, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, old)


def _shrink_stacks() -> None:
    """Give threads that are started from here on a small stack (pthread_setattr_default_np(3); glibc only)."""
    libc = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    libc.pthread_attr_init(attributes)
    libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_STACK_BYTES))
    libc.pthread_setattr_default_np(attributes)
    libc.pthread_attr_destroy(attributes)


def replay(request: LabRequest) -> LabResult:
    """Return the model's outputs on every sample (runs in the child, in the engine's environment).

    Raises:
        EngineError: the engine cannot load or run the model, in its budget if there is one, or is of another version.
        InputError: the samples do not fit it.
    """
    _warm_up_the_import(request.engine)
    _forget_peak()
    before = _resident("VmRSS")
    with PlaintextModel(len(request.model), request.fill) as plaintext, _budget(request):
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
        timing = _timing(request, engine)
        engine.close()
    return LabResult(
        outputs={name: np.stack(values) for name, values in columns.items()},
        engine_version=version,
        machine=platform.machine(),
        latency_ms=statistics.median(seconds) * 1000,
        ram_bytes=ram,
        timing=timing,
    )


def _timing(request: LabRequest, engine: Engine) -> Timing | None:
    """Return the time of the request's model beside the other one's, on the first sample."""
    if not request.beside:
        return None
    feeds = {name: np.asarray(array[0], order="C") for name, array in request.feeds.items()}

    def runs(it: Engine) -> Callable[[], object]:
        return lambda: it.run(feeds)

    def fill(into: Room) -> None:
        into.write(0, request.beside)

    with PlaintextModel(len(request.beside), fill) as plaintext:
        try:
            reference = load(request.engine, plaintext.path or "", num_threads=request.num_threads)
            reference.run(feeds)
        except (EngineError, InputError):
            # The float model is no part of what is judged: an engine that lacks an operator of it is no fault here.
            return None
        timing = take_turns(runs(engine), runs(reference))
        reference.close()
    return timing


def _warm_up_the_import(engine: str) -> None:
    """Import the engine, so that its own libraries do not count as the model's memory."""
    try:
        importlib.import_module(engine.replace("-", "_") + ".interpreter")
    except ImportError as error:
        raise EngineError(f"engine {engine} cannot be imported: {error}") from None


def run_in_lab(request: LabRequest, place: Workplace) -> LabResult:
    """Return `replay(request)` computed by the interpreter of the engine's environment.

    Memory is measured in a process of its own: where many samples were unpacked, the allocator has room left over
    in which a model would hide. That process is held to the budget; if the model cannot run so, it is measured again
    without.

    Raises:
        EngineError: the engine cannot load or run the model, or is of another version.
        WorkerError: it crashed or hung doing so.
    """
    one = replace(request, beside=b"", feeds={name: array[:1] for name, array in request.feeds.items()})
    within = True
    try:
        measured = run_task("edgepack.lab:replay", one, LabResult, place)
    except (EngineError, WorkerError):
        if not request.ram_budget:
            raise
        within = False
        measured = run_task("edgepack.lab:replay", replace(one, ram_budget=0), LabResult, place)
    result = run_task("edgepack.lab:replay", replace(request, ram_budget=0), LabResult, place)
    return replace(result, ram_bytes=measured.ram_bytes, within_budget=within)
