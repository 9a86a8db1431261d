"""The bench's own parts: its models run, and a figure past its limit is told."""

from __future__ import annotations

import numpy as np
from tools.bench import MIB, Report, make_place, starts
from tools.bench_models import CHANNELS, float_model

import realbundle
from edgepack_runtime.engines import load


def test_a_models_bytes_are_its_layers_and_it_runs(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(float_model(2, 3))
    engine = load(realbundle.ENGINE, str(path), num_threads=1)
    outputs = engine.run({"image": np.ones((1, 3, 3, CHANNELS), np.float32)})
    assert (path.stat().st_size // MIB, [value.shape for value in outputs.values()]) == (2, [(1, 3, 3, CHANNELS)])
    assert np.isfinite(outputs["layer1"]).all()
    assert outputs["layer1"].any()


def test_figures_within_their_limits_pass(capsys):
    report = Report()
    report.at_most("a", 1.0, 1.0)
    report.at_least("b", 1.8, 1.8)
    assert (report.passed, "OVER" in capsys.readouterr().out) == (True, False)


def test_one_figure_past_its_limit_is_told_and_fails(capsys):
    report = Report()
    report.at_most("a", 1.01, 1.0)
    report.at_least("b", 2.0, 1.8)
    assert (report.passed, capsys.readouterr().out.count("OVER")) == (False, 1)


def test_starts_are_measured_on_both_sides(tmp_path, capsys):
    model = tmp_path / "m.tflite"
    model.write_bytes(float_model(1, 1))
    starts(make_place(model, tmp_path), Report(), 1, 1e-9)
    found = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in found] == [
        "start to first output, bundle / bare file",
        "floor, its bytes through both on two cores",
        "peak RSS over the bare engine's",
        "unevictable memory over the bare engine's",
    ]
