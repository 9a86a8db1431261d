"""What runs on XNNPACK and what falls back, as it was read off the engines."""

from __future__ import annotations

import dataclasses

import pytest
from tinymodels import LITERT, TFLITE, tiny
from tools.prediction_matrix.models import read_archive

from edgepack.delegates import Delegation, delegation
from edgepack.engine_ops import parse_engine
from edgepack.fit import check_fit
from edgepack.flatbuffer import read_model
from edgepack.profiles import load_profile


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return read_archive()


def on(model: bytes, engine: str, arch: str = "x86_64") -> Delegation:
    return delegation(read_model(model), *parse_engine(engine), arch)


def test_a_float_network_runs_on_xnnpack_as_a_whole(models: dict[str, bytes]) -> None:
    found = on(models["upsample.float32"], TFLITE)
    assert (found.taken, found.operators, found.left, found.verdict) == (4, 4, (), "measured")


def test_int8_falls_back_under_tflite_runtime_and_not_under_litert(models: dict[str, bytes]) -> None:
    old, new = (on(models["mlp.tf_int8"], engine) for engine in (TFLITE, LITERT))
    assert (old.taken, "3 FULLY_CONNECTED on int8 with int8 weights" in old.left) == (0, True)
    assert (new.left, new.taken + len(new.unsure)) == ((), 5)


def test_the_release_in_which_xnnpack_took_int8_matrix_products_is_told(models: dict[str, bytes]) -> None:
    left = [on(models["attention.static8"], f"ai-edge-litert=={v}").left for v in ("1.4.0", "2.1.2", "2.1.6")]
    assert ["2 BATCH_MATMUL on int8" in names for names in left] == [True, False, True]


def test_a_graph_with_an_open_dimension_is_left_alone(models: dict[str, bytes]) -> None:
    found = on(models["open_batch.float32"], LITERT)
    assert (found.taken, found.why) == (0, "it takes no graph with an open dimension")


def test_a_32_bit_board_has_no_xnnpack(models: dict[str, bytes]) -> None:
    assert on(models["conv.float32"], TFLITE, "armv7l").why == "the wheel of tflite-runtime for armv7l has no XNNPACK"


def test_another_architecture_or_version_is_an_estimate(models: dict[str, bytes]) -> None:
    model = models["conv.float32"]
    assert [on(model, LITERT, "aarch64").verdict, on(model, "ai-edge-litert==2.2.5").verdict] == ["estimated"] * 2


def test_an_operator_nobody_tried_is_no_fact(models: dict[str, bytes]) -> None:
    found = on(tiny("digits"), LITERT)
    assert "1 PADV2 on float32" in found.unsure


def test_an_engine_older_than_all_that_were_tried_is_unknown() -> None:
    profile = load_profile("generic-x86-64-linux")
    old = dataclasses.replace(profile, engine=dataclasses.replace(profile.engine, version="0.9.0"))
    (found,) = [f for f in check_fit(tiny("matmul"), old) if f.check == "XNNPACK"]
    assert (found.holds, found.verdict) == (True, "unknown")


def test_falling_back_is_told_and_refuses_nothing(models: dict[str, bytes]) -> None:
    profile = load_profile("raspberry-pi-4-32bit")
    (found,) = [f for f in check_fit(models["mlp.tf_int8"], profile) if f.check == "XNNPACK"]
    assert (found.holds, found.found) == (True, "none: the wheel of tflite-runtime for armv7l has no XNNPACK")
