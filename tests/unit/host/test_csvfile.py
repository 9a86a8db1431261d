"""CSV files as data: what a header may say, and that nothing in a cell is guessed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgepack.csvfile import load_csv
from edgepack.dataset import Dataset, bind_feeds
from edgepack.errors import DatasetError, RecipeError
from edgepack.reading import Reading
from edgepack_runtime.tensors import TensorSpec

IRIS = "sepal,petal,y\n5.1,0.2,0\n4.9,-3e-1,2\n.5,+7,1\n"


@pytest.fixture
def read(tmp_path):
    def of(text: str | bytes, *labels: str, what: str = "evaluation", **reading: str) -> Dataset:
        path = tmp_path / "iris.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_csv(path, what, Reading(**reading), labels)

    return of


def test_the_columns_are_the_features_of_the_one_input_in_their_order(read):
    spec = TensorSpec(name="features", dtype="float32", shape=(1, 2))
    found = bind_feeds(read(IRIS).feeds, (spec,), "data")["features"]
    assert np.array_equal(found, np.array([[[5.1, 0.2]], [[4.9, -0.3]], [[0.5, 7]]], np.float32))


def test_labels_are_class_numbers_of_their_own(read):
    labels = read(IRIS).labels
    assert (labels.tolist(), labels.dtype) == ([0, 2, 1], np.int64)


def test_the_digest_is_the_files(read):
    assert read(IRIS).digest == hashlib.sha256(IRIS.encode()).hexdigest()


def test_labels_may_be_the_names_of_classes(read):
    text = "sepal,kind\n1,rose\n2,lily\n3,rose\n"
    assert read(text, "lily", "rose", label_column="kind").labels.tolist() == [1, 0, 1]


def test_classes_that_are_called_by_numbers_are_names(read):
    assert read("sepal,y\n1,3\n2,7\n", "7", "3").labels.tolist() == [1, 0]


def test_labels_that_are_values_stay_what_they_are(read):
    assert read("sepal,y\n1,0.5\n2,3\n").labels.tolist() == [0.5, 3.0]


def test_several_inputs_are_named_by_their_columns_in_any_order(read):
    found = read("mask[0],image[1],image[0],y[0],y[1]\n9,2,1,0.5,1\n8,4,3,0,0\n")
    assert {name: array.tolist() for name, array in found.feeds.items()} == {
        "mask": [[9], [8]],
        "image": [[1, 2], [3, 4]],
    }
    assert found.labels.tolist() == [[0.5, 1], [0, 0]]


@pytest.mark.parametrize("own", ["", "kind"])
def test_labels_may_be_of_one_output(read, own):
    title = own or "y"
    found = read(f"a,{title}.box[1],{title}.box[0],{title}.class\n1,2,3,0\n4,5,6,1\n", label_column=own)
    assert list(found.feeds) == ["x"]
    assert {name: array.tolist() for name, array in found.labels.items()} == {
        "box": [[3, 2], [6, 5]],
        "class": [0, 1],
    }


def test_whole_numbers_are_exact_where_the_dtype_is_one(read):
    found = read(f"a,b\n{2**63 - 1},{-(2**63)}\n", csv_dtype="int64").feeds["x"]
    assert (found.tolist(), found.dtype) == ([[2**63 - 1, -(2**63)]], np.int64)


def test_columns_get_the_shape_that_is_declared_row_by_row(read):
    assert read("a,b,c,d,y\n1,2,3,4,0\n5,6,7,8,1\n", csv_shape="1,2,2").feeds["x"].tolist() == [
        [[[1, 2], [3, 4]]],
        [[[5, 6], [7, 8]]],
    ]


@pytest.mark.parametrize(
    ("header", "found"), [("a,b,c", "3 columns of features"), ("m[0],i[0],i[1]", "columns of several inputs")]
)
def test_another_number_of_columns_than_the_shape_has_places_is_refused(read, header, found):
    with pytest.raises(DatasetError, match=rf"csv_shape 2,2 for {found}, wanted 4"):
        read(f"{header}\n1,2,3\n", csv_shape="2,2")


@pytest.mark.parametrize("shape", ["28x28", "28,", "0,4", "-1,4", "28, 28", "1234567", "٣,4"])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(RecipeError, match=r"data\.csv_shape .* is no shape of a sample, such as 28,28"):
        Reading(csv_shape=shape)


def test_what_other_programs_write_is_read(read):
    text = b'\xef\xbb\xbf"sepal","petal, wide",y\r\n"5.1", 0.2 ,0\r\n\r\n'
    assert read(text).feeds["x"].tolist() == [[np.float32(5.1), np.float32(0.2)]]


def test_calibration_data_need_no_labels(read):
    assert read("sepal\n1\n", what="calibration", label_column="kind").labels is None


def test_evaluation_data_without_the_column_of_labels_are_refused(read):
    with pytest.raises(DatasetError, match=r"iris\.csv: no column 'kind' for the labels"):
        read("sepal\n1\n", label_column="kind")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r": 0 columns, expected 1"),
        ("a,y\n", r": array 'x' holds no sample"),
        ("y\n1\n", r": no input array in it"),
        ("a,,y\n1,2,0\n", r", line 1, column 2: '' is no name of a column"),
        ("5.1,0.2\n4.9,0.3\n", r", line 1, column 1: '5.1' is no name of a column"),
        ("a,b,a\n1,2,3\n", r", line 1: two columns are called 'a'"),
        ("a;b;y\n1;2;0\n", r", line 1: one column 'a;b;y'"),
        ("a,b\n1,2\n1,2,3\n", r", line 3: 3 cells, the header has 2"),
        ("a,b\n1,2\n1\n", r", line 3: 1 cells, the header has 2"),
        ("a,b\n1,2\n\n3,4\n", r", line 3: an empty line between others"),
        ("a,b\n1,2\n3,\n", r", line 3, column 'b': an empty cell"),
        ("a,b\n1,nan\n", r", line 2, column 'b': 'nan' is no number"),
        ("a,b\n-inf,1\n", r", line 2, column 'a': '-inf' is no number"),
        ('a,b\n"1,5",1\n', r", line 2, column 'a': '1,5' is no number"),
        ("a,b\n1_000,1\n", r", line 2, column 'a': '1_000' is no number"),
        ("a,b\n٣,1\n", r", line 2, column 'a': '٣' is no number"),
        ("a,b\nred,1\n", r", line 2, column 'a': 'red' is no number"),
        ("a,b\n1,-4e38\n", r", line 2, column 'b': '-4e38' is too large for float32"),
        ("a,y\n1,\n", r", line 2, column 'y': no label"),
        ("a,y\n1,cat\n", r", line 2, column 'y': 'cat' is no class number"),
        ("a,y\n1,1e39\n", r", line 2, column 'y': '1e39' is no class"),
        ("a,y,label\n1,1,1\n", r": labels stand in y and label; keep one"),
        ("a[0],a[2]\n1,1\n", r": of 'a' there are the columns \[0, 2\], not 0 to 1"),
        ("a[0],b\n1,1\n", r": the column 'a\[0\]' names an input .* 'b' does not"),
        ('a\n"1\n', r", line 2: no CSV"),
        ("a\n1\0\n", r", line 2, column 'a': '1\\x00' is no number"),
        (b"a\n1\n\xff\n", r", line 3: not UTF-8"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_file_line_and_column(read, text, complaint):
    with pytest.raises(DatasetError, match=rf"^evaluation data .*iris\.csv{complaint}"):
        read(text)


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("rise", r"'rise' is none of the labels \(did you mean 'rose'\?\)"),
        ("2", "'2' is no class, there are 2"),
        ("-1", "'-1' is no class, there are 2"),
        ("0.5", "'0.5' is no class, there are 2"),
    ],
)
def test_a_label_that_is_none_is_refused(read, cell, complaint):
    with pytest.raises(DatasetError, match=rf"line 2, column 'y': {complaint}"):
        read(f"a,y\n1,{cell}\n", "lily", "rose")


@pytest.mark.parametrize(("cell", "complaint"), [("1.0", "is no whole number"), ("128", "is too large for int8")])
def test_a_whole_number_that_is_none_is_refused(read, cell, complaint):
    with pytest.raises(DatasetError, match=rf"line 2, column 'a': '{cell}' {complaint}"):
        read(f"a\n{cell}\n", csv_dtype="int8")


def test_an_input_that_is_called_like_the_labels_is_refused(read):
    with pytest.raises(DatasetError, match="an input cannot be called 'y'"):
        read("kind,y[0]\n1,2\n", label_column="kind")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"calibration data .*gone\.csv: .*No such file"):
        load_csv(tmp_path / "gone.csv", "calibration", Reading(), ())


def test_a_dtype_that_is_none_is_refused():
    with pytest.raises(RecipeError, match=r"data\.csv_dtype 'float' is none of float32"):
        Reading(csv_dtype="float")


def test_the_path_is_that_of_the_file(read, tmp_path):
    assert read(IRIS).path == Path(tmp_path / "iris.csv")
