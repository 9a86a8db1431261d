"""Which roads there are, in which order, and what `--via` makes of them."""

from __future__ import annotations

import pytest

from edgepack.errors import RecipeError
from edgepack.roads import ORDER, all_roads, routes


def test_roads_are_tried_in_the_written_order():
    ranks = [ORDER.index(road.name) for road in all_roads()]
    assert ranks == sorted(ranks)


def test_a_named_road_is_the_only_one_taken():
    assert [str(route) for route in routes("onnx", ("onnx2tf",))] == ["onnx2tf"]


def test_every_route_begins_at_the_format_and_ends_in_tflite():
    sources = {name for road in all_roads() for name in road.formats}
    for source in sources:
        for route in routes(source):
            first, *_, last = (*route.roads, route.roads[-1])
            assert (source in first.formats, last.then) == (True, "")


def test_an_unknown_road_is_refused_with_the_nearest_one():
    with pytest.raises(RecipeError, match=r"--via onx2tf: there is no such road \(did you mean onnx2tf\?\)"):
        routes("onnx", ("onx2tf",))


def test_a_road_of_another_format_is_refused_with_those_of_this_one():
    with pytest.raises(RecipeError, match=r"--via onnx2tf: no way from keras") as caught:
        routes("keras", ("onnx2tf",))
    assert caught.value.hint == "roads from keras: tensorflow"
