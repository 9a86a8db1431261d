"""A probe's document is a stranger's: it is read strictly, within limits."""

from __future__ import annotations

import copy
import json
import os
import time

import pytest

from edgepack.errors import ProfileError
from edgepack.probed import MAX_PROBE_BYTES, read_probe, read_probe_file
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.probing import probe
from probedocument import MACHINE, as_bytes, document, engine


def test_what_a_device_prints_is_read():
    found = read_probe(as_bytes(probe()), "probe.json")
    assert found.engines[0].models
    assert found.machine.engines == tuple((e.name, e.version) for e in found.engines)


def test_every_field_is_taken_over():
    found = read_probe(as_bytes(document()), "probe.json")
    (one,) = found.engines
    assert (found.runtime, found.created, found.write_bytes_per_second) == ("0.1.0", 1_795_486_089, 20_000_000)
    assert (found.machine.board, found.machine.memory_limit) == (MACHINE["board"], None)
    assert (one.threads[1], one.num_threads, one.process_bytes) == ((2, 0.6), 3, 45_000_000)
    assert one.operators == tuple(engine()["operators"])


def test_a_model_that_gave_no_numbers_has_no_error():
    models = [{"name": "a", "verdict": "wrong", "reason": ""}]
    (found,) = read_probe(as_bytes(document(engine(models=models))), "probe.json").engines
    assert found.models[0].error is None


def changed(path: str, value: object) -> dict:
    """Return a document with another value, or without one if it is None, at a dotted path."""
    made = copy.deepcopy(document())
    *folders, last = path.split(".")
    inner = made
    for name in folders:
        inner = inner[int(name) if name.isdecimal() else name]
    if value is None:
        del inner[last]
    else:
        inner[int(last) if last.isdecimal() else last] = value
    return made


HUGE = 10**400
REFUSED = [
    ("edgepack_probe", 2, "version 2 is not known here"),
    ("edgepack_probe", True, "expected int"),
    ("created", -1, "expected an integer from 0"),
    ("created", 253_402_300_800, "expected an integer from 0"),
    ("created", HUGE, "does not fit|not valid JSON"),
    ("runtime", "0.1\x1b[2J", "printable"),
    ("extra", 1, "unknown field"),
    ("engines", None, "missing"),
    ("engines", [engine()] * 2, "an engine is there twice"),
    ("engines", [engine(f"engine-{i}") for i in range(9)], "more than 8"),
    ("engines", {}, "expected list"),
    ("machine", [], "expected table"),
    ("machine.cores", 0, "expected an integer from 1"),
    ("machine.cores", 4.0, "expected int"),
    ("machine.cpuinfo", "x" * 65_537, "longer than 65536"),
    ("machine.board", 7, "expected text"),
    ("machine.free_where", "here\x07", "printable"),
    ("machine.free_where", "\u202egnp", "printable"),
    ("machine.serial", "x", "unknown field"),
    ("machine.libc", None, "missing"),
    ("write_bytes_per_second", 0, "expected an integer from 1"),
    ("engines.0.name", "AI", "is no name"),
    ("engines.0.version", "../../x", "is no version"),
    ("engines.0.problem", "a\nb", "printable"),
    ("engines.0.operators", [1] * 255, "expected 256 versions"),
    ("engines.0.operators", [32] * 256, "expected 256 versions"),
    ("engines.0.operators", [True] * 256, "expected 256 versions"),
    ("engines.0.operators", [], "there are none, though the engine works"),
    ("engines.0.models.0.name", "a b", "is no name"),
    ("engines.0.models.0.verdict", "good", "is none of right, wrong, fails"),
    ("engines.0.models.0.error", -1.0, "not negative"),
    ("engines.0.models.0.error", None, "missing, though the verdict is right"),
    ("engines.0.models.0.error", "0", "expected float"),
    ("engines.0.models.0.reason", "x" * 1001, "at most 1000"),
    ("engines.0.models", [engine()["models"][0]] * 2, "a model is there twice"),
    ("engines.0.models", [{"name": f"m{i}", "verdict": "fails", "reason": ""} for i in range(257)], "more than 256"),
    ("engines.0.threads", [[1, 1.0, 2]], "expected pairs"),
    ("engines.0.threads", [[1.0, 1.0]], "expected pairs"),
    ("engines.0.threads", [[0, 1.0]], "is none"),
    ("engines.0.threads", [[1, 1.0]] * 65, "more than 64"),
    ("engines.0.num_threads", 0, "expected an integer from 1"),
    ("engines.0.process_bytes", -5, "expected an integer from 0"),
]


@pytest.mark.parametrize(("path", "value", "why"), REFUSED, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_a_field_that_is_wrong_is_refused_by_name(path, value, why):
    with pytest.raises(SchemaError, match=why) as refused:
        read_probe(as_bytes(changed(path, value)), "probe.json")
    assert refused.value.message.startswith("probe.json")
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"edgepack_probe": 1, "edgepack_probe": 1}', b"[" * 100_000,
     b'{"a":' * 20_000, b'{"edgepack_probe": NaN}', b'{"edgepack_probe": 1e999}', b'{"edgepack_probe": "\\ud800"}'],
    ids=lambda data: str(data[:20]),
)  # fmt: skip
def test_what_is_no_document_is_refused(data):
    with pytest.raises(SchemaError, match=r"^probe\.json"):
        read_probe(data, "probe.json")


def test_a_document_that_is_too_long_is_refused_before_it_is_parsed():
    start = time.perf_counter()
    with pytest.raises(SchemaError, match="longer than 1048576 bytes"):
        read_probe(b'{"a": [' + b"1," * MAX_PROBE_BYTES, "probe.json")
    assert time.perf_counter() - start < 1


def test_of_a_file_that_never_ends_only_so_much_is_read(tmp_path):
    path = tmp_path / "probe.json"
    path.touch()
    os.truncate(path, 1 << 38)  # a hole: it takes no room, and more than there is memory
    with pytest.raises(SchemaError, match="longer than"):
        read_probe_file(path)


@pytest.mark.parametrize("name", ["missing.json", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(ProfileError, match=r"no such file|cannot be read"):
        read_probe_file(tmp_path / name)


def test_a_document_without_optional_figures_is_read():
    made = document()
    del made["write_bytes_per_second"]
    made["machine"] |= {"memory_limit": 1 << 30}
    found = read_probe(json.dumps(made).encode(), "probe.json")
    assert (found.write_bytes_per_second, found.machine.memory_limit) == (None, 1 << 30)
