"""The manifest: every field is there, once, of its type, or a FormatError names it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import realbundle
from edgepack_runtime.errors import FormatError
from edgepack_runtime.manifest import Manifest

MANIFEST = realbundle.manifest(realbundle.model("int8"), realbundle.profile())
TABLE = json.loads(MANIFEST.to_bytes())
# May be left out: a check's figures, a profile's other names, and how a tensor is quantized.
OPTIONAL = {"quantized_dimension", "value", "low", "high", "aliases"}

Path = tuple[str | int, ...]


def at(path: Path, table: object = TABLE) -> object:
    """Return the value of a field."""
    for part in path:
        table = table[part]
    return table


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every field."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from paths(item, (*path, i))


EVERY_FIELD = sorted(paths(TABLE), key=str)
# An item of a list is no field of its own, but may be a table.
TABLES = sorted(
    {path[:i] for path in EVERY_FIELD for i in range(len(path)) if isinstance(at(path[:i]), dict)}, key=str
)


def is_optional(path: Path) -> bool:
    return path[-1] in OPTIONAL or (path[0] == "model" and path[-1] == "quantization")


def shown(path: Path) -> str:
    return "manifest" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def changed(path: Path, *value: object) -> bytes:
    """Return the manifest with a field of another value, or without it."""
    table = copy.deepcopy(TABLE)
    *way, last = path
    inner = table
    for part in way:
        inner = inner[part]
    if value:
        inner[last] = value[0]
    else:
        del inner[last]
    return json.dumps(table).encode()


def test_a_manifest_comes_out_as_it_went_in():
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == MANIFEST


def test_the_text_is_the_same_every_time():
    assert Manifest.from_bytes(MANIFEST.to_bytes()).to_bytes() == MANIFEST.to_bytes()


def test_the_text_is_canonical_whatever_the_order_of_its_fields():
    shuffled = json.dumps(dict(reversed(TABLE.items())), indent=3).encode()
    assert Manifest.from_bytes(shuffled).to_bytes() == MANIFEST.to_bytes()


def test_the_fields_tested_here_are_many():
    assert len(EVERY_FIELD) > 100


@pytest.mark.parametrize("path", [p for p in EVERY_FIELD if not is_optional(p)], ids=shown)
def test_a_missing_field_is_named(path):
    with pytest.raises(FormatError) as caught:
        Manifest.from_bytes(changed(path))
    # A figure without its source and a table of sources are told of by name inside the message.
    assert shown(path) in caught.value.message or path[-1] in caught.value.message


@pytest.mark.parametrize("path", [p for p in EVERY_FIELD if is_optional(p)], ids=shown)
def test_an_optional_field_may_be_missing(path):
    found = json.loads(Manifest.from_bytes(changed(path)).to_bytes())
    # A field with a default is written out again.
    assert found in (json.loads(changed(path)), TABLE)


@pytest.mark.parametrize("wrong", [None, [[]], {"a": {}}, True, "text", 7.5], ids=repr)
@pytest.mark.parametrize("path", EVERY_FIELD, ids=shown)
def test_a_field_of_another_type_is_refused_or_was_of_that_type(path, wrong):
    # A list may be of items of another type than the wrong one's: that is refused at the item.
    same_kind = type(at(path)) is type(wrong)
    refusal = ""
    try:
        Manifest.from_bytes(changed(path, wrong))
    except FormatError as error:
        refusal = error.message
    assert refusal.startswith("manifest") or (same_kind and not refusal)


@pytest.mark.parametrize("path", TABLES, ids=shown)
def test_a_field_nobody_knows_is_refused(path):
    with pytest.raises(FormatError, match=r"surprise"):
        Manifest.from_bytes(changed((*path, "surprise"), 1))


@pytest.mark.parametrize(("field", "value"), [("samples", 1), ("tolerance", 0.0), ("tolerance", 1.0)])
def test_the_golden_limits_themselves_are_allowed(field, value):
    assert getattr(Manifest.from_bytes(changed(("golden", field), value)).golden, field) == value


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("manifest",), 2, r"manifest.manifest: version 2 is not known here"),
        (("model", "scheme"), "int3", r"manifest.model.scheme: 'int3' is none of full_integer"),
        (("evidence", 0, "verdict"), "guessed", r"evidence\[0\].verdict: 'guessed' is none of measured"),
        (("golden", "samples"), 0, r"manifest.golden.samples: expected at least one sample"),
        (("golden", "tolerance"), 1.01, r"a tolerance from 0 to 1"),
        (("golden", "tolerance"), -0.01, r"a tolerance from 0 to 1"),
        (("golden", "tolerance"), 1e308 * 10, r"Infinity is no JSON number"),
        (("golden", "samples"), 2**53, r"does not fit 2\^53"),
        (("model", "inputs", 0, "dtype"), "complex64", r"inputs\[0\].dtype: 'complex64' is none of"),
        (("model", "inputs", 0, "shape"), [1, -2], r"inputs\[0\].shape: expected up to 8 integers >= -1"),
        (("model", "inputs", 0, "shape"), [1] * 9, r"inputs\[0\].shape: expected up to 8"),
        (("labels", 1), 5, r"manifest.labels\[1\]: expected text, got int"),
        (("profile", "schema"), 2, r"manifest.profile.schema: version 2"),
        (("profile", "budget", "ram_bytes"), 0, r"profile.budget.ram_bytes: expected a positive integer"),
    ],
)
def test_a_value_that_cannot_be_is_named(path, value, complaint):
    with pytest.raises(FormatError, match=complaint):
        Manifest.from_bytes(changed(path, value))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", r"not valid JSON"),
        (b"\xff\xfe", r"not valid JSON"),
        (b"null", r"manifest: expected a table, got null"),
        (b"[]", r"manifest: expected a table, got list"),
        (MANIFEST.to_bytes()[:-1], r"not valid JSON"),
        (MANIFEST.to_bytes() + b"{}", r"not valid JSON"),
        (MANIFEST.to_bytes().replace(b'{"', b'{"name":"x","', 1), r"duplicate key in a JSON object"),
        (b'{"manifest":NaN}', r"NaN is no JSON number"),
        (b'{"manifest":-Infinity}', r"-Infinity is no JSON number"),
        (b'{"manifest":' + b"[" * 17 + b"]" * 17 + b"}", r"nested deeper than 16"),
        (b"[" * 100_000, r"not valid JSON|nested"),
        (b'{"a":' * 50_000, r"not valid JSON|nested"),
        (b'{"manifest":' + b"9" * 5000 + b"}", r"not valid JSON|does not fit"),
        (b'{"manifest":1e999}', r"manifest.manifest: a number is too large"),
        (b'{"manifest":"\\ud800"}', r"not valid JSON \(.*surrogates not allowed"),
        (b'{"\\udc00":1}', r"not valid JSON \(.*surrogates not allowed"),
    ],
)
def test_what_is_no_manifest_is_refused(data, complaint):
    with pytest.raises(FormatError, match=complaint):
        Manifest.from_bytes(data)


@given(st.data())
def test_a_flipped_byte_is_refused_or_leaves_a_manifest(data):
    text = bytearray(MANIFEST.to_bytes())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = Manifest.from_bytes(bytes(text))
    except FormatError:
        return
    assert Manifest.from_bytes(found.to_bytes()) == found
