"""What an emulated userland is made of, before anything is downloaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.errors import ToolchainError
from edgepack.profiles import list_profiles, load_profile
from edgepack.userland import EMULATED, cpu_model, ensure_userland, is_native, userland


def wheels(arch: str, engine: str, version: str) -> set[str]:
    lines = userland(arch, engine, version).requirements.splitlines()
    return {line.partition("==")[0] for line in lines if not line.startswith(" ")}


def test_a_64_bit_board_gets_all_wheels_of_the_engines_lock_file():
    found = wheels("aarch64", "ai-edge-litert", "2.3.0")
    assert found == {"ai-edge-litert", "cffi", "cryptography", "numpy", "pycparser"}


def test_a_32_bit_board_gets_from_debian_what_has_no_wheel():
    assert wheels("armv7l", "tflite-runtime", "2.14.0") == {"cryptography", "tflite-runtime"}


def test_every_wheel_is_pinned_with_its_hash():
    where = userland("armv7l", "tflite-runtime", "2.14.0")
    blocks = where.requirements.split("\n\n")[0].count("==")
    assert where.hashed
    assert where.requirements.count("--hash=sha256:") >= blocks


def test_every_shipped_arm_profile_has_a_processor_to_emulate():
    arm = [p for p in list_profiles() if p.hardware.arch in EMULATED]
    assert arm
    assert all(cpu_model(p.hardware)[0] != "max" for p in arm)


def test_a_processor_that_qemu_has_is_taken_and_said_to_be_that_one():
    assert cpu_model(load_profile("raspberry-pi-4").hardware) == ("cortex-a72", 0xD08, True)


def test_of_unlike_cores_the_lesser_is_emulated():
    hardware = replace(load_profile("raspberry-pi-4").hardware, cpu="Cortex-A76 + Cortex-A55")
    assert cpu_model(hardware) == ("cortex-a53", 0xD03, False)


def test_a_processor_nobody_knows_is_emulated_as_the_least():
    hardware = replace(load_profile("raspberry-pi-3").hardware, cpu="Something new")
    assert cpu_model(hardware) == ("cortex-a7", 0xC07, False)


def test_this_machines_architecture_is_no_emulated_one_and_another_is_refused():
    with pytest.raises(ToolchainError, match=r"x86_64 cannot be emulated; aarch64, armv7l can"):
        userland("x86_64", "ai-edge-litert", "2.3.0")


def test_without_the_emulator_the_way_to_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"--emulate needs qemu-arm, which is not on the PATH") as caught:
        ensure_userland(userland("armv7l", "tflite-runtime", "2.14.0"), offline=False, say=print)
    assert caught.value.hint == "on Debian and Ubuntu: apt-get install qemu-user"


def test_offline_a_missing_userland_is_refused(monkeypatch, tmp_path):
    program = tmp_path / "qemu-arm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ToolchainError, match=r"armv7l userland is not installed, and --offline"):
        ensure_userland(userland("armv7l", "tflite-runtime", "2.14.0"), offline=True, say=print)


def test_an_architecture_is_native_only_where_its_programs_run_by_themselves():
    assert [is_native(arch) for arch in ("x86_64", "sparc")] in ([True, False], [False, False])
