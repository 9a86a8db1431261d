"""Data from a user's own function: made in a child process, checked as a file's are, and told by two digests."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgepack.errors import DatasetError, RecipeError
from edgepack.owndata import load_made
from edgepack.reading import DataFunction

GOOD = """
import numpy as np

def load():
    return {"image": np.ones((3, 2), np.float32), "y": np.arange(3, dtype=">u2")}
"""


@pytest.fixture
def made(tmp_path):
    def made(text: str, entry: str = "load", given=None):
        path = tmp_path / "mine.py"
        path.write_text(text)
        return load_made(DataFunction(path=path, entry=entry, given=given), "calibration")

    return made


def returning(expression: str) -> str:
    return f"import numpy as np\n\ndef load():\n    return {expression}\n"


def test_what_it_gives_are_samples_and_labels(made):
    found = made(GOOD)
    assert np.array_equal(found.feeds["image"], np.ones((3, 2), np.float32))
    assert (list(found.feeds), found.labels.tolist(), found.labels.dtype) == (["image"], [0, 1, 2], np.int64)


def test_one_array_is_the_one_input(made):
    assert list(made(returning("np.ones((3, 2))")).feeds) == ["x"]


def test_it_may_read_what_is_named_and_nothing_else(made, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.bin").write_bytes(bytes(range(8)))
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    text = "import numpy as np\n\ndef load(path):\n    return np.fromfile(path / '{}', np.uint8)[None]\n"
    assert made(text.format("a.bin"), given=clips).feeds["x"].tolist() == [list(range(8))]
    with pytest.raises(DatasetError, match=r"fails: PermissionError.*\(mine\.py, line 4\)") as caught:
        made(text.format("../secret.bin"), given=clips)
    assert "FILE.py:FUNCTION:PATH" in caught.value.hint


def test_it_has_no_network(made):
    text = "import socket\n\ndef load():\n    socket.create_connection(('192.0.2.1', 80), 1)\n"
    with pytest.raises(DatasetError, match=r"calibration data .*mine\.py:load fails: (OSError|PermissionError)"):
        made(text)


def test_the_digests_of_the_file_and_of_the_data_are_told(made):
    found = made(GOOD)
    (note,) = found.notes
    assert f"mine.py:load, SHA-256 {hashlib.sha256(GOOD.encode()).hexdigest()}" in note
    assert found.digest in note


def test_other_data_are_another_digest(made):
    texts = [
        GOOD,
        GOOD.replace("ones", "zeros"),
        GOOD.replace("image", "other"),
        GOOD.replace("(3, 2)", "(3, 1, 2)"),
        GOOD.replace("float32", "int32"),
        GOOD.replace("arange(3", "arange(1, 4"),
    ]
    assert len({made(text).digest for text in texts}) == len(texts)


def test_the_same_data_by_other_code_are_the_same(made):
    assert made(GOOD).digest == made(GOOD + "\n# a comment\n").digest


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("None", "gives NoneType, wanted a numpy array, or a dict"),
        ("[1, 2]", "gives list, wanted a numpy array, or a dict"),
        ("{'x': [1, 2]}", "gives dict, wanted a numpy array, or a dict"),
        ("{1: np.ones(3)}", "gives dict, wanted a numpy array, or a dict"),
        ("{}", "no input array in it"),
        ("np.array(['a'])", "array 'x' has dtype <U1"),
        ("np.array([{}])", "array 'x' has dtype object"),
        ("np.full((2, 2), np.nan)", "array 'x' holds NaN"),
        ("np.ones((0, 2))", "array 'x' holds no sample"),
        ("{'x': np.ones(3), 'y': np.ones(2)}", "the arrays count different numbers of samples: x 3, labels 2"),
        ("{'x': np.ones(3), 'y': np.array([1, np.inf, 0])}", "the labels hold NaN or infinity"),
        ("1 / 0", r"fails: ZeroDivisionError: division by zero \(mine\.py, line 4\)"),
        ("exit()", "fails: (SystemExit|NameError)"),
    ],
)
def test_what_is_no_data_is_refused(made, expression, complaint):
    with pytest.raises(DatasetError, match=rf"^calibration data .*mine\.py:load:? {complaint}"):
        made(returning(expression))


def test_a_function_that_is_not_there_names_those_that_are(made):
    with pytest.raises(RecipeError, match=r"there is no function 'lead'; mine\.py defines load"):
        made(GOOD, entry="lead")


def test_a_function_that_kills_its_process_is_a_message(made):
    with pytest.raises(DatasetError, match="owndata"):
        made("import os\n\ndef load():\n    os.abort()\n")
