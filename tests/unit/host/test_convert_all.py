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


def test_samples_are_made_as_the_list_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(20), y=np.arange(4))
    making = {"data": tmp_path / "d.npz", "labels": "y", "values": 16, "shape": [-1, 2, 2, 1], "enlarge": 2}
    array, labels = samples({**making, "repeat": 3, "multiply": 0.5, "add": -1})
    assert (array.shape, array.dtype) == ((4, 4, 4, 3), np.float32)
    assert (array[0, 0, 2, 0], array[1, 0, 0, 2]) == (-0.5, 1.0)
    assert labels is not None


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
