"""Builds for microcontrollers, in the real interpreter of TensorFlow Lite Micro and by the real vela."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack._toml import MAX_TOML_BYTES
from edgepack.errors import PassError
from edgepack.flatbuffer import read_model
from edgepack.micro_profile import Micro, find_micro
from edgepack.statement import STATEMENT_FILE
from edgepack.tflm import TflmRequest, TflmResult
from edgepack.toolchain import ensure, locate
from edgepack.vela import VelaRequest, VelaResult
from edgepack.worker import Workplace, run_task
from edgepack_runtime.errors import EngineError

pytestmark = pytest.mark.slow
MODEL = Path(__file__).parent.parent / "data" / "tiny" / "digits.tflite"
NANO, NPU = "arduino-nano-33-ble-sense", "corstone-300-ethos-u55"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "calibration.npz"
    np.savez(path, image=np.random.default_rng(0).random((40, 8, 8, 1)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def bench() -> Workplace:
    return Workplace(python=ensure(locate("tflite-micro"), offline=False, say=print))


@pytest.fixture(scope="module")
def compiler() -> Workplace:
    return Workplace(python=ensure(locate("ethos-u-vela"), offline=False, say=print))


@pytest.fixture(scope="module")
def built(shop, calibration, bench, compiler):
    """One build for a microcontroller and an NPU."""
    done = shop.run(
        "build", MODEL, "--calibration", calibration, "--profile", NANO, "--profile", NPU, "--json",
        "-o", "micro", "--name", "digits",
    )  # fmt: skip
    assert done.code == 0, done.err
    return {item["profile"]: item for item in done.json()["microcontrollers"]}


def own(name: str, folder: Path, called: str, **changes: object) -> Path:
    """Return the file of a profile with other members of its budget or its NPU."""
    base = find_micro(name)
    assert base is not None
    table = json.loads(json.dumps(base.to_json())) | {"name": called, "aliases": []}
    for path, value in changes.items():
        part, _, member = path.partition("__")
        table[part][member] = value
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for section, inner in table.items():
        if isinstance(inner, dict) and section != "sources":
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in inner.items())]
    for figure, source in table["sources"].items():
        lines += [f'[sources."{figure}"]', f'kind = "{source["kind"]}"', f"text = {json.dumps(source['text'][:200])}"]
    path = folder / f"{called}.toml"
    path.write_text("\n".join(lines))
    assert path.stat().st_size < MAX_TOML_BYTES
    return path


def arena_of(item: dict) -> int:
    return int(next(e["value"] for e in item["evidence"] if e["check"] == "arena"))


def model_of(built, shop) -> bytes:
    return (shop.folder / built[NANO]["folder"] / "model.tflite").read_bytes()


def request(built, shop, arena_bytes: int) -> TflmRequest:
    model = model_of(built, shop)
    profile = find_micro(NANO)
    assert isinstance(profile, Micro)
    return TflmRequest(
        model=model,
        version=profile.engine_version,
        arena_bytes=arena_bytes,
        inputs=("image",),
        outputs=("logits", "scores"),
        feeds={"image": np.random.default_rng(1).integers(-128, 127, (3, 1, 8, 8, 1)).astype(np.int8)},
    )


def test_a_model_runs_in_exactly_the_arena_it_was_found_to_need(built, shop, bench):
    needed = arena_of(built[NANO])
    result = run_task("edgepack.tflm:replay", request(built, shop, needed), TflmResult, bench)
    assert result.arena_bytes == needed


def test_a_model_does_not_run_in_an_arena_one_byte_shorter(built, shop, bench):
    needed = arena_of(built[NANO])
    with pytest.raises(EngineError, match=rf"in an arena of {needed - 1:,} bytes"):
        run_task("edgepack.tflm:replay", request(built, shop, needed - 1), TflmResult, bench)


# Nothing of edgepack in it: what the interpreter itself says of an arena.
BARE = """
import sys
from tflite_micro.python.tflite_micro import runtime
model = open(sys.argv[1], "rb").read()
for size in map(int, sys.argv[2:]):
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=size)
        interpreter.invoke()
        print("runs")
    except RuntimeError:
        print("refused")
"""


def test_the_interpreter_itself_says_the_same_of_that_arena_and_of_one_byte_less(built, shop, bench):
    needed = arena_of(built[NANO])
    model = shop.folder / built[NANO]["folder"] / "model.tflite"
    command = [bench.python, "-c", BARE, model, str(needed), str(needed - 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["runs", "refused"]


def test_a_byte_too_few_of_arena_or_sram_is_refused_and_nothing_is_written(shop, built, calibration, tmp_path):
    used = int(next(e["value"] for e in built[NPU]["evidence"] if e["check"] == "NPU memory"))
    # Vela itself compiles for any memory, and says nothing.
    sram = own(NPU, tmp_path, "little-sram", budget__sram_bytes=used - 1)
    arena = own(NANO, tmp_path, "little-arena", budget__arena_bytes=arena_of(built[NANO]) - 1)
    done = shop.run(
        "build", MODEL, "--calibration", calibration, "--profile", arena, "--profile", sram, "--json",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert (done.code, (tmp_path / "out").exists()) == (1, False)
    found = {row["profile"]: (row["check"], row["found"] + row["wanted"]) for row in done.json()["refusals"]}
    assert (found["little-arena"][0], found["little-sram"][0]) == ("arena", "NPU memory")
    assert f"does not run the model in an arena of {arena_of(built[NANO]) - 1:,} bytes" in found["little-arena"][1]
    assert f"at most {used - 1:,} bytes" in found["little-sram"][1]


def test_integers_are_those_of_the_reference_kernels_to_the_last_bit(built):
    (same,) = [e for e in built[NANO]["evidence"] if e["check"] == "same as the reference kernels"]
    assert same["found"] == "4 samples, largest difference 0 of the range"


def test_integers_go_in_and_come_out(built, shop):
    graph = read_model(model_of(built, shop)).subgraphs[0]
    assert {graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)} == {"int8"}


def test_the_signed_evidence_has_the_digest_of_each_file_beside_it(built, shop):
    for item in built.values():
        done = shop.run("micro", "check", item["folder"], "--json")
        assert done.code == 0, done.err
        files = {row["name"]: row["sha256"] for row in done.json()["files"]}
        folder = shop.folder / item["folder"]
        found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
        del found[STATEMENT_FILE]
        assert files == found


def test_a_second_build_gives_the_same_model_and_the_same_c(built, shop, calibration, tmp_path):
    done = shop.run(
        "build", MODEL, "--calibration", calibration, "--profile", NANO, "-o", tmp_path, "--name", "digits"
    )
    assert done.code == 0, done.err
    for name in ("model.tflite", "digits.c", "digits.h"):
        again = (tmp_path / f"digits-1-{NANO}" / name).read_bytes()
        assert again == (shop.folder / built[NANO]["folder"] / name).read_bytes()


def test_an_npu_gets_a_compiled_model_and_its_figures_are_called_estimates(built, shop):
    item = built[NPU]
    model = read_model((shop.folder / item["folder"] / "model.tflite").read_bytes())
    assert [operator.custom_code for _, operator in model.operators()] == ["ethos-u"]
    verdicts = {e["check"]: e["verdict"] for e in item["evidence"]}
    assert (verdicts["NPU memory"], verdicts["latency (estimated by vela)"]) == ("estimated", "estimated")
    assert verdicts["outputs on the NPU"] == "unknown"


def vela_request(model: bytes, **changes: str) -> VelaRequest:
    npu = find_micro(NPU)
    assert npu is not None
    assert npu.npu is not None
    asked = VelaRequest(
        model=model,
        version=npu.npu.compiler_version,
        accelerator=npu.npu.accelerator,
        system_config=npu.npu.system_config,
        memory_mode=npu.npu.memory_mode,
    )
    return replace(asked, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"system_config": "Nobodys"}, {"memory_mode": "Nobodys"}, {"version": "5.1.0"}, {"accelerator": "ethos-u99"}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_vela_does_not_know_is_refused(built, shop, compiler, changes):
    asked = vela_request(model_of(built, shop), **changes)
    with pytest.raises(PassError, match="ethos-u-vela"):
        run_task("edgepack.vela:compile_model", asked, VelaResult, compiler)


def test_a_file_that_is_no_model_is_refused_by_vela(compiler):
    with pytest.raises(PassError, match="ethos-u-vela"):
        run_task("edgepack.vela:compile_model", vela_request(b"\0" * 64), VelaResult, compiler)


@pytest.mark.parametrize("model", [b"", b"\0" * 64, MODEL.read_bytes()[:4000]], ids=["empty", "zeros", "cut short"])
def test_a_file_that_is_no_model_is_refused_by_the_interpreter(bench, model):
    from edgepack_runtime.errors import EdgepackError

    profile = find_micro(NANO)
    assert profile is not None
    asked = TflmRequest(
        model=model,
        version=profile.engine_version,
        arena_bytes=100_000,
        inputs=("x",),
        outputs=("y",),
        feeds={"x": np.zeros((1, 1, 8, 8, 1), np.float32)},
    )
    with pytest.raises(EdgepackError):
        run_task("edgepack.tflm:replay", asked, TflmResult, bench)


def test_what_is_said_of_bundles_is_refused_for_a_microcontroller(shop, calibration, tmp_path):
    done = shop.run(
        "build", MODEL, "--calibration", calibration, "--profile", NANO, "--compress", "-o", tmp_path / "out"
    )
    assert done.code == 1
    assert "--compress: said of bundles, and a microcontroller gets none" in done.err
