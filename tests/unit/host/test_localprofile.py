"""The machine at hand as a profile; other machines by the files they were seen to have."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgepack.localprofile import local_profile, profile_of
from edgepack_runtime import engines
from edgepack_runtime.errors import EdgepackError, EngineError
from edgepack_runtime.probe import Machine

PI4_CORE = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
PI4 = Machine(
    machine="aarch64",
    pointer_bits=64,
    cpuinfo="\n".join(PI4_CORE.format(n=n) for n in range(4))
    + "\nRevision\t: d03115\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n",
    meminfo="MemTotal:        3884276 kB\nMemFree:          100000 kB\nMemAvailable:    3000000 kB\n",
    memory_limit=None,
    cores=4,
    free_bytes=10_000_000_000,
    free_where="the home folder",
    os="Debian GNU/Linux 12 (bookworm)",
    libc="glibc 2.36",
    python="3.11",
    board="Raspberry Pi 4 Model B Rev 1.5\0",
    compatible="raspberrypi,4-model-b\0brcm,bcm2711\0",
    engines=(("ai-edge-litert", "2.3.0"), ("tflite-runtime", "2.14.0")),
)


def machine(**changes: object) -> Machine:
    return dataclasses.replace(PI4, **changes)  # type: ignore[arg-type]


def test_this_machine_is_the_profile_local():
    profile = local_profile()
    assert profile.name == "local"
    assert profile.hardware.cores == len(os.sched_getaffinity(0)) == profile.engine.num_threads
    assert (profile.engine.name, profile.engine.version) in engines.installed()
    assert 0 < profile.budget.ram_bytes < profile.hardware.ram_bytes
    assert profile.hardware.cpu_features


def test_nothing_of_the_users_folders_is_in_the_profile():
    assert str(Path.home()) not in str(local_profile().to_json())


def test_every_figure_is_measured_or_assumed_and_says_how():
    sources = local_profile().sources
    assert {source.kind for _, source in sources} == {"measured", "assumed"}
    assert all(len(source.text) > 10 for _, source in sources)


def test_a_raspberry_pi_4_is_recognised():
    hardware = profile_of(PI4).hardware
    assert hardware.board == "Raspberry Pi 4 Model B Rev 1.5"
    assert (hardware.soc, hardware.arch, hardware.cpu) == ("brcm,bcm2711", "aarch64", "Cortex-A72")
    assert hardware.cpu_features == ("fp", "asimd", "evtstrm", "crc32", "cpuid")
    assert hardware.ram_bytes == 3884276 * 1024


def test_the_budgets_are_a_half_of_what_is_available_and_of_what_is_free():
    budget = profile_of(PI4).budget
    assert (budget.ram_bytes, budget.storage_bytes) == (3000000 * 512, 5_000_000_000)


def test_a_containers_memory_limit_holds_the_figures_down():
    profile = profile_of(machine(memory_limit=1 << 28))
    assert (profile.hardware.ram_bytes, profile.budget.ram_bytes) == (1 << 28, 1 << 27)
    assert "control group" in dict(profile.sources)["budget.ram_bytes"].text


def test_a_full_disk_still_makes_a_profile():
    assert profile_of(machine(free_bytes=0)).budget.storage_bytes == 1


@pytest.mark.parametrize(
    ("name", "bits", "arch"),
    [
        ("aarch64", 64, "aarch64"),
        ("arm64", 64, "aarch64"),
        ("AMD64", 64, "x86_64"),
        ("x86_64", 64, "x86_64"),
        ("armv7l", 32, "armv7l"),
        ("armv8l", 32, "armv7l"),
        ("aarch64", 32, "armv7l"),
    ],
)
def test_the_architecture_is_the_one_wheels_are_made_for(name: str, bits: int, arch: str):
    found = profile_of(machine(machine=name, pointer_bits=bits, engines=(("tflite-runtime", "2.14.0"),)))
    assert found.hardware.arch == arch


@pytest.mark.parametrize(("name", "bits"), [("armv6l", 32), ("riscv64", 64), ("i686", 32), ("x86_64", 32), ("", 64)])
def test_an_architecture_without_engine_is_refused(name: str, bits: int):
    with pytest.raises(EdgepackError, match=f"with a {bits}-bit Python, expected one of aarch64, armv7l, x86_64"):
        profile_of(machine(machine=name, pointer_bits=bits))


def test_litert_is_preferred_where_both_engines_are_installed():
    assert profile_of(PI4).engine.name == "ai-edge-litert"


def test_tflite_runtime_serves_alone():
    assert profile_of(machine(engines=(("tflite-runtime", "2.14.0"),))).engine.version == "2.14.0"


def test_no_engine_is_an_error_with_the_pip_commands():
    with pytest.raises(EngineError, match="none of ai-edge-litert, tflite-runtime is installed") as refused:
        profile_of(machine(engines=()))
    assert "pip install ai-edge-litert" in str(refused.value.hint)
    assert "'numpy<2'" in str(refused.value.hint)


def test_float_comes_first_where_the_engine_has_no_fast_int8():
    found = profile_of(machine(machine="x86_64", engines=(("tflite-runtime", "2.14.0"),)))
    assert found.quantization[:4] == ("float32", "float16", "dynamic_range", "full_integer")


def test_full_integer_comes_first_elsewhere():
    assert profile_of(PI4).quantization[0] == "full_integer"


def test_only_flags_that_every_core_has_are_taken():
    little = PI4_CORE.format(n=4).replace(" crc32", "").replace("0xd08", "0xd03")
    hardware = profile_of(machine(cpuinfo=f"{PI4.cpuinfo}\n{little}")).hardware
    assert hardware.cpu_features == ("fp", "asimd", "evtstrm", "cpuid")
    assert hardware.cpu == "Cortex-A72 + Cortex-A53"


def test_an_x86_processor_goes_by_its_model_name():
    core = "processor\t: 0\nmodel name\t: Intel(R) N100\nflags\t\t: fpu sse avx2\n"
    hardware = profile_of(machine(machine="x86_64", cpuinfo=core * 2)).hardware
    assert (hardware.cpu, hardware.cpu_features) == ("Intel(R) N100", ("fpu", "sse", "avx2"))


def test_an_unknown_processor_is_said_to_be_unknown():
    hardware = profile_of(machine(cpuinfo="processor : 0\n", board="", compatible="")).hardware
    assert (hardware.cpu, hardware.board, hardware.soc) == ("unknown", "unknown", "unknown")


def test_an_arm_part_nobody_listed_is_given_by_number():
    found = profile_of(machine(cpuinfo=PI4.cpuinfo.replace("0xd08", "0xfff")))
    assert found.hardware.cpu == "Arm part 0xfff"


def test_another_libc_is_refused():
    with pytest.raises(EdgepackError, match="linked with 'unknown', expected glibc"):
        profile_of(machine(libc=""))


def test_a_kernel_without_available_memory_is_refused():
    with pytest.raises(EdgepackError, match="no MemAvailable"):
        profile_of(machine(meminfo="MemTotal: 1 kB\n"))


def test_a_figure_too_long_for_memory_is_refused():
    with pytest.raises(EdgepackError, match="no MemTotal"):
        profile_of(machine(meminfo=f"MemTotal: {'9' * 5000} kB\nMemAvailable: 1 kB\n"))


def test_control_characters_in_a_boards_name_are_left_out():
    assert profile_of(machine(board="Evil\x1b[2J board\n")).hardware.board == "Evil[2J board"
