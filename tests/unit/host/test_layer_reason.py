"""Reasons that no small model of the other tests shows, from the figures that they would have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepack.layer_error import LayerError
from edgepack.layer_facts import LayerFacts, WeightFacts
from edgepack.layer_match import LayerPair
from edgepack.layer_reason import Surroundings, reason_of
from edgepack.layer_sums import Numbers, Seen, Sums

FINE = WeightFacts(dtype="int8", outlier=6.0, scales=8, channels=8, tiny=0)
INT8 = Numbers(dtype="int8", scale=8 / 255)
FLOAT = Numbers(dtype="float32")


def layer(weights: WeightFacts | None = FINE, inputs: Numbers = INT8) -> LayerError:
    """Return a dense layer of normal values that int8 holds well."""
    values = np.random.default_rng(1).normal(size=(1, 500)).clip(-3.9, 3.9).astype(np.float32)
    sums = Sums(INT8)
    for _ in range(3):
        stored = np.rint(values / INT8.scale).astype(np.int8)
        sums.add(Seen(reference=values, found=stored, own=stored, exact=values, weighed=values))
    return LayerError(
        operator=1,
        kind="FULLY_CONNECTED",
        name="h",
        dtype="int8",
        sqnr=38.0,
        own_sqnr=38.0,
        max_error=0.01,
        own_max_error=0.01,
        saturated=0.0,
        dead=False,
        effect=36.0,
        from_inputs=60.0,
        from_weights=60.0,
        from_rounding=38.0,
        from_engine=120.0,
        pair=LayerPair(operator=1, kind="FULLY_CONNECTED", name="h", output=3, reference=3, twin=1),
        numbers=INT8,
        facts=LayerFacts(
            weights=weights, constant=0.0, readers=(), inputs=(inputs,), sources=(0,), magnifier="", island=(1,)
        ),
        sums=sums.result(),
    )


def by(one: LayerError, part: str) -> LayerError:
    """Return the layer with nearly all of its error from one part."""
    names = ("from_inputs", "from_weights", "from_rounding", "from_engine")
    parts = {name: 100.0 if name == part else 1.0 for name in names}
    return replace(one, sums=replace(one.sums, own=103.0, **parts))


def name_of(one: LayerError) -> str:
    found = reason_of(one, Surroundings(layers=[one]))
    return "" if found is None else found.name


def test_a_layer_that_int8_holds_well_has_no_reason() -> None:
    assert name_of(layer()) == ""


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (replace(layer(), sums=replace(layer().sums, not_finite=3)), "not a number"),
        (by(layer(replace(FINE, outlier=90.0)), "from_weights"), "weight outliers"),
        (by(layer(replace(FINE, scales=1, tiny=5)), "from_weights"), "tiny weight channels"),
        (by(layer(replace(FINE, dtype="int4")), "from_weights"), "few bits"),
        (replace(by(layer(), "from_weights"), from_weights=2.0), "other weights"),
        (by(layer(inputs=FLOAT), "from_inputs"), "input rounded at run time"),
        (by(layer(), "from_engine"), "engine"),
        (replace(layer(), dead=True), "constant output"),
        (replace(layer(), effect=9.0), "sensitive"),
    ],
)
def test_a_fault_is_known_by_its_figures(one: LayerError, reason: str) -> None:
    assert name_of(one) == reason


@pytest.mark.parametrize(
    "one",
    [
        # Each is the fault above, with the error elsewhere.
        by(layer(replace(FINE, outlier=90.0)), "from_rounding"),
        by(layer(replace(FINE, scales=1, tiny=5)), "from_rounding"),
        by(layer(replace(FINE, dtype="int4")), "from_rounding"),
        by(layer(inputs=FLOAT), "from_rounding"),
    ],
)
def test_weights_are_not_blamed_for_an_error_of_another_part(one: LayerError) -> None:
    assert name_of(one) == ""


def test_a_few_values_that_lie_hardly_outside_the_range_are_no_reason() -> None:
    one = layer()
    assert name_of(replace(one, sums=replace(one.sums, outside=5, outside_squares=0.1 * one.sums.own))) == ""


def test_a_logarithm_behind_a_layer_that_does_no_harm_is_no_reason() -> None:
    one = layer()
    assert name_of(replace(one, facts=replace(one.facts, magnifier="LOG"))) == ""
