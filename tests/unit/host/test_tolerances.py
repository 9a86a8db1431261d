"""How far an emulated board may be off: nothing where XNNPACK computes integers, a share of the range elsewhere."""

from __future__ import annotations

import pytest
from tools.prediction_matrix.models import read_archive

from edgepack.profiles import load_profile
from edgepack.tolerances import REPEATED, SIGNED, on_another_processor


@pytest.mark.parametrize("model", ["conv.static8", "mlp.tf_int8", "upsample.edgepack_full_integer_tflite"])
def test_integers_on_xnnpack_are_the_same_on_every_processor(model: str) -> None:
    found = on_another_processor(read_archive()[model], load_profile("raspberry-pi-4"), SIGNED["full_integer"])
    assert found == REPEATED


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("attention.static8", "raspberry-pi-4"),
        ("mlp.tf_int8", "raspberry-pi-3"),
        ("mlp.float32", "raspberry-pi-4"),
        ("mlp.tf_dynamic", "raspberry-pi-4"),
    ],
    ids=["operators that fall back", "an engine whose int8 is its own", "floats", "floats on int8 weights"],
)
def test_elsewhere_the_signed_share_of_the_range_holds(model: str, profile: str) -> None:
    assert on_another_processor(read_archive()[model], load_profile(profile), 0.03) == 0.03
