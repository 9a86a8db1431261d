"""`edgepack diagnose` on files: what it prints, its exit codes, and what it says of wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from faultymodels import network, quantized


@cache
def models() -> tuple[bytes, bytes, bytes]:
    """Return a float model, the same in int8, and the same in int8 by a calibration on far too small values."""
    values = np.random.default_rng(2).normal(size=(40, 1, 16)).astype(np.float32)
    model = network()
    return model, quantized(model, {"x": values}), quantized(model, {"x": values * np.float32(0.02)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in zip(("float", "good", "bad"), models(), strict=True):
        (tmp_path / f"{name}.tflite").write_bytes(data)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(7).normal(size=(9, 1, 16)).astype(np.float32))
    np.savez(tmp_path / "other.npz", x=np.zeros((9, 5), np.float32))
    (tmp_path / "notes.txt").write_text("no model")
    return tmp_path


def diagnose(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepack", "diagnose", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


GOOD = ("good.tflite", "--float", "float.tflite", "--data", "data.npz")
BAD = ("bad.tflite", "--float", "float.tflite", "--data", "data.npz")


def test_a_healthy_model_ends_with_0_and_says_so(folder: Path) -> None:
    done = diagnose(folder, *GOOD)
    assert (done.returncode, "nothing is wrong (9 samples, 4 layers, ai-edge-litert" in done.stdout) == (0, True)


def test_a_faulty_model_ends_with_1_and_a_table_of_layers_with_reason_and_advice(folder: Path) -> None:
    done = diagnose(folder, *BAD)
    rows = [line.split() for line in done.stdout.splitlines()]
    heading = next(i for i, row in enumerate(rows) if row[:2] == ["layer", "operator"])
    assert (done.returncode, rows[heading + 1][:3]) == (1, ["x", "QUANTIZE", "int8"])
    assert "calibrate on more samples, as varied as these" in done.stdout


def test_json_has_the_verdict_the_blamed_and_every_layer(folder: Path) -> None:
    done = diagnose(folder, *BAD, "--json", "--samples", "3")
    found = json.loads(done.stdout)
    assert (found["good"], found["samples"], found["wrong"]) == (False, 3, ["y"])
    assert (found["blamed"][0]["name"], found["blamed"][0]["reason"]["name"]) == ("x", "clipped")
    assert [layer["kind"] for layer in found["layers"]] == ["QUANTIZE", *["FULLY_CONNECTED"] * 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("good.tflite",), "which quantized model? Neither --float nor --precision is given"),
        (("good.tflite", "--float", "float.tflite"), "the quantized .tflite and --data FILE are needed too"),
        ((*GOOD, "--precision", "float16"), "--precision: with --float the quantized model is given"),
        ((*GOOD, "--samples", "0"), "0 samples: from 1 to 200 can be looked at"),
        (("float.tflite", "--float", "good.tflite", "--data", "data.npz"), "the float model is quantized already"),
        (("gone.tflite", "--float", "float.tflite", "--data", "data.npz"), "gone.tflite: no such file or folder"),
        (("notes.txt", "--float", "float.tflite", "--data", "data.npz"), "notes.txt: no model that edgepack reads"),
        (("good.tflite", "--float", "float.tflite", "--data", "other.npz"), "samples of shape [5], expected [16]"),
        (("float.tflite", "--precision", "full_integer"), "also needs --profile NAME and --data FILE"),
        (("--precision", "full_integer"), "no model is named, and there is no edgepack.toml in this folder"),
    ],
)
def test_wrong_input_is_refused_in_one_line(folder: Path, arguments: Sequence[str], words: str) -> None:
    done = diagnose(folder, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr.splitlines()[0]


@pytest.mark.slow
def test_a_source_model_is_quantized_here_when_asked_for_a_precision(folder: Path) -> None:
    arguments = ("float.tflite", "--precision", "full_integer", "--profile", "raspberry-pi-4", "--data", "data.npz")
    done = diagnose(folder, *arguments, "--json")
    assert (done.returncode, json.loads(done.stdout or "{}").get("good")) == (0, True)
