"""Load and run models under the engine of one environment, each in a process of its own; say what happened.

    PYTHON observe.py ENGINE FOLDER WORK

PYTHON is the interpreter of an environment with that engine. Only numpy and the engine are needed in it: nothing of
edgepack is, so that what happened is known from somebody else. WORK is a text file with lines ``MODEL NETWORK``: the
file ``MODEL.tflite`` of FOLDER is run on the samples ``NETWORK.x`` of ``truth.npz``, and held against ``NETWORK.y``.
One line of JSON comes out per model.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

_SECONDS = 60


def _stored(values: Any, details: Any) -> Any:
    """Return numbers as the tensor stores them."""
    scale, zero = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if dtype.kind != "i" or not scale:
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero, info.min, info.max).astype(dtype)


def _meant(values: Any, details: Any) -> Any:
    """Return the numbers that stored ones stand for."""
    scale, zero = details["quantization"]
    return (values.astype(np.float64) - zero) * scale if scale else values.astype(np.float64)


def _run(interpreter: Any, path: Path, inputs: Any) -> Any:
    made = interpreter(model_path=str(path), num_threads=1)
    made.allocate_tensors()
    (source,), (result,) = made.get_input_details(), made.get_output_details()
    outputs = []
    for values in inputs:
        made.set_tensor(source["index"], _stored(values, source))
        made.invoke()
        outputs.append(_meant(made.get_tensor(result["index"]), result))
    return np.stack(outputs), _delegated(made)


def _delegated(interpreter: Any) -> list[int]:
    """Return the positions of the first graph's operators that a delegate runs.

    The engine lists its nodes, those of delegates last, and says of each only which tensors go in and come out. What
    lies between a delegate's inputs and its outputs is what it runs.
    """
    nodes = interpreter._get_ops_details()
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    maker = {int(tensor): i for i, node in enumerate(own) for tensor in node["outputs"]}
    taken: set[int] = set()
    for node in nodes[len(own) :]:
        given = set(map(int, node["inputs"]))
        wanted = [int(tensor) for tensor in node["outputs"]]
        while wanted:
            made_by = maker.get(wanted.pop())
            if made_by is not None and made_by not in taken:
                taken.add(made_by)
                wanted += [int(t) for t in own[made_by]["inputs"] if int(t) not in given]
    return sorted(taken)


def _concordance(found: Any, wanted: Any) -> float:
    """Return Lin's coefficient: 1 for the same numbers, less if they are scaled, shifted or shuffled."""
    x, y = found.ravel(), wanted.ravel().astype(np.float64)
    if not np.isfinite(x).all():
        return float("nan")
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def _report(interpreter: Any, path: Path, inputs: Any, wanted: Any) -> dict[str, object]:
    try:
        found, delegated = _run(interpreter, path, inputs)
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is what is to be told
        lines = " ".join(str(error).split()) or type(error).__name__
        return {"happened": "fails", "detail": lines[:160]}
    return {"happened": "runs", "concordance": round(_concordance(found, wanted), 4), "delegated": delegated}


def _in_a_child(interpreter: Any, path: Path, inputs: Any, wanted: Any) -> dict[str, object]:
    """Return the report of a forked process: a crash of the engine is a report too."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS)
        os.write(write, json.dumps(_report(interpreter, path, inputs, wanted)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0 and said:
        report: dict[str, object] = json.loads(said)
        return report
    return {"happened": "fails", "detail": f"crashes: {signal.Signals(-status).name}" if status < 0 else "ends"}


def main() -> int:
    """Run everything of the work list."""
    engine, folder, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    interpreter = importlib.import_module(f"{engine.replace('-', '_')}.interpreter").Interpreter
    # The engines print to standard output, which carries the reports.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with np.load(folder / "truth.npz") as truth:
        for line in work.read_text("utf-8").split("\n"):
            if line:
                model, network = line.split()
                path = folder / f"{model}.tflite"
                report = _in_a_child(interpreter, path, truth[f"{network}.x"], truth[f"{network}.y"])
                print(json.dumps({"model": model, **report}), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
