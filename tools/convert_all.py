"""Build every model of a list, and print what became of each: parity, decisions, the precision shipped, or why not.

``python -m tools.convert_all LIST.toml FOLDER [--only NAME]`` builds the models that LIST.toml names, relative to
FOLDER. Entries of one `network` are the same network in several formats: they are built in float32 as well, and
their bundles' outputs compared. Exit code 1 if an entry was refused that does not say `refused`, or two formats of
one network differ by more than 0.0001 of the range.

An entry::

    [[model]]
    name = "digits"
    path = "mnist_conv/model.onnx"
    module = "mnist_conv/model.py:Net"    # of a PyTorch state dict, for --module
    data = "data/mnist_5k.npz"            # an .npz; `array` and `labels` name what is in it
    array = "x"
    labels = "y"                          # only where there are true classes
    shape = [-1, 1, 28, 28]               # of the first `values`, if that is said; then `repeat` the last dimension,
                                          # and `enlarge` the second and third
    multiply = 0.00392156862745098        # then `add`; an integer `dtype` rounds and clips
    dtype = "float32"
    random = 500                          # without `data`: so many rows from a normal distribution, whose `mean` and
                                          # `deviation` are lists
    calibration = 100                     # the first ones; the rest is for evaluation
    network = "digits"
    options = ["--input", "x:1,16000"]    # of `edgepack build`
    refused = "operator 'DET'"            # what the refusal has to say, where one is right
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomllib

from edgepack.cli.request import device_key_from, trust_from
from edgepack_runtime.device import Device
from edgepack_runtime.session import open_bundle
from edgepack_runtime.tensors import Array

_SAME = 1e-4
_COMPARED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the list; the fields are those of the list, the rest of its arrays' making in `data`."""

    name: str
    path: Path
    data: Mapping[str, Any]
    options: tuple[str, ...]
    network: str
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one model; `good` is false where it was refused without having to be, or the reverse."""

    cells: tuple[str, ...]
    good: bool


def read_list(path: Path, folder: Path) -> list[Entry]:
    """Return the entries of a list whose models are there."""
    entries = []
    for table in tomllib.loads(path.read_text("utf-8"))["model"]:
        source = folder / table.pop("path")
        options = tuple(table.pop("options", ()))
        if "module" in table:
            options += ("--module", str(folder / table.pop("module")))
        if "data" in table:
            table["data"] = folder / table["data"]
        entries.append(
            Entry(
                name=table.pop("name"),
                path=source,
                options=options,
                network=table.pop("network", ""),
                refused=table.pop("refused", ""),
                data=table,
            )
        )
    return entries


def samples(making: Mapping[str, Any]) -> tuple[Array, Array | None]:
    """Return all samples of an entry as its model takes them, and the true classes if there are any."""
    if "random" in making:
        shape = (making["random"], len(making["mean"]))
        drawn = np.random.default_rng(0).normal(making["mean"], making["deviation"], shape)
        return drawn.astype(np.float32), None
    with np.load(making["data"]) as archive:
        array = archive[making.get("array", "x")]
        labels = archive[making["labels"]] if "labels" in making else None
    array = array.astype(np.float64)
    if "values" in making:
        array = array.ravel()[: making["values"]]
    if "shape" in making:
        array = array.reshape(making["shape"])
    if "repeat" in making:
        array = np.repeat(array, making["repeat"], axis=-1)
    for axis in (1, 2) if "enlarge" in making else ():
        array = np.repeat(array, making["enlarge"], axis=axis)
    array = array * making.get("multiply", 1.0) + making.get("add", 0.0)
    dtype = np.dtype(making.get("dtype", "float32"))
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array = np.clip(np.round(array), limits.min, limits.max)
    return array.astype(dtype), labels


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def build(entry: Entry, folder: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    """Run `edgepack build` on an entry, with its data written into `folder`."""
    array, labels = samples(entry.data)
    count = entry.data.get("calibration", len(array))
    name = entry.data.get("input", "x")
    _save(folder / "calibration.npz", {name: array[:count]})
    command = ["build", str(entry.path), "--calibration", str(folder / "calibration.npz")]
    if labels is not None:
        _save(folder / "evaluation.npz", {name: array[count:], "y": labels[count:].astype(np.int64)})
        command += ["--evaluation", str(folder / "evaluation.npz")]
    command += ["--profile", "raspberry-pi-4", "-o", str(folder / "dist"), "--json", *entry.options, *extra]
    return subprocess.run([sys.executable, "-m", "edgepack", *command], capture_output=True, text=True, check=False)


def row(entry: Entry, done: subprocess.CompletedProcess[str]) -> Row:
    """Return the row of an entry from what its build said."""
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"message": done.stderr[-200:]}
    if done.returncode != 0:
        said = found["message"]
        good = bool(entry.refused) and entry.refused in said
        return Row(cells=(entry.name, "-", "-", "-", "-", f"refused: {said[:160]}"), good=good)
    bundle = found["bundles"][0]
    manifest, shipped = bundle["manifest"], bundle["candidates"][-1]
    evidence = [e for e in manifest["evidence"] if e["check"].startswith("conversion")]
    real = max(e["value"] for e in evidence if "edge cases" not in e["check"])
    edges = [e["value"] for e in evidence if "edge cases" in e["check"]]
    decisions = [word for e in evidence for word in e["found"].split(", ") if word.startswith("same decision")]
    road = manifest["provenance"]["steps"][0]["use"].partition(" by ")[2]
    drop = "".join(f", {d['metric']} drop {d['drop']['value']:+.4f}" for d in shipped["drops"])
    cells = (
        entry.name,
        road,
        f"{real:.1e}",
        f"{max(edges):.1e}" if edges else "none",
        ", ".join(dict.fromkeys(word.removeprefix("same decision on ") for word in decisions)) or "-",
        f"{bundle['scheme']}, {bundle['model_bytes']:,} bytes{drop}",
    )
    return Row(cells=cells, good=not entry.refused)


def outputs(entry: Entry, folder: Path) -> dict[str, Array]:
    """Return what the float32 bundle of an entry computes from the first samples, [n, ...] by output name."""
    done = build(entry, folder, "--precision", "float32")
    if done.returncode != 0:
        return {}
    path = Path(json.loads(done.stdout)["bundles"][0]["path"])
    device = Device(profile=None, trust=trust_from(None), key=device_key_from(None, None))
    with open_bundle(path, device=device) as session:
        (spec,) = session.inputs
        array, _ = samples(entry.data)
        rows = [session.run({spec.name: sample.reshape(spec.shape)}) for sample in array[:_COMPARED]]
    return {name: np.stack([r[name] for r in rows]) for name in rows[0]}


def distance(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """Return how far two formats of one network are apart, whatever they call their outputs, as a share of the range.

    Each output of the first is held against the one of the second that is nearest to it, of those of its shape.
    """
    worst = 0.0 if first and len(first) == len(second) else float("inf")
    for value in first.values():
        flat = [other.reshape(len(other), -1) for other in second.values() if other.size == value.size]
        apart = [float(np.abs(value.reshape(len(value), -1) - other).max() / np.ptp(value)) for other in flat]
        worst = max(worst, min(apart, default=float("inf")))
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, compare, print; return 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[], help="an entry or network; repeatable")
    given = parser.parse_args(arguments)
    entries = read_list(given.list, given.folder)
    entries = [e for e in entries if not given.only or {e.name, e.network} & set(given.only)]
    good, networks = True, dict[str, dict[str, dict[str, Array]]]()
    print("| Model | Road | Largest difference | On edge cases | Same decisions | Shipped |")
    print("|---|---|---:|---:|---:|---|")
    for entry in entries:
        with tempfile.TemporaryDirectory() as folder:
            found = row(entry, build(entry, Path(folder), "--precision", "auto"))
            print(f"| {' | '.join(found.cells)} |", flush=True)
            good &= found.good
            if entry.network and found.cells[1] != "-":
                networks.setdefault(entry.network, {})[entry.name] = outputs(entry, Path(folder))
    print()
    for network, formats in networks.items():
        (first, reference), *others = formats.items()
        for name, values in others:
            apart = distance(reference, values)
            good &= apart <= _SAME
            print(f"{network}: the bundles of {first} and {name} differ by {apart:.1e} of the range")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
