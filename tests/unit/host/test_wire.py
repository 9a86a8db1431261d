"""What crosses the process boundary comes out as it went in, or is refused."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack._wire import Message, decode, encode, read_message, write_message
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.tensors import DTYPES, Array, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    text: str
    number: int
    real: float
    flag: bool
    path: Path
    maybe: str | None
    inner: Inner
    items: tuple[Inner, ...]
    names: tuple[str, ...]
    arrays: Mapping[str, Array]
    spec: TensorSpec


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INNERS = st.builds(Inner, name=TEXTS, data=st.binary(max_size=20))
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
OUTERS = st.builds(
    Outer,
    text=TEXTS,
    number=st.integers(-(2**53) + 1, 2**53 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    path=st.just(Path("/a/b c")),
    maybe=st.none() | TEXTS,
    inner=INNERS,
    items=st.lists(INNERS, max_size=2).map(tuple),
    names=st.lists(TEXTS, max_size=3).map(tuple),
    arrays=st.dictionaries(TEXTS, ARRAYS, max_size=2),
    spec=st.just(TensorSpec(name="x", dtype="int8", shape=(1, -1))),
)


def sample(**changes: object) -> Message:
    """Return the message of an `Outer`, its table changed."""
    outer = Outer(
        text="t",
        number=1,
        real=0.5,
        flag=True,
        path=Path("p"),
        maybe=None,
        inner=Inner(name="i", data=b"1234"),
        items=(),
        names=("n",),
        arrays={"a": np.zeros((1, 2), np.int16)},
        spec=TensorSpec(name="x", dtype="int8", shape=(1,)),
    )
    message = encode(outer)
    return Message(message.value | changes, message.blobs)


def through_a_stream(message: Message) -> Message:
    stream = io.BytesIO()
    write_message(stream, message)
    stream.seek(0)
    return read_message(stream)


@given(OUTERS)
def test_everything_comes_out_as_it_went_in(outer):
    found = decode(Outer, through_a_stream(encode(outer)))
    for name in ("text", "number", "real", "flag", "path", "maybe", "inner", "items", "names", "spec"):
        assert getattr(found, name) == getattr(outer, name)
    assert list(found.arrays) == list(outer.arrays)
    for name, array in outer.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_an_array_that_is_not_contiguous_comes_out_the_same():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    message = encode({"a": array})
    np.testing.assert_array_equal(decode(Mapping[str, Array], through_a_stream(message))["a"], array)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, np.float32(1), lambda: 1])
def test_what_cannot_be_sent_is_a_programming_error(value):
    with pytest.raises(TypeError, match=r"cannot be sent to another process"):
        encode((value,))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.floats(allow_nan=False, width=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(sample().value)), JSON)
def test_a_field_of_any_json_is_refused_or_of_its_type(field, value):
    kinds = {
        "text": str, "number": int, "real": float, "flag": bool, "path": Path, "maybe": str | None, "inner": Inner,
        "items": tuple, "names": tuple, "arrays": dict, "spec": TensorSpec,
    }  # fmt: skip
    try:
        found = decode(Outer, sample(**{field: value}))
    except SchemaError:
        return
    assert isinstance(getattr(found, field), kinds[field])


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("text", 5, "message.text: expected str, got int"),
        ("number", True, "message.number: expected int, got bool"),
        ("number", 1.0, "message.number: expected int, got float"),
        ("real", True, "message.real: expected float, got bool"),
        ("flag", 1, "message.flag: expected bool, got int"),
        ("path", ["/etc"], "message.path: expected text, got list"),
        ("maybe", 5, "message.maybe: expected str, got int"),
        ("inner", [], "message.inner: expected a Inner, got list"),
        ("inner", {"name": "x"}, r"message.inner: a Inner has the fields \['name', 'data'\], got \['name'\]"),
        ("inner", {"name": "x", "data": {"blob": 0}, "__class__": "x"}, "message.inner: a Inner has the fields"),
        ("inner", {"name": "x", "data": "text"}, "message.inner.data: expected bytes, got str"),
        ("inner", {"name": "x", "data": {"blob": 9}}, "message.inner.data: blob 9 of 2"),
        ("inner", {"name": "x", "data": {"blob": -1}}, "message.inner.data: blob -1 of 2"),
        ("items", {"0": 1}, "message.items: expected a list, got dict"),
        ("names", ["a", 5], r"message.names\[1\]: expected str, got int"),
        ("arrays", {"a": 1}, "message.arrays: expected a mapping, got dict"),
        ("arrays", [["a"]], "message.arrays: expected a mapping, got list"),
        ("arrays", [[5, {"blob": 0}]], "message.arrays: expected a mapping"),
        ("arrays", [["a", {"blob": 0}]], "message.arrays.a: an array of dtype None"),
        ("arrays", [["a", {"blob": 1, "dtype": "object", "shape": [2]}]], "an array of dtype 'object'"),
        ("arrays", [["a", {"blob": 1, "dtype": "<f4", "shape": [1]}]], "an array of dtype '<f4'"),
        ("arrays", [["a", {"blob": 1, "dtype": ["int8"], "shape": [4]}]], "an array of dtype"),
        ("arrays", [["a", {"blob": 1, "dtype": "int16", "shape": [3]}]], "4 bytes are no int16"),
        ("arrays", [["a", {"blob": 1, "dtype": "int16", "shape": [-1]}]], "an array of dtype 'int16' and shape"),
        ("arrays", [["a", {"blob": 1, "dtype": "int16", "shape": [0, 2**52, 2**52]}]], "4 bytes are no int16"),
        ("arrays", [["a", {"blob": 1, "dtype": "int16", "shape": [1] * 99}]], "4 bytes are no int16"),
        ("arrays", [["a", {"blob": 1, "dtype": "int16", "shape": [2]}]] * 2, "message.arrays: a key is there twice"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(field, value, complaint):
    with pytest.raises(SchemaError, match=complaint):
        decode(Outer, sample(**{field: value}))


def test_a_missing_field_is_refused():
    value = dict(sample().value)
    del value["flag"]
    with pytest.raises(SchemaError, match=r"an? Outer has the fields"):
        decode(Outer, Message(value, ()))


def test_a_real_number_may_be_sent_as_an_integer():
    assert decode(Outer, sample(real=2)).real == 2.0


@given(st.binary(max_size=80))
def test_no_bytes_do_anything_but_become_a_message_or_a_schema_error(data):
    try:
        assert isinstance(read_message(io.BytesIO(data)), Message)
    except SchemaError:
        return


@given(st.data())
def test_a_frame_cut_or_changed_anywhere_is_a_message_or_a_schema_error(data):
    stream = io.BytesIO()
    write_message(stream, sample())
    frame = bytearray(stream.getvalue())
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(Outer, read_message(io.BytesIO(frame[: data.draw(st.integers(0, len(frame)))])))
    except SchemaError:
        return


@pytest.mark.parametrize("cut", [0, 3, 15, 16, 40, -1])
def test_a_frame_that_ends_early_says_so(cut):
    stream = io.BytesIO()
    write_message(stream, sample())
    with pytest.raises(SchemaError, match=r"message: ended after \d+ of \d+ bytes"):
        read_message(io.BytesIO(stream.getvalue()[:cut]))


def test_a_blob_longer_than_memory_is_refused():
    stream = io.BytesIO()
    write_message(stream, Message({}, (b"x",)))
    frame = stream.getvalue().replace((1).to_bytes(8, "little") + b"x", b"\xff" * 8 + b"x")
    with pytest.raises(SchemaError, match=r"ended after 1 of"):
        read_message(io.BytesIO(frame))


def test_frames_follow_each_other_on_a_pipe():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb") as sink:
        write_message(sink, Message("one", (b"1",)))
        write_message(sink, Message("two", ()))
        assert [read_message(source).value for _ in range(2)] == ["one", "two"]
