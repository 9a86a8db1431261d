"""The digest that is signed is that of the file that was converted: one that changes meanwhile is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tinymodels import feeds, tiny

from edgepack.conversion import convert_source
from edgepack.errors import SourceModelError
from edgepack.inputs import read_inputs
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter


class _Meddler(Reporter):
    """Appends to a file once its conversion has begun, as a training job does that still writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        yield
        if text.startswith("converting "):
            with self.path.open("ab") as file:
                file.write(b"\0")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    (tmp_path / "m.tflite").write_bytes(tiny("matmul"))
    np.savez(tmp_path / "x.npz", **feeds("matmul", 3))
    return Recipe(
        model=tmp_path / "m.tflite",
        calibration=tmp_path / "x.npz",
        profiles=("raspberry-pi-4",),
        output=tmp_path,
        name="m",
    )


def test_a_source_that_changes_while_it_is_converted_is_refused(recipe: Recipe) -> None:
    inputs = read_inputs(recipe, Reporter())
    with pytest.raises(SourceModelError, match=r"m\.tflite: it was changed while it was converted"):
        convert_source(recipe, inputs, offline=True, reporter=_Meddler(recipe.model))


def test_a_source_that_stays_is_converted(recipe: Recipe) -> None:
    inputs = read_inputs(recipe, Reporter())
    converted = convert_source(recipe, inputs, offline=True, reporter=Reporter())
    assert converted.model.history[0].input_digest == inputs.source.digest
