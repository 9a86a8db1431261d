"""One row for each model and engine: what was predicted, what happened, what a build says."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np

from edgepack.candidate import Bench, Samples, examine
from edgepack.fit import check_fit
from edgepack.flatbuffer import read_model
from edgepack.gate import Gate
from edgepack.model import TFLiteModel
from edgepack.profiles import load_profile
from edgepack.schemes import scheme_of
from edgepack.tensor_types import operator_uses
from edgepack.toolchain import engine_toolchain, ensure
from edgepack.userland import board, ensure_userland, userland
from edgepack.worker import Workplace
from edgepack_runtime.manifest import AS_IS
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.tensors import Array, TensorSpec
from tools.prediction_matrix import networks, observe
from tools.prediction_matrix.models import read_truth

MATRIX = Path(__file__).parent / "matrix.csv"
DELEGATES = Path(__file__).parents[2] / "sdk" / "edgepack" / "data" / "xnnpack.csv"
ENGINES = (
    ("tflite-runtime", "2.14.0"),
    *(
        ("ai-edge-litert", version)
        for version in (
            "1.0.1", "1.1.2", "1.2.0", "1.3.0", "1.4.0", "2.0.3", "2.1.0", "2.1.2", "2.1.6", "2.2.0", "2.3.0",
        )
    ),
)  # fmt: skip
EMULATED = Path(__file__).parent / "emulated.csv"
BOARDS = ("raspberry-pi-4", "raspberry-pi-3")
# Outputs that agree less with TensorFlow's own are wrong.
RIGHT = 0.97
# Their tensors belong to other graphs as well, so what lies before and behind them does not tell who runs them.
_CONTROL = ("CALL_ONCE", "IF", "WHILE")
# The checks of `edgepack.fit` that are about the profile's figures, which no engine decides.
_BUDGETS = ("storage", "memory (estimated)", "quantization")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pair; `happened` is right, wrong or fails, `prediction` good or refused, `build` ships, refuses or ""."""

    model: str
    engine: str
    prediction: str
    known_by: str
    happened: str
    concordance: str
    replay: str
    build: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateRow:
    """One kind of operator under one engine: `taken` is whether XNNPACK took it, yes, no or some."""

    engine: str
    operator: str
    activation: str
    weight: str
    taken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """One model on one emulated board; the fields are those of `Row`."""

    model: str
    board: str
    arch: str
    engine: str
    prediction: str
    happened: str
    concordance: str
    why: str


def profile_of(engine: str, version: str, model: bytes) -> DeviceProfile:
    """Return a profile with that engine, which takes any precision: only the engine is judged."""
    base = load_profile("generic-x86-64-linux")
    return dataclasses.replace(
        base,
        engine=dataclasses.replace(base.engine, name=engine, version=version, num_threads=1),
        quantization=(scheme_of(model),),
    )


def predict(model: bytes, engine: str, version: str, arch: str = "x86_64") -> tuple[str, str, str]:
    """Return ``good`` or ``refused``, the weakest kind of evidence, and the checks that do not hold."""
    profile = profile_of(engine, version, model)
    profile = dataclasses.replace(profile, hardware=dataclasses.replace(profile.hardware, arch=arch))
    findings = [f for f in check_fit(model, profile) if f.check not in _BUDGETS]
    bad = [f for f in findings if not f.holds]
    kinds = {f.verdict for f in bad or findings}
    known_by = next(kind for kind in ("unknown", "estimated", "measured") if kind in kinds)
    return ("refused" if bad else "good"), known_by, "; ".join(f"{f.check}: {f.found}" for f in bad)


def judge(
    models: Mapping[str, bytes], engine: str, version: str, *, build: bool
) -> tuple[list[Row], list[DelegateRow]]:
    """Return a row for each model, and one for each kind of operator in them: whether XNNPACK takes it.

    Raises:
        ToolchainError: the engine's environment cannot be made.
    """
    python = ensure(engine_toolchain(engine, version), offline=False, say=lambda text: print(text, file=sys.stderr))
    seen = _observed(models, engine, python)
    truth = read_truth()
    rows = []
    for name, model in models.items():
        prediction, known_by, why = predict(model, engine, version)
        concordance = seen[name].get("concordance")
        happened = _happened(concordance)
        replay = verdict = ""
        if build:
            replay, verdict = _built(model, profile_of(engine, version, model), python, truth[network_of(name)], name)
        rows.append(
            Row(
                model=name,
                engine=f"{engine}=={version}",
                prediction=prediction,
                known_by=known_by,
                happened=happened,
                concordance="" if concordance is None else f"{float(concordance):.4f}",
                replay=replay,
                build=verdict,
                why=why or str(seen[name].get("detail", "")),
            )
        )
    return rows, _delegates(models, f"{engine}=={version}", seen)


def _delegates(models: Mapping[str, bytes], engine: str, seen: Mapping[str, Mapping[str, Any]]) -> list[DelegateRow]:
    counts: dict[tuple[str, str, str], list[bool]] = {}
    for name, model in models.items():
        view = read_model(model)
        # A graph with an open dimension is left alone as a whole, which says nothing of its operators.
        if "delegated" in seen[name] and not view.is_dynamic:
            taken = set(seen[name]["delegated"])
            for i, use in operator_uses(view.subgraphs[0]):
                if use.operator in _CONTROL:
                    continue
                counts.setdefault((use.operator, use.activation, use.weight), []).append(i in taken)
    return [
        DelegateRow(
            engine=engine, operator=kind[0], activation=kind[1], weight=kind[2],
            taken="yes" if all(said) else "some" if any(said) else "no",
        )
        for kind, said in sorted(counts.items())
    ]  # fmt: skip


def emulate(models: Mapping[str, bytes]) -> list[BoardRow]:
    """Return a row for each model on each emulated board; nothing is quantized or built for it.

    Raises:
        ToolchainError: a userland cannot be made.
    """
    rows = []
    for name in BOARDS:
        profile = load_profile(name)
        wanted = userland(profile.hardware.arch, profile.engine.name, profile.engine.version)
        ensure_userland(wanted, offline=False, say=lambda text: print(text, file=sys.stderr))
        with board(profile, wanted) as python:
            seen = _observed(models, profile.engine.name, python)
        for model, data in models.items():
            prediction, _, why = predict(data, profile.engine.name, profile.engine.version, profile.hardware.arch)
            concordance = seen[model].get("concordance")
            rows.append(
                BoardRow(
                    model=model,
                    board=name,
                    arch=profile.hardware.arch,
                    engine=f"{profile.engine.name}=={profile.engine.version}",
                    prediction=prediction,
                    happened=_happened(concordance),
                    concordance="" if concordance is None else f"{float(concordance):.4f}",
                    why=why or str(seen[model].get("detail", "")),
                )
            )
    return rows


def _happened(concordance: float | None) -> str:
    return "fails" if concordance is None else "right" if concordance >= RIGHT else "wrong"


def network_of(model: str) -> str:
    """Return the network a model is made of."""
    return model.partition(".")[0]


def _observed(models: Mapping[str, bytes], engine: str, python: Path) -> Mapping[str, Mapping[str, Any]]:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, model in models.items():
            (folder / f"{name}.tflite").write_bytes(model)
        inputs = {f"{name}.x": networks.samples(name) for name in networks.NETWORKS}
        wanted = {f"{name}.y": value for name, value in read_truth().items()}
        truth: dict[str, Any] = {**inputs, **wanted}
        np.savez(folder / "truth.npz", **truth)
        work = folder / "work"
        work.write_text("".join(f"{name} {network_of(name)}\n" for name in models), "utf-8")
        command = [str(python), "-I", "-B", observe.__file__, engine, str(folder), str(work)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return {report["model"]: report for report in reports}


def _built(model: bytes, profile: DeviceProfile, python: Path, truth: Array, name: str) -> tuple[str, str]:
    """Return what the build's replay says, good, wrong or fails, and its verdict: ships or refuses."""
    graph = read_model(model).subgraphs[0]
    source, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    samples = Samples(
        feeds={"x": _stored(networks.samples(network_of(name)), source.dtype, source.scales, source.zero_points)},
        reference={"y": _stored(truth, result.dtype, result.scales, result.zero_points)},
        calibration=len(truth),
        labels=None,
    )
    specs = tuple(TensorSpec(name=key, dtype=t.dtype, shape=t.shape, quantization=None)
                  for key, t in (("x", source), ("y", result)))  # fmt: skip
    held = TFLiteModel(data=model, inputs=specs[:1], outputs=specs[1:], history=())
    bench = Bench(engines={f"{profile.engine.name}=={profile.engine.version}": Workplace(python=python)}, gate=Gate())
    candidate = examine(held, AS_IS, profile, samples, bench)
    checks = {refusal.check for refusal in candidate.refusals}
    replay = "fails" if "runs on the engine" in checks else "good"
    if any(check.startswith("like the float source") for check in checks):
        replay = "wrong"
    return replay, "refuses" if candidate.refusals else "ships"


def _stored(values: Array, dtype: str, scales: Sequence[float], zero_points: Sequence[int]) -> Array:
    """Return numbers as an input or output of that type stores them."""
    if not scales or dtype not in ("int8", "int16"):
        return values
    info = np.iinfo(dtype)
    stored: Array = np.clip(np.round(values / scales[0]) + zero_points[0], info.min, info.max).astype(dtype)
    return stored


def write_rows(rows: Sequence[Row] | Sequence[DelegateRow] | Sequence[BoardRow], file: TextIO) -> None:
    """Write a table."""
    out = csv.writer(file, lineterminator="\n")
    out.writerow([field.name for field in dataclasses.fields(rows[0])])
    for row in rows:
        out.writerow(dataclasses.astuple(row))


def read_rows(path: Path = MATRIX) -> tuple[Row, ...]:
    """Return the committed table."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(Row(**row) for row in csv.DictReader(file))


def read_board_rows(path: Path = EMULATED) -> tuple[BoardRow, ...]:
    """Return the committed table of the emulated boards."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(BoardRow(**row) for row in csv.DictReader(file))
