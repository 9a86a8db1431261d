"""A search goes on with figures of an earlier one only where the same files mean the same samples and metric."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tinymodels import feeds, tiny

from edgepack.auto import build_digest
from edgepack.candidate import Bench
from edgepack.cli.request import metric_from
from edgepack.conversion import convert_source
from edgepack.gate import Gate
from edgepack.inputs import read_inputs
from edgepack.preparation import take_preparation
from edgepack.reading import Reading
from edgepack.recipe import Recipe, UserModule
from edgepack.release import Work
from edgepack.reporter import Reporter
from edgepack_runtime._fields import Fields


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    (tmp_path / "m.tflite").write_bytes(tiny("digits"))
    (tmp_path / "own.py").write_text("def gained(outputs, labels):\n    return 1.0\n")
    np.savez(tmp_path / "x.npz", **feeds("digits", 3))
    recipe = Recipe(
        model=tmp_path / "m.tflite",
        calibration=tmp_path / "x.npz",
        profiles=("raspberry-pi-4",),
        output=tmp_path / "out",
        gate=Gate(function=metric_from(f"{tmp_path / 'own.py'}:gained")[1]),
    )
    # Nothing of what it is of is asked for evaluation samples here.
    inputs = read_inputs(dataclasses.replace(recipe, gate=Gate()), Reporter())
    converted = convert_source(recipe, inputs, offline=True, reporter=Reporter())
    return Work(
        recipe=recipe,
        inputs=inputs,
        model=converted.model,
        samples=converted.samples,
        bench=Bench(engines={}, gate=recipe.gate),
        parity=(),
        notes=(),
        boards={},
        before=None,
    )


def identity(work: Work) -> str:
    return build_digest(work, work.inputs.profiles[0])


def test_the_same_build_has_the_same_identity(work: Work) -> None:
    assert identity(work) == identity(dataclasses.replace(work, notes=("another note",)))


def test_a_metric_whose_code_was_edited_is_another_one(work: Work) -> None:
    before = identity(work)
    assert work.recipe.gate.function is not None
    work.recipe.gate.function.path.write_text("def gained(outputs, labels):\n    return 2.0\n")
    assert identity(work) != before


def test_data_prepared_otherwise_are_other_data(work: Work) -> None:
    table = {"processing": {"classes": {"output": "scores"}}}
    recipe = dataclasses.replace(work.recipe, processing=take_preparation(Fields(table, "edgepack.toml")))
    assert identity(dataclasses.replace(work, recipe=recipe)) != identity(work)


def test_data_read_otherwise_are_other_data(work: Work) -> None:
    recipe = dataclasses.replace(work.recipe, reading=Reading(label_column="kind"))
    assert identity(dataclasses.replace(work, recipe=recipe)) != identity(work)


def test_classes_in_another_order_are_other_labels(work: Work) -> None:
    one, other = (dataclasses.replace(work.inputs, labels=labels) for labels in (("cat", "dog"), ("dog", "cat")))
    assert identity(dataclasses.replace(work, inputs=one)) != identity(dataclasses.replace(work, inputs=other))


def test_a_network_whose_code_was_edited_is_another_one(work: Work, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("WIDTH = 8\n")
    recipe = dataclasses.replace(work.recipe, module=UserModule(path=tmp_path / "net.py", entry="Net"))
    work = dataclasses.replace(work, recipe=recipe)
    before = identity(work)
    (tmp_path / "net.py").write_text("WIDTH = 9\n")
    assert identity(work) != before
