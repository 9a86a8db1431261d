"""A profile made of a probe: what was tried is measured, and only what worked is supported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgepack.cli.app import app
from edgepack.errors import ProfileError
from edgepack.probe_import import ImportedProfile, default_name, profile_of_probe
from edgepack.probed import read_probe
from edgepack.profile_check import ERROR, check_profile
from edgepack.profiles import load_profile
from edgepack_runtime.errors import EdgepackError, SchemaError
from edgepack_runtime.probing import probe
from probedocument import as_bytes, document, engine, tried

RIGHT = {"verdict": "right", "error": 0.001}
WRONG = {"verdict": "wrong", "error": 0.92}
FAILS = {"verdict": "fails", "reason": "was ended by SIGSEGV"}


def imported(*engines, name="my-board", chosen=None, **machine) -> ImportedProfile:
    return profile_of_probe(read_probe(as_bytes(document(*engines, **machine)), "probe.json"), name, chosen)


def sources(made: ImportedProfile) -> dict[str, tuple[str, str]]:
    return {path: (source.kind, source.text) for path, source in made.profile.sources}


def test_a_board_where_everything_works_gives_a_profile_that_passes_its_check():
    made = imported()
    assert [finding for finding in check_profile(made.profile) if finding.severity == ERROR] == []
    assert made.profile.hardware.board == "Raspberry Pi 4 Model B Rev 1.5"
    assert made.profile.quantization == (
        "full_integer", "dynamic_range", "float16", "float32", "int16x8", "weight_only_int8", "weight_only_int4",
        "dynamic_int4", "dynamic_int2",
    )  # fmt: skip
    assert made.notes == ()


def test_what_was_tried_is_measured_and_budgets_are_assumed():
    kinds = {path: kind for path, (kind, _) in sources(imported()).items()}
    assumed = {path for path, kind in kinds.items() if kind == "assumed"}
    assert assumed == {"budget.ram_bytes", "budget.storage_bytes"}


def test_each_source_says_when_and_by_what():
    assert all("by edgepack-device probe on 2026-11-24" in text for _, text in sources(imported()).values())


def test_the_threads_are_those_the_sweep_found_best():
    made = imported()
    assert made.profile.engine.num_threads == 3
    assert "0.45 with 3" in sources(made)["engine.num_threads"][1]


def test_the_ram_budget_is_a_half_of_what_is_available():
    made = imported()
    assert made.profile.budget.ram_bytes == 3_000_000 * 512
    assert "45,000,000 bytes" in sources(made)["budget.ram_bytes"][1]


def test_a_scheme_that_computes_wrong_numbers_is_known_wrong_and_not_supported():
    made = imported(engine(models=tried({"float16/plain/CONV_2D": WRONG})))
    assert "float16" not in made.profile.quantization
    assert [(w.scheme, w.reason, w.source.kind) for w in made.profile.known_wrong] == [
        ("float16", "CONV_2D is off by 92.0%", "measured")
    ]
    assert made.notes == ("not supported: float16: CONV_2D is off by 92.0%",)


def test_a_scheme_that_gives_no_numbers_is_known_wrong():
    made = imported(engine(models=tried({"full_integer": {"verdict": "wrong"}})))
    assert made.profile.known_wrong[0].reason == "CONV_2D gives no numbers; FULLY_CONNECTED gives no numbers"


def test_a_scheme_that_fails_is_not_supported_and_not_called_wrong():
    made = imported(engine(models=tried({"dynamic_range/per_channel/FULLY": FAILS})))
    assert "dynamic_range" not in made.profile.quantization
    assert made.profile.known_wrong == ()
    assert "FULLY_CONNECTED fails (was ended by SIGSEGV)" in made.notes[0]


def test_a_scheme_that_was_not_tried_is_not_supported():
    models = [m for m in engine()["models"] if not m["name"].startswith("full_integer")]
    assert "full_integer" not in imported(engine(models=models)).profile.quantization


def test_dynamic_range_is_judged_by_the_layout_that_is_built_for_the_engine():
    # A scale a channel is wrong in dense layers of tflite-runtime, and edgepack does not build it so for that engine.
    old = engine("tflite-runtime", "2.14.0", models=tried({"dynamic_range/per_channel": FAILS,
                 "dynamic_range/per_channel/unstamped": WRONG}))  # fmt: skip
    assert "dynamic_range" not in imported(old).profile.quantization
    old["models"] = tried({"dynamic_range/per_channel/FULLY": FAILS, "dynamic_range/per_channel/unstamped": WRONG})
    assert "dynamic_range" in imported(old).profile.quantization
    new = engine(models=tried({"dynamic_range/per_channel/FULLY": WRONG}))
    assert "dynamic_range" not in imported(new).profile.quantization


def test_a_board_where_nothing_is_right_has_no_profile():
    with pytest.raises(
        ProfileError, match=r"ai-edge-litert 2\.3\.0 computes no scheme right there: full_integer: CONV_2D is"
    ):
        imported(engine(models=tried({"": WRONG})))


def test_the_engine_that_works_is_taken_and_the_other_is_told():
    broken = engine(problem="cannot be imported", operators=[], models=[])
    made = imported(broken, engine("tflite-runtime", "2.14.0"))
    assert made.profile.engine.name == "tflite-runtime"
    assert made.notes == ("ai-edge-litert 2.3.0 does not work there: cannot be imported",)


def test_of_two_engines_the_named_one_is_taken():
    both = engine(), engine("tflite-runtime", "2.14.0")
    assert imported(*both).profile.engine.name == "ai-edge-litert"
    assert imported(*both, chosen="tflite-runtime").profile.engine.name == "tflite-runtime"


def test_an_engine_that_was_not_probed_is_refused():
    with pytest.raises(ProfileError, match="tflite-runtime was not probed; there are ai-edge-litert"):
        imported(chosen="tflite-runtime")


def test_a_board_without_a_working_engine_is_refused_with_the_reason():
    with pytest.raises(ProfileError, match="no engine works there: ai-edge-litert: was ended by SIGILL"):
        imported(engine(problem="was ended by SIGILL", operators=[], models=[]))


def test_operators_other_than_the_wheels_are_refused_and_named():
    built = engine()
    built["operators"][3] += 1
    with pytest.raises(ProfileError, match=r"has other operators than its wheel: CONV_2D v9 instead of v8"):
        imported(built)


def test_an_engine_version_without_a_table_is_a_note_that_says_how_to_add_it():
    made = imported(engine(version="1.0.99"))
    assert "python -m tools.runtime_ops ai-edge-litert==1.0.99" in made.notes[0]


@pytest.mark.parametrize(
    ("board", "compatible", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.5\0", "", "raspberry-pi-4-model-b-rev-1-5"),
        ("", "x,y\0brcm,bcm2711\0", "brcm-bcm2711"),
        ("\x1b[2J../", "", "2j"),
        ("", "", "probed-aarch64"),
        ("local", "", "probed-aarch64"),
        ("-" * 50 + "ä", "", "probed-aarch64"),
    ],
)
def test_a_profile_is_called_as_its_board_calls_itself(board, compatible, name):
    found = read_probe(as_bytes(document(board=board, compatible=compatible)), "probe.json")
    assert default_name(found) == name
    assert profile_of_probe(found, name).profile.name == name


@pytest.mark.parametrize(("name", "error"), [("local", ProfileError), ("A b", SchemaError), ("", SchemaError)])
def test_a_name_that_is_none_is_refused(name, error):
    with pytest.raises(error):
        imported(name=name)


@pytest.mark.parametrize(
    "machine",
    [{"machine": "riscv64"}, {"libc": "musl"}, {"meminfo": ""}, {"python": "2.7"}, {"cores": 2},
     {"free_where": "x" * 999}, {"machine": "armv7l", "pointer_bits": 32}],
    ids=str,
)  # fmt: skip
def test_a_machine_that_makes_no_profile_is_refused(machine):
    with pytest.raises(EdgepackError):
        imported(**machine)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> tuple[Path, str]:
    """Return the folder in which the probe of this very machine was imported, and what was printed."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "probe.json").write_text(json.dumps(probe()))
    done = CliRunner().invoke(
        app, ["profiles", "import", str(folder / "probe.json"), "--name", "here", "-o", str(folder)]
    )
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_the_command_writes_a_profile_of_this_machine_that_passes_its_check(here):
    folder, said = here
    profile = load_profile(folder / "here.toml")
    assert (profile.name, profile.quantization != ()) == ("here", True)
    assert [finding for finding in check_profile(profile) if finding.severity == ERROR] == []
    assert f"{folder / 'here.toml'}: written" in said


def test_the_command_overwrites_nothing(here):
    folder, _ = here
    before = (folder / "here.toml").read_bytes()
    done = CliRunner().invoke(
        app, ["profiles", "import", str(folder / "probe.json"), "--name", "here", "-o", str(folder)]
    )
    assert done.exit_code == 1
    assert "exists" in str(done.exception)
    assert (folder / "here.toml").read_bytes() == before
