"""Profiles of microcontrollers: found by name, read strictly, and never taken for a device's."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from edgepack.errors import ProfileError, RecipeError
from edgepack.micro import micros_of
from edgepack.micro_profile import Micro, find_micro, list_micros
from edgepack.micro_text import micro_schema
from edgepack.profiles import list_profiles, load_profile
from edgepack.toolchain import locate
from edgepack_runtime._fields import Fields, canonical_json
from edgepack_runtime.errors import SchemaError

SHIPPED = list_micros()
NPU: Any = json.loads(canonical_json(next(p for p in SHIPPED if p.npu is not None).to_json()))
MCU: Any = json.loads(canonical_json(next(p for p in SHIPPED if p.npu is None).to_json()))


def read(table: object) -> Micro:
    return Micro.from_fields(Fields(table, "board.toml"))


def put(table: dict[str, Any], value: object, *path: str) -> dict[str, Any]:
    changed = copy.deepcopy(table)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def test_two_microcontrollers_and_an_npu_ship():
    assert sorted(profile.npu is not None for profile in SHIPPED) == [False, False, True]


def test_no_name_is_that_of_a_device_too():
    names = [name for p in (*SHIPPED, *list_profiles()) for name in (p.name, *p.aliases)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda p: p.name)
def test_a_profile_survives_its_own_json(profile):
    assert read(json.loads(canonical_json(profile.to_json()))) == profile


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda p: p.name)
def test_each_tool_that_a_profile_names_has_a_lock_file_of_that_version(profile):
    assert f"\ntflite-micro=={profile.engine_version} " in locate("tflite-micro").requirements
    if profile.npu is not None:
        assert f"\nethos-u-vela=={profile.npu.compiler_version} " in locate("ethos-u-vela").requirements


def test_an_alias_finds_a_profile():
    found = find_micro("nano33ble")
    assert found is not None
    assert found.name == "arduino-nano-33-ble-sense"


def test_a_devices_profile_is_none_of_a_microcontroller(tmp_path):
    from edgepack.profile_text import profile_toml

    path = tmp_path / "pi.toml"
    path.write_text(profile_toml(load_profile("raspberry-pi-4")))
    assert [find_micro(str(path)), find_micro("raspberry-pi-4"), find_micro("./missing.toml")] == [None] * 3


def test_devices_and_microcontrollers_are_not_built_together():
    with pytest.raises(RecipeError, match=r"stm32f746g-disco gets firmware files, raspberry-pi-4 a bundle"):
        micros_of(("stm32f746g-disco", "raspberry-pi-4"))


def test_a_profile_is_not_built_for_twice_by_its_alias():
    with pytest.raises(RecipeError, match="named twice"):
        micros_of(("mps3-an547", "corstone-300-ethos-u55"))


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("target = ")
    with pytest.raises(ProfileError, match="not valid TOML"):
        find_micro(str(tmp_path / "a.toml"))


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda p: p.name)
def test_the_schema_takes_every_shipped_profile(profile):
    assert jsonschema.Draft202012Validator(micro_schema()).is_valid(json.loads(canonical_json(profile.to_json())))


WRONG = {
    "another schema": (MCU, 2, ("schema",), "version 2 is not known"),
    "another target": (MCU, "gpu", ("target",), "none of mcu, npu"),
    "a name with a slash": (MCU, "a/b", ("name",), "no profile name"),
    "an architecture of devices": (MCU, "aarch64", ("hardware", "arch"), "none of armv6-m"),
    "another engine": (MCU, "tflite-runtime", ("engine", "name"), "none of tflite-micro"),
    "a version with a space": (MCU, "1; x", ("engine", "version"), "expected text such as"),
    "no arena": (MCU, 0, ("budget", "arena_bytes"), "positive"),
    "a latency without an NPU": (MCU, 5.0, ("budget", "latency_ms"), "unknown field"),
    "SRAM without an NPU": (MCU, 5, ("budget", "sram_bytes"), "unknown field"),
    "an unknown scheme": (MCU, ["int4"], ("quantization", "supported"), "none of full_integer"),
    "an unknown accelerator": (NPU, "ethos-u99", ("npu", "accelerator"), "none of ethos-u55-32"),
    "an option for a configuration": (NPU, "--help", ("npu", "system_config"), "expected text such as"),
    "a path for a memory mode": (NPU, "../x", ("npu", "memory_mode"), "expected text such as"),
    "another compiler": (NPU, "tvm", ("npu", "compiler"), "none of ethos-u-vela"),
    "an endless latency": (NPU, float("inf"), ("budget", "latency_ms"), "positive number"),
    "floats on an Ethos-U": (NPU, ["full_integer", "float32"], ("quantization", "supported"), "full_integer alone"),
    "no npu": (NPU, "mcu", ("target",), "unknown field"),
    "a field nobody knows": (MCU, 1, ("hardware", "cores"), "unknown field"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_refused(case):
    table, value, path, why = case
    with pytest.raises(SchemaError, match=why):
        read(put(table, value, *path))


# What must be there with an NPU only, and what fields must be together, the schema cannot say.
TOGETHER = {"a latency without an NPU", "SRAM without an NPU", "floats on an Ethos-U", "no npu", "an endless latency"}


@pytest.mark.parametrize("case", [WRONG[name] for name in WRONG if name not in TOGETHER])
def test_the_schema_refuses_what_the_reader_refuses(case):
    table, value, path, _ = case
    assert not jsonschema.Draft202012Validator(micro_schema()).is_valid(put(table, value, *path))


@pytest.mark.parametrize("field", ["arena_bytes", "flash_bytes"])
def test_a_budget_beyond_what_is_built_in_is_refused(field):
    with pytest.raises(SchemaError, match=rf"budget\.{field}: .* is more than the"):
        read(put(MCU, 1 << 40, "budget", field))


@pytest.mark.parametrize("figure", [*NPU["sources"]])
def test_a_figure_without_a_source_is_refused(figure):
    table = copy.deepcopy(NPU)
    del table["sources"][figure]
    with pytest.raises(SchemaError, match=rf"no source is given for {figure}"):
        read(table)


def test_a_latency_needs_a_source():
    with pytest.raises(SchemaError, match=r"no source is given for budget\.latency_ms"):
        read(put(NPU, 5, "budget", "latency_ms"))
