"""The command that builds every model of a list: what it makes of a list's words, and how formats are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tools.convert_all import distance, read_list, samples

LIST = Path(__file__).parents[3] / "tools" / "real_models.toml"


def test_the_list_that_is_shipped_can_be_read() -> None:
    entries = read_list(LIST, Path("models"))
    assert len({entry.name for entry in entries}) == len(entries)
    assert all(entry.path.is_relative_to("models") for entry in entries)


def test_the_table_that_is_shipped_has_every_model_of_the_list() -> None:
    text = (LIST.parents[1] / "docs" / "models-tried.md").read_text("utf-8").partition("One network")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")][1:]
    entries = read_list(LIST, Path("models"))
    assert [row[1] for row in rows] == [entry.name for entry in entries]
    assert [row[6].startswith("refused") for row in rows] == [bool(entry.refused) for entry in entries]


def test_samples_are_made_as_the_list_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(20), y=np.arange(4))
    making = {"data": tmp_path / "d.npz", "labels": "y", "values": 16, "shape": [-1, 2, 2, 1], "enlarge": 2}
    array, labels = samples({**making, "repeat": 3, "multiply": 0.5, "add": -1})
    assert (array.shape, array.dtype) == ((4, 4, 4, 3), np.float32)
    assert (array[0, 0, 2, 0], array[1, 0, 0, 2]) == (-0.5, 1.0)
    assert labels is not None


def test_rows_are_drawn_where_there_is_no_data() -> None:
    array, labels = samples({"random": 400, "mean": [0.0, 100.0], "deviation": [1.0, 10.0]})
    assert (array.shape, array.dtype, labels) == ((400, 2), np.float32, None)
    assert array.mean(axis=0) == pytest.approx([0, 100], abs=2)
    assert array.std(axis=0) == pytest.approx([1, 10], rel=0.1)


def test_code_of_a_state_dict_is_looked_for_in_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "l.toml").write_text(
        '[[model]]\nname = "n"\npath = "n.pth"\nmodule = "a/m.py:Net"\nrandom = 1\nmean = [0]\ndeviation = [1]\n'
    )
    (entry,) = read_list(tmp_path / "l.toml", Path("models"))
    assert entry.options == ("--module", "models/a/m.py:Net")


def test_whole_numbers_are_rounded_and_clipped(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([-300.0, 0.6, 300.0]))
    assert samples({"data": tmp_path / "d.npz", "dtype": "int8"})[0].tolist() == [-128, 1, 127]


def test_formats_are_compared_whatever_they_call_their_outputs() -> None:
    first, second = np.array([[0.0, 1.0]]), np.array([[5.0, 7.0]])
    apart = distance({"a": first, "b": second}, {"y": second + 0.5, "x": first})
    assert apart == pytest.approx(0.25)


@pytest.mark.parametrize("other", [{}, {"a": np.zeros((1, 3))}, {"a": np.zeros((1, 2)), "b": np.zeros((1, 2))}])
def test_other_outputs_are_no_agreement(other: dict[str, np.ndarray]) -> None:
    assert distance({"a": np.array([[0.0, 1.0]])}, other) == float("inf")
