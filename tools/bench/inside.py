"""Inside one process: `Session.run` beside a hand-written loop, and a pool beside one interpreter, by turns."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from edgepack_runtime.session import open_bundle
from tools.bench.figures import Figure
from tools.bench.subjects import Subject

__all__ = ["pool_figures", "run_figures"]

# A round is as many runs as take about this long.
_ROUND_SECONDS = 0.02
_MORE_MICROSECONDS, _RUN_RATIO, _POOL_RATIO = 5.0, 1.01, 1.8


def run_figures(subject: Subject, rounds: int, *, tiny: bool) -> Iterator[Figure]:
    """Give what `Session.run` costs over set_tensor, invoke and get_tensor: microseconds if tiny, a ratio if not."""
    from ai_edge_litert.interpreter import Interpreter

    bare = Interpreter(model_path=str(subject.bare), num_threads=1)
    bare.allocate_tensors()
    details = [(d["index"], np.zeros(d["shape"], d["dtype"])) for d in bare.get_input_details()]
    wanted = [d["index"] for d in bare.get_output_details()]

    def by_hand() -> None:
        for index, value in details:
            bare.set_tensor(index, value)
        bare.invoke()
        for index in wanted:
            bare.get_tensor(index)

    with open_bundle(subject.bundle, device=subject.device()) as session:
        feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}

        def ours() -> None:
            session.run(feeds)

        runs = _runs_in_a_round(by_hand)
        _timed(ours, runs)
        # Whoever goes second finds warmer caches: they take turns in that, too.
        pairs = [(_timed(ours, runs), _timed(by_hand, runs)) for _ in range(rounds)]
        pairs += [(a, b) for b, a in ((_timed(by_hand, runs), _timed(ours, runs)) for _ in range(rounds))]
    if tiny:
        over = statistics.median(a - b for a, b in pairs) / runs * 1e6
        yield Figure(what=f"{subject.name}: Session.run - the loop", value=over, unit="µs", goal=_MORE_MICROSECONDS)
    else:
        ratio = statistics.median(a / b for a, b in pairs)
        yield Figure(what=f"{subject.name}: Session.run / the loop", value=ratio, unit="x", goal=_RUN_RATIO)


def pool_figures(subject: Subject, rounds: int) -> Iterator[Figure]:
    """Give the throughput of two interpreters on two threads over that of one, and what the second one weighs."""
    with open_bundle(subject.bundle, device=subject.device()) as session:
        feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}
        before = _shared_bytes()
        with session.pool(2) as pool:
            for _ in range(4):
                pool.run(feeds)
            more = _shared_bytes() - before
            runs = 2 * _runs_in_a_round(lambda: session.run(feeds)) * 5

            def half() -> None:
                for _ in range(runs // 2):
                    pool.run(feeds)

            pairs = [(_timed(lambda: session.run(feeds), runs), _together(half)) for _ in range(rounds)]
    yield Figure(
        what=f"{subject.name}: pool(2) on two threads / one interpreter",
        value=statistics.median(one / two for one, two in pairs),
        unit="x",
        goal=_POOL_RATIO,
        least=True,
    )
    yield Figure(
        what=f"{subject.name}: decrypted bytes that a pool of 2 adds, per model size",
        value=more / subject.size,
        unit="x",
        goal=0.0,
    )


def _together(work: Callable[[], None]) -> float:
    threads = [threading.Thread(target=work) for _ in range(2)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def _runs_in_a_round(call: Callable[[], object]) -> int:
    call()
    return max(1, min(2000, int(_ROUND_SECONDS / _timed(call, 3) * 3)))


def _timed(call: Callable[[], object], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        call()
    return time.perf_counter() - start


def _shared_bytes() -> int:
    """Return what this process maps of memory files, where the decrypted model lies: each file once."""
    with Path("/proc/self/maps").open(encoding="ascii") as maps:
        spans = {line.split()[4]: line.split()[0].split("-") for line in maps if "/memfd:" in line}
    return sum(int(end, 16) - int(start, 16) for start, end in spans.values())
