"""The profile schema: what is read, and what is refused with its path."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from edgepack_runtime._fields import Fields, canonical_json
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.profile import SCHEMES, DeviceProfile, Source

FIGURES = (
    "hardware.cores",
    "hardware.cpu_features",
    "hardware.ram_bytes",
    "engine.version",
    "engine.num_threads",
    "budget.ram_bytes",
    "budget.storage_bytes",
    "quantization.supported",
)
TABLE: dict[str, Any] = {
    "schema": 1,
    "name": "bench-board",
    "description": "A board for tests",
    "aliases": ["bb"],
    "hardware": {
        "board": "Bench",
        "soc": "B1",
        "arch": "aarch64",
        "cpu": "Cortex-A53",
        "cores": 4,
        "cpu_features": ["fp", "asimd"],
        "ram_bytes": 1 << 30,
    },
    "software": {"os": "Linux", "libc": "glibc 2.36", "python": "3.11"},
    "engine": {"name": "ai-edge-litert", "version": "2.3.0", "num_threads": 4},
    "budget": {"ram_bytes": 1 << 28, "storage_bytes": 1 << 28, "latency_ms": 12},
    "quantization": {"supported": list(SCHEMES)},
    "sources": {path: {"kind": "assumed", "text": "for a test"} for path in (*FIGURES, "budget.latency_ms")},
}


WHY = {"kind": "published", "text": "its maker says so"}
# What a profile need not have, and the figures of it that need a source.
MORE: dict[tuple[str, ...], tuple[object, tuple[str, ...]]] = {
    ("engine", "also"): (["2.1.0", "2.2.0"], ("engine.also",)),
    ("engine", "delegates"): (
        [{"name": "XNNPACK", "version": "2.3.0"}, {"name": "npu", "version": "1", "library": "libnpu.so.1"}],
        ("engine.delegates",),
    ),
    ("quantization", "known_wrong"): ([{"scheme": "float16", "reason": "overflows", "source": WHY}], ()),
    ("io",): (
        {"input_dtypes": ["int8"], "output_dtypes": ["int8"], "max_input_bytes": 4096, "batch": 1},
        ("io.input_dtypes", "io.output_dtypes", "io.max_input_bytes", "io.batch"),
    ),
}


def with_more() -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    table["quantization"]["supported"].remove("float16")
    for path, (value, figures) in MORE.items():
        inner = table
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = copy.deepcopy(value)
        table["sources"].update(dict.fromkeys(figures, WHY))
    return table


def read(table: object) -> DeviceProfile:
    return DeviceProfile.from_fields(Fields(table, "board.toml"))


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    change(table)
    return table


def put(value: object, *path: str) -> dict[str, Any]:
    def change(table: dict[str, Any]) -> None:
        for step in path[:-1]:
            table = table[step]
        table[path[-1]] = value

    return changed(change)


def test_a_profile_survives_its_own_json():
    profile = read(TABLE)
    assert read(json.loads(canonical_json(profile.to_json()))) == profile


def test_the_digest_changes_with_any_figure():
    assert read(TABLE).digest() != read(put(3, "engine", "num_threads")).digest()


def test_the_digest_does_not_depend_on_the_order_of_the_file():
    assert read(TABLE).digest() == read(dict(reversed(TABLE.items()))).digest()


def test_what_a_profile_need_not_have_survives_its_own_json():
    profile = read(with_more())
    assert read(json.loads(canonical_json(profile.to_json()))) == profile


def test_what_a_profile_does_not_have_is_not_in_its_json():
    table = read(TABLE).to_json()
    assert ("io" in table, set(table["engine"]), set(table["quantization"])) == (  # type: ignore[call-overload]
        False,
        {"name", "version", "num_threads"},
        {"supported"},
    )


def test_the_versions_of_an_engine_begin_with_the_one_that_is_in_the_header():
    assert read(with_more()).engine.versions == ("2.3.0", "2.1.0", "2.2.0")


@pytest.mark.parametrize("figure", [figure for _, figures in MORE.values() for figure in figures])
def test_what_a_profile_need_not_have_needs_a_source_if_it_is_there(figure: str):
    table = with_more()
    del table["sources"][figure]
    with pytest.raises(SchemaError, match=rf"sources: no source is given for {figure}"):
        read(table)


@pytest.mark.parametrize("figure", [figure for _, figures in MORE.values() for figure in figures])
def test_a_source_of_what_is_not_there_is_refused(figure: str):
    with pytest.raises(SchemaError, match=rf"sources: {figure} is no figure"):
        read(put(WHY, "sources", figure))


def test_a_scheme_cannot_be_supported_and_known_to_be_wrong():
    table = with_more()
    table["quantization"]["supported"].append("float16")
    with pytest.raises(SchemaError, match=r"known_wrong: .* none that is supported"):
        read(table)


WRONG_MORE = {
    "the engine's own version again": (["2.3.0"], ("engine", "also"), "2.3.0 is the engine's version already"),
    "a version twice": (["2.1.0", "2.1.0"], ("engine", "also"), "each once"),
    "no other version": ([], ("engine", "also"), "at least one version"),
    "a range": ([">=2.1"], ("engine", "also"), "'2.14.0', got '>=2.1'"),
    "no delegate": ([], ("engine", "delegates"), "at least one"),
    "a delegate twice": ([{"name": "a", "version": "1"}] * 2, ("engine", "delegates"), "each name once"),
    "a path for a library": (
        [{"name": "a", "version": "1", "library": "/tmp/a.so"}],
        ("engine", "delegates"),
        r"delegates\[0\]\.library: expected text such as 'libedgetpu\.so\.1'",
    ),
    "a delegate's unknown field": ([{"name": "a", "version": "1", "path": "a"}], ("engine", "delegates"), "unknown"),
    "nothing known wrong": ([], ("quantization", "known_wrong"), "at least one scheme"),
    "wrong for no reason": (
        [{"scheme": "float16", "source": WHY}],
        ("quantization", "known_wrong"),
        "reason: missing",
    ),
    "wrong by nobody's word": (
        [{"scheme": "float16", "reason": "a"}],
        ("quantization", "known_wrong"),
        "source: miss",
    ),
    "no limit at all": ({}, ("io",), "expected input_dtypes"),
    "an unknown limit": ({"batch": 1, "layout": "nchw"}, ("io",), "layout: unknown field"),
    "an unknown dtype": (["int4"], ("io", "input_dtypes"), "'int4' is none of float32"),
    "no dtype": ([], ("io", "output_dtypes"), "at least one, each once"),
    "no bytes": (0, ("io", "max_input_bytes"), "positive"),
    "a batch of none": (0, ("io", "batch"), "positive"),
}


@pytest.mark.parametrize("case", WRONG_MORE.values(), ids=WRONG_MORE.keys())
def test_what_a_profile_need_not_have_is_read_as_strictly(case: tuple[object, tuple[str, ...], str]):
    value, path, why = case
    table = with_more()
    inner = table
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(SchemaError, match=why) as refused:
        read(table)
    assert str(refused.value).startswith("board.toml." + ".".join(path))


def test_latency_may_be_left_open():
    table = changed(lambda t: (t["budget"].pop("latency_ms"), t["sources"].pop("budget.latency_ms")))
    assert read(table).budget.latency_ms is None


def test_a_whole_number_of_milliseconds_is_a_latency():
    assert read(TABLE).budget.latency_ms == 12.0


def test_sources_are_kept_with_kind_and_text():
    assert dict(read(TABLE).sources)["hardware.cores"] == Source(kind="assumed", text="for a test")


@pytest.mark.parametrize("path", [*FIGURES, "budget.latency_ms"])
def test_a_figure_without_source_is_refused(path: str):
    with pytest.raises(SchemaError, match=rf"board\.toml\.sources: no source is given for {path}"):
        read(changed(lambda t: t["sources"].pop(path)))


def test_a_source_for_no_figure_is_refused():
    with pytest.raises(SchemaError, match=r"hardware\.colour is no figure"):
        read(put({"kind": "assumed", "text": "seen"}, "sources", "hardware.colour"))


def test_a_mistyped_field_is_refused_with_the_near_one():
    with pytest.raises(SchemaError, match=r"engine\.num_treads: unknown field \(did you mean 'num_threads'\?\)"):
        read(put(4, "engine", "num_treads"))


WRONG = {
    "schema": (2, ("schema",), "version 2 is not known"),
    "name with a slash": ("a/b", ("name",), "no profile name"),
    "name too long": ("a" * 32, ("name",), "no profile name"),
    "name with a line break": ("a\n", ("name",), "no profile name"),
    "alias with a space": (["a b"], ("aliases",), "no profile name"),
    "alias twice": (["b", "b"], ("aliases",), "there twice"),
    "alias is the name": (["bench-board"], ("aliases",), "there twice, or is the name"),
    "an escape sequence": ("\x1b[31m", ("description",), "printable"),
    "no description": ("", ("description",), "printable"),
    "two lines": ("a\nb", ("hardware", "board"), "printable"),
    "a control character of Latin-1": ("\x9b31m", ("description",), "printable"),
    "a line separator": ("a\u2028b", ("description",), "printable"),
    "text turned round": ("\u202egnp.exe", ("software", "os"), "printable"),
    "endless text": ("a" * 1001, ("hardware", "cpu"), "printable"),
    "an unknown architecture": ("riscv64", ("hardware", "arch"), "none of aarch64, armv7l, x86_64"),
    "no cores": (0, ("hardware", "cores"), "positive integer"),
    "cores as text": ("4", ("hardware", "cores"), "expected int, got text"),
    "cores as true": (True, ("hardware", "cores"), "expected int, got true/false"),
    "RAM beyond JSON": (2**53, ("hardware", "ram_bytes"), r"below 2\^53"),
    "RAM of 5000 digits": (10**5000, ("hardware", "ram_bytes"), r"below 2\^53"),
    "a flag with a space": (["fp asimd"], ("hardware", "cpu_features"), "no flag"),
    "a flag beyond ASCII": (["fp\u00e9"], ("hardware", "cpu_features"), "no flag"),
    "an endless flag": (["a" * 65], ("hardware", "cpu_features"), "no flag"),
    "an empty flag": ([""], ("hardware", "cpu_features"), "no flag"),
    "libc without a name": ("2.36", ("software", "libc"), "'glibc 2.36', got '2.36'"),
    "Python with a patch level": ("3.11.7", ("software", "python"), "'3.11', got '3.11.7'"),
    "an unknown engine": ("onnxruntime", ("engine", "name"), "none of ai-edge-litert, tflite-runtime"),
    "a version range": (">=2", ("engine", "version"), "'2.14.0', got '>=2'"),
    "more threads than cores": (5, ("engine", "num_threads"), "5 threads on 4 cores"),
    "a budget beyond the RAM": ((1 << 30) + 1, ("budget", "ram_bytes"), "more than the 1073741824 there are"),
    "an endless latency": (float("inf"), ("budget", "latency_ms"), "positive number, got inf"),
    "a latency that is no number": (float("nan"), ("budget", "latency_ms"), "positive number, got nan"),
    "a negative latency": (-1.0, ("budget", "latency_ms"), "positive number, got -1.0"),
    "an unknown scheme": (["int3"], ("quantization", "supported"), "'int3' is none of"),
    "no scheme": ([], ("quantization", "supported"), "at least one"),
    "a scheme twice": (["float32", "float32"], ("quantization", "supported"), "each once"),
    "an unknown kind of source": ("heard", ("sources", "hardware.cores", "kind"), "none of measured"),
    "a source without text": ("", ("sources", "hardware.cores", "text"), "printable"),
    "a list for a table": ([], ("hardware",), "expected table, got list"),
}


@pytest.mark.parametrize("text", ["\u00a0", "\u00ad", "\ue000", "\U0003fffd", "Kamera für Öfen", "カメラ"], ids=ascii)
def test_what_text_may_be_does_not_depend_on_a_version_of_unicode(text: str):
    assert read(put(text, "description")).description == text


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_refused_with_its_path(case: tuple[object, tuple[str, ...], str]):
    value, path, why = case
    with pytest.raises(SchemaError, match=why) as refused:
        read(put(value, *path))
    assert str(refused.value).startswith("board.toml." + ".".join(path))


@pytest.mark.parametrize("section", ["hardware", "software", "engine", "budget", "quantization", "sources"])
def test_a_missing_section_is_refused(section: str):
    with pytest.raises(SchemaError, match=rf"board\.toml\.{section}: missing"):
        read(changed(lambda t: t.pop(section)))


def test_litert_on_32_bit_arm_is_refused_with_the_engine_that_works():
    with pytest.raises(SchemaError, match=r"no ai-edge-litert for armv7l .* use tflite-runtime"):
        read(put("armv7l", "hardware", "arch"))
