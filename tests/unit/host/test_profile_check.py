"""What `edgepack profiles check` and `diff` find, without any device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.micro_profile import list_micros
from edgepack.profile_check import ERROR, check_micro, check_profile, profile_differences, profile_rows
from edgepack.profiles import list_profiles, load_profile
from edgepack_runtime.profile import Delegate, KnownWrong, Source

PI4, PI3 = load_profile("raspberry-pi-4"), load_profile("raspberry-pi-3")


def errors(profile):
    return [f for f in check_profile(profile) if f.severity == ERROR]


def with_software(profile, **changes):
    return replace(profile, software=replace(profile.software, **changes))


def with_engine(profile, version, name=None):
    return replace(profile, engine=replace(profile.engine, name=name or profile.engine.name, version=version))


@pytest.mark.parametrize("profile", list_profiles(), ids=lambda p: p.name)
def test_on_every_shipped_board_its_engine_runs(profile):
    assert errors(profile) == []


def test_a_libc_older_than_the_wheels_is_an_error_with_the_newest_engine_for_it():
    (found,) = errors(with_software(PI3, libc="glibc 2.31", python="3.9"))
    assert (found.field, "needs glibc 2.34" in found.text) == ("software.libc", True)
    assert found.remedy == "the newest tflite-runtime for glibc 2.31 is 2.13.0"


def test_another_libc_is_an_error():
    (found,) = errors(with_software(PI4, libc="musl 1.2"))
    assert (found.field, found.remedy) == ("software.libc", "a system with glibc")


def test_a_python_without_a_wheel_is_an_error_that_names_those_with_one():
    (found,) = errors(with_software(PI3, python="3.12"))
    assert found.text == "Python 3.12, and tflite-runtime 2.14.0 has wheels for 3.8, 3.9, 3.10, 3.11"


def test_a_version_without_a_wheel_is_an_error_with_the_newest_that_has_one():
    (found,) = errors(with_engine(PI3, "2.17.0"))
    assert (found.field, found.remedy) == ("engine.version", "the newest with one is 2.14.0")


def test_an_engine_whose_operators_were_not_probed_is_a_note():
    found = [f for f in check_profile(with_engine(PI4, "2.13.0", "tflite-runtime")) if f.field == "engine.version"]
    assert [f.severity for f in found] == ["note"]


def test_a_budget_of_most_of_the_ram_is_a_note():
    greedy = replace(PI4, budget=replace(PI4.budget, ram_bytes=PI4.hardware.ram_bytes))
    assert [f.severity for f in check_profile(greedy) if f.field == "budget.ram_bytes"] == ["note"]


def test_what_is_assumed_is_told():
    (found,) = [f for f in check_profile(PI4) if f.field == "sources"]
    assert "budget.ram_bytes" in found.text


def test_a_profile_does_not_differ_from_itself():
    assert profile_differences(PI4, PI4) == ()


def test_each_field_that_differs_is_told_with_both_values():
    other = replace(PI4, hardware=replace(PI4.hardware, cores=2), budget=replace(PI4.budget, latency_ms=40.0))
    found = {d.field: (d.first, d.second) for d in profile_differences(PI4, other)}
    assert found == {"hardware.cores": ("4", "2"), "budget.latency_ms": ("", "40.0")}


def test_each_further_version_of_the_engine_needs_a_wheel():
    (found,) = errors(replace(PI4, engine=replace(PI4.engine, also=("2.2.0", "9.9.9"))))
    assert (found.field, found.text.split(" that")[0]) == (
        "engine.also",
        "ai-edge-litert 9.9.9 has no wheel for aarch64",
    )


def test_a_difference_in_what_is_known_wrong_is_told_with_its_reason():
    wrong = KnownWrong(scheme="float16", reason="overflows", source=Source(kind="measured", text="seen"))
    (found,) = profile_differences(PI4, replace(PI4, known_wrong=(wrong,)))
    assert (found.field, found.second) == ("quantization.known_wrong", "float16: overflows (measured: seen)")


def test_delegates_and_known_faults_are_shown_in_words_each_with_its_source():
    delegates = (
        Delegate(name="xnnpack", version="2.3"),
        Delegate(name="edgetpu", version="16.0", library="libedgetpu.so.1"),
    )
    wrong = KnownWrong(scheme="int16x8", reason="overflows", source=Source(kind="measured", text="on the board"))
    said = (*PI4.sources, ("engine.delegates", Source(kind="published", text="its manual")))
    engine = replace(PI4.engine, delegates=delegates)
    rows = profile_rows(replace(PI4, engine=engine, known_wrong=(wrong,), sources=said))
    assert [row for row in rows if row[0] in ("engine.delegates", "quantization.known_wrong")] == [
        ("engine.delegates", "xnnpack 2.3, built into the engine", "published: its manual"),
        ("engine.delegates", "edgetpu 16.0, the library libedgetpu.so.1", "published: its manual"),
        ("quantization.known_wrong", "int16x8: overflows", "measured: on the board"),
    ]


@pytest.mark.parametrize("profile", [*list_profiles(), *list_micros()], ids=lambda p: p.name)
def test_nothing_of_a_shipped_profile_is_shown_as_a_program_has_it(profile):
    rows = profile_rows(profile)
    assert [row for row in rows if any(sign in row[1] for sign in ("{", "[", "'", "None"))] == []
    assert len(rows) > 10


@pytest.mark.parametrize("profile", list_micros(), ids=lambda p: p.name)
def test_of_every_shipped_microcontroller_only_notes_are_found(profile):
    assert {finding.severity for finding in check_micro(profile)} == {"note"}


def test_a_tool_of_which_there_is_no_lock_file_is_an_error():
    npu = next(profile for profile in list_micros() if profile.npu is not None)
    other = replace(npu, engine_version="1.0", npu=replace(npu.npu, compiler_version="5.1.0"))
    assert [f.field for f in check_micro(other) if f.severity == ERROR] == ["engine.version", "npu.compiler_version"]
