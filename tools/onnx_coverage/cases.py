"""The test cases that the package onnx ships, each copied into a folder with its data in numpy's form.

Run by the Python of the toolchain ``onnx`` (`copy_cases`); `read_case` needs numpy only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CONSTANTS", "SUITES", "Case", "copy_cases", "read_arrays", "read_case", "write_arrays", "write_case"]

# The folder of a case's second form, in its own.
CONSTANTS = "constants"
SUITES = ("node", "simple", "pytorch-operator", "pytorch-converted")
# As onnx.backend.test.loader has them where a case does not say otherwise.
_RTOL, _ATOL = 1e-3, 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: `operator` is what it is about, '' for one of a whole model; `outputs` are names in order."""

    suite: str
    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sets: int
    rtol: float
    atol: float


def read_case(folder: Path) -> Case:
    """Return the description `copy_cases` wrote."""
    table = json.loads((folder / "case.json").read_text())
    return Case(**table | {"inputs": tuple(table["inputs"]), "outputs": tuple(table["outputs"])})


def read_arrays(folder: Path, what: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return ``inputs`` or ``outputs`` of a case: [sets, ...] by name, without those that are no plain tensors."""
    with np.load(folder / f"{what}.npz") as archive:
        return {name: archive[f"a{i}"] for i, name in enumerate(json.loads(str(archive["names"])))}


def write_case(folder: Path, case: Case) -> None:
    """Write the description that `read_case` reads."""
    (folder / "case.json").write_text(json.dumps(asdict(case)))


def write_arrays(path: Path, arrays: Mapping[str, list[Any]]) -> None:
    """Write what `read_arrays` reads: those of `arrays`, values by name, one a set, that are plain tensors."""
    plain = {}
    for name, values in arrays.items():
        same = {v.shape if isinstance(v, np.ndarray) else None for v in values}
        if len(same) == 1 and None not in same and values[0].dtype.kind in "fiub":
            plain[name] = np.stack(values)
    members: dict[str, Any] = {f"a{i}": v for i, v in enumerate(plain.values())}
    np.savez(path, names=np.array(json.dumps(list(plain))), **members)


def _value(path: Path, kind: str) -> Any:
    """Return a tensor as a numpy array, and anything else as None."""
    import onnx

    if kind != "tensor_type":
        return None
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    value = onnx.numpy_helper.to_array(tensor)
    # ml_dtypes' kinds are 'V' or look like floats that numpy cannot store.
    return value if value.dtype.isbuiltin == 1 else None


def _operator(model: Any, name: str, known: Mapping[str, str]) -> str:
    """Return what a node test is about: its only operator, or that of the test it is an expansion of."""
    kinds: set[str] = {node.op_type for node in model.graph.node}
    if "_expanded" in name:
        return known.get(name.partition("_expanded")[0], "")
    if len(model.graph.node) == 1:
        return next(iter(kinds))
    flat = name.removeprefix("test_").replace("_", "")
    fitting = [kind for kind in kinds if flat.startswith(kind.lower())]
    return max(fitting, key=len, default="")


def copy_cases(folder: Path, only: Container[str] = ()) -> None:
    """Copy every case of `SUITES`, or only those named ``SUITE.NAME``, into a folder of its own in `folder`."""
    import onnx

    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    known: dict[str, str] = {}
    for suite in SUITES:
        # The expansions come after what they are expansions of.
        for source in sorted((root / suite).iterdir(), key=lambda p: ("_expanded" in p.name, p.name)):
            if not (source / "model.onnx").exists():
                continue
            data = (source / "model.onnx").read_bytes()
            model = onnx.load_from_string(data)
            known[source.name] = _operator(model, source.name, known) if suite == "node" else ""
            target = folder / f"{suite}.{source.name}"
            if not only or target.name in only:
                target.mkdir()
                (target / "model.onnx").write_bytes(data)
                _copy_data(model, source, target, known[source.name])


def _copy_data(model: Any, source: Path, target: Path, operator: str) -> None:
    graph = model.graph
    # Initializers listed as inputs are none; the data files leave them out.
    initializers = {i.name for i in graph.initializer}
    inputs = [v for v in graph.input if v.name not in initializers]
    sets = sorted(source.glob("test_data_set_*"))
    for what, values in (("input", inputs), ("output", list(graph.output))):
        kinds = [(v.name, v.type.WhichOneof("value")) for v in values]
        arrays = {
            name: [_value(path / f"{what}_{i}.pb", kind) for path in sets] for i, (name, kind) in enumerate(kinds)
        }
        write_arrays(target / f"{what}s.npz", arrays)
    limits = source / "data.json"
    table = json.loads(limits.read_text()) if limits.exists() else {}
    case = Case(
        suite=target.name.partition(".")[0],
        name=source.name,
        operator=operator,
        inputs=tuple(v.name for v in inputs),
        outputs=tuple(v.name for v in graph.output),
        sets=len(sets),
        rtol=table.get("rtol", _RTOL),
        atol=table.get("atol", _ATOL),
    )
    write_case(target, case)
    if len(inputs) > 1:
        _with_constants(model, case, target)


def _with_constants(model: Any, case: Case, folder: Path) -> None:
    """Write the case once more with every input but the first as a constant, as exporters write weights and axes."""
    import onnx

    arrays = read_arrays(folder, "inputs")
    first, *others = [v for v in model.graph.input if v.name in case.inputs]
    if case.sets != 1 or arrays.keys() != set(case.inputs):
        return
    for value in others:
        model.graph.input.remove(value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(arrays[value.name][0], value.name))
    target = folder / CONSTANTS
    target.mkdir()
    (target / "model.onnx").write_bytes(model.SerializeToString())
    write_arrays(target / "inputs.npz", {first.name: list(arrays[first.name])})
    (target / "outputs.npz").write_bytes((folder / "outputs.npz").read_bytes())
    write_case(target, replace(case, inputs=(first.name,)))


if __name__ == "__main__":
    copy_cases(Path(sys.argv[1]), sys.argv[2:])
