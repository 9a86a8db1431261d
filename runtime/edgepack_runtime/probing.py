"""What really works on this machine: each installed engine is asked for its operators and tried on tiny models.

The models are in ``probe_models.bin``, with answers that were computed without any engine (`tools/probe_models.py`).
Everything is done in child processes: a crash is a verdict. `docs/profiles.md` has the document.
"""

from __future__ import annotations

import json
import os
import pkgutil
import resource
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack_runtime import __version__, engines
from edgepack_runtime._data import dataclass
from edgepack_runtime.apart import Answer, apart
from edgepack_runtime.errors import EngineError
from edgepack_runtime.op_table import operator_table
from edgepack_runtime.probe import read_machine, storage_folder

if TYPE_CHECKING:
    from edgepack_runtime.engines import Engine
    from edgepack_runtime.tensors import Array

__all__ = ["PROBE_VERSION", "ProbeModel", "probe", "probe_input", "probe_models"]

PROBE_VERSION = 1
# A model takes a thousandth of a second; emulated some hundred times that, and an import of four seconds.
_MODEL_SECONDS = 60
_ENGINE_SECONDS = 1200
_MAX_THREADS = 8
_SWEPT, _SIDE = "float32/plain/CONV_2D", 256
_ROUND_SECONDS = 0.15
# More threads than that many are worth it if they take less than this share of the time.
_WORTH = 0.95
_WRITTEN = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeModel:
    """A model with its known answer; an engine may be off by `tolerance`, a share of the largest number in it."""

    name: str
    tolerance: float
    model: bytes
    answer: bytes


def probe_models() -> Iterator[ProbeModel]:
    """Yield the models that every engine is tried on."""
    packed = pkgutil.get_data(__package__, "probe_models.bin")
    index, _, content = zlib.decompress(packed or b"").partition(b"\n")
    entries = json.loads(index)
    models, answers = 0, sum(length for _, _, length, _ in entries)
    for name, tolerance, length, count in entries:
        model, answer = content[models : models + length], content[answers : answers + 4 * count]
        models, answers = models + length, answers + 4 * count
        yield ProbeModel(name=name, tolerance=tolerance, model=model, answer=answer)


def probe_input(shape: Sequence[int]) -> Array:
    """Return what every probe model is run on."""
    import numpy as np

    numbers: Array = ((np.arange(int(np.prod(shape))) * 37 % 160 - 32) / 64).astype(np.float32).reshape(shape)
    return numbers


def probe(only: str | None = None, models: Sequence[ProbeModel] | None = None) -> Answer:
    """Return the document that `edgepack-device probe` prints.

    Args:
        only: the one engine to try, instead of all that are installed.
        models: what engines are tried on, instead of the shipped models.

    Raises:
        EdgepackError: /proc cannot be read.
        EngineError: no engine, or not this one, is installed.
    """
    machine = read_machine()
    machine = replace(machine, engines=tuple(e for e in machine.engines if only in (None, e[0])))
    if not machine.engines:
        raise EngineError(
            f"{only or 'no engine'} is {'not ' if only else ''}installed here",
            hint="python3 -m pip install ai-edge-litert; on 32-bit ARM 'tflite-runtime==2.14.0' 'numpy<2'",
        )
    tried = tuple(probe_models()) if models is None else models
    return {
        "edgepack_probe": PROBE_VERSION,
        "runtime": __version__,
        "created": int(time.time()),
        # JSON's null is no answer: what is not known is left out.
        "machine": {k: v for k, v in asdict(machine).items() if v is not None and k != "engines"},
        **_write_speed(),
        "engines": [_engine(name, version, tried, machine.cores) for name, version in machine.engines],
    }


def _engine(name: str, version: str, models: Sequence[ProbeModel], cores: int) -> Answer:
    answer: Answer = {"name": name, "version": version, "problem": "", "operators": [], "models": []}
    answer |= {"threads": [], "num_threads": 1, "process_bytes": 0}
    try:
        return answer | apart(partial(_examine, name, models, cores), what=name, seconds=_ENGINE_SECONDS)
    except EngineError as error:
        return answer | {"problem": error.message}


def _examine(name: str, models: Sequence[ProbeModel], cores: int) -> Answer:
    # Engines say on standard error what they do, and a crash is told by its signal: no core file is wanted.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The engine is imported here once, and no interpreter is made to run: what is forked has no threads.
    operators = operator_table(name)
    tried = [_tried(name, model) for model in models]
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    threads = list(_sweep(name, [m for m in models if m.name == _SWEPT], cores))
    best = min((ratio for _, ratio in threads), default=1.0)
    return {
        "operators": operators,
        "models": tried,
        "threads": threads,
        "num_threads": next((n for n, ratio in threads if best >= ratio * _WORTH), 1),
        "process_bytes": process,
    }


def _tried(name: str, model: ProbeModel) -> Answer:
    answer: Answer = {"name": model.name, "verdict": "fails", "reason": ""}
    try:
        found = apart(partial(_run, name, model), what=name, seconds=_MODEL_SECONDS)
    except EngineError as failure:
        return answer | {"reason": failure.message}
    right = found.get("error", model.tolerance + 1) <= model.tolerance
    return answer | {"verdict": "right" if right else "wrong", **found}


def _run(name: str, model: ProbeModel) -> Answer:
    import numpy as np

    engine, feeds = _loaded(name, model)
    (found,) = engine.run(feeds).values()
    wanted = np.frombuffer(model.answer, "<f4")
    error = float(np.abs(found.ravel() - wanted).max() / np.abs(wanted).max())
    # JSON has neither an infinite number nor one that is none.
    return {"error": error} if np.isfinite(error) else {}


def _loaded(name: str, model: ProbeModel, num_threads: int = 1, side: int = 6) -> tuple[Engine, dict[str, Array]]:
    handle = os.memfd_create("probe")
    os.write(handle, model.model)
    engine = engines.load(name, f"/proc/self/fd/{handle}", num_threads=num_threads)
    spec = engine.inputs[0]
    return engine, {spec.name: probe_input([side if n < 0 else n for n in spec.shape])}


def _sweep(name: str, models: Sequence[ProbeModel], cores: int) -> Iterator[tuple[int, float]]:
    """Yield numbers of threads, and how long one run takes with them in relation to one thread."""
    one = 0.0
    for model in models:
        for count in range(1, min(cores, _MAX_THREADS) + 1):
            try:
                took = apart(partial(_timed, name, model, count), what=name, seconds=_MODEL_SECONDS)["seconds"]
            except EngineError:
                return
            one = one or took
            yield count, round(took / one, 3)


def _timed(name: str, model: ProbeModel, num_threads: int) -> Answer:
    engine, feeds = _loaded(name, model, num_threads, _SIDE)
    engine.run(feeds)
    runs: list[float] = []
    end = time.perf_counter() + _ROUND_SECONDS
    while not runs or time.perf_counter() < end:
        start = time.perf_counter()
        engine.run(feeds)
        runs.append(time.perf_counter() - start)
    return {"seconds": min(runs)}


def _write_speed() -> Answer:
    try:
        with tempfile.TemporaryFile(dir=Path(storage_folder()[0])) as file:
            start = time.perf_counter()
            file.write(bytes(_WRITTEN))
            file.flush()
            os.fsync(file.fileno())
            return {"write_bytes_per_second": int(_WRITTEN / (time.perf_counter() - start))}
    except OSError:
        return {}
