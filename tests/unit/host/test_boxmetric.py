"""Average precision of boxes: pycocotools' numbers, a gate that worse detectors do not pass, labels checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boxcases import boxed, pictures

from edgepack.boxmetric import OVERLAPS, BoxPair, matches, overlaps
from edgepack.candidate import judged_outputs
from edgepack.detector import Detector, boxes_found, boxes_there
from edgepack.drop import measure_drop
from edgepack.errors import DatasetError, RecipeError
from edgepack.gate import Gate, Verdict
from edgepack.preparation import take_preparation
from edgepack.recipe import Recipe
from edgepack_runtime._fields import Fields

# What pycocotools 2.0.11 gives for `boxcases.pictures(seed)`: AP@[.5:.95] and AP@.5; where some are drawn, picture i
# counts i modulo 3 times.
COCO = {
    (0, False): (0.2446408926606946, 0.5614490020430615),
    (1, True): (0.2387537680394952, 0.43296447914603925),
    (2, False): (0.19265872601752929, 0.47428786098071507),
    (3, True): (0.23285451969566703, 0.5716504423551598),
    (4, False): (0.1810826494737386, 0.45294801458167794),
    (5, True): (0.2071316195001938, 0.4948901194341528),
}


@pytest.mark.parametrize(("seed", "drawn"), COCO)
def test_the_average_precision_is_that_of_pycocotools(seed, drawn):
    found, there = pictures(seed)
    weights = np.array([[float(i % 3) if drawn else 1.0 for i in range(len(there))]])
    values = [BoxPair.of((found, found), there, least).scores(weights)[0][0] for least in (OVERLAPS, OVERLAPS[:1])]
    assert values == pytest.approx(COCO[seed, drawn], abs=1e-12)


def test_a_class_that_a_drawing_has_none_of_does_not_count_there():
    there = [boxed([(0, 1.0, 0, 0, 0.5, 0.5)]), boxed([(1, 1.0, 0, 0, 0.5, 0.5)])]
    found = [there[0], boxed([])]
    pair = BoxPair.of((found, found), there, OVERLAPS)
    assert pair.scores(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))[0] == pytest.approx([0.5, 1.0, 0.0])


def test_each_class_is_told():
    found, there = pictures(0)
    kinds, source, candidate = zip(*BoxPair.of((found, there), there, OVERLAPS).per_class(), strict=True)
    assert (kinds, candidate) == ((0, 1, 2), pytest.approx((1.0, 1.0, 1.0)))
    assert np.mean(source) == pytest.approx(COCO[0, False][0])


def test_a_box_takes_the_one_it_overlaps_most_of_those_still_free():
    shares = np.array([[0.9, 0.6], [0.8, 0.55], [0.7, 0.0]])
    assert matches(shares, (0.5, 0.6)).tolist() == [[True, True, False], [True, False, False]]


def test_boxes_without_an_area_overlap_nothing():
    point = np.array([[0.5, 0.5, 0.5, 0.5]])
    assert overlaps(point, point).tolist() == [[0.0]]


def test_the_stake_is_what_the_worst_picture_costs():
    there = [boxed([(0, 1.0, 0, 0, 0.5, 0.5)]) for _ in range(10)]
    assert BoxPair.of((there, there), there, OVERLAPS).stake == pytest.approx(1 - 0.9 * 0.9)


# The gate

BOXES = {"boxes": "box", "scores": "score", "classes": "class", "count": "count", "order": "yxyx", "suppress": "none"}


def declared(size: tuple[int, int] = (1, 1), **changes: object) -> Detector:
    table = {"image": {"size": list(size)}, "boxes": BOXES | changes}
    preparation = take_preparation(Fields({"processing": table}, "edgepack.toml"))
    return Detector(boxes=preparation.declared.boxes, size=size)


def outputs(found) -> dict[str, np.ndarray]:
    """Return boxes as TFLite_Detection_PostProcess gives them, twelve a picture."""
    count = len(found)
    made = {
        "box": np.zeros((count, 12, 4), np.float32),
        "class": np.zeros((count, 12), np.float32),
        "score": np.zeros((count, 12), np.float32),
        "count": np.array([len(one.kinds) for one in found], np.float32),
    }
    for i, one in enumerate(found):
        made["box"][i, : len(one.kinds)] = one.corners[:, [1, 0, 3, 2]]
        made["class"][i, : len(one.kinds)], made["score"][i, : len(one.kinds)] = one.kinds, one.scores
    return made


def labels(there) -> np.ndarray:
    made = np.full((len(there), 6, 5), -1.0)
    for i, one in enumerate(there):
        made[i, : len(one.kinds)] = np.concatenate([one.kinds[:, None], one.corners], axis=1)
    return made


_, THERE = pictures(7, count=120)
PERFECT = [replace(one, scores=np.linspace(1, 0.5, len(one.kinds))) for one in THERE]


def judge(candidate, gate: Gate, right) -> tuple:
    return measure_drop(gate.with_detector(declared()), outputs(PERFECT), outputs(candidate), right)


def test_a_detector_that_finds_less_is_refused():
    missing = [boxed([]) if i % 4 == 0 else one for i, one in enumerate(PERFECT)]
    (drop,) = judge(missing, Gate(metric="map", max_drop=0.05), labels(THERE))
    assert (drop.source.value, drop.verdict, drop.labelled) == (pytest.approx(1.0), Verdict.WORSE, True)
    assert drop.drop.low < 0.25 < drop.drop.high
    assert len(drop.classes) == 3


def test_a_detector_that_finds_the_same_passes_and_only_with_enough_pictures():
    gate = Gate(metric="map50", max_drop=0.2)
    (drop,) = judge(PERFECT, gate, labels(THERE))
    assert (drop.drop.value, drop.verdict) == (0.0, Verdict.HOLDS)
    few = (outputs(PERFECT[:20]), outputs(PERFECT[:20]), labels(THERE[:20]))
    assert measure_drop(gate.with_detector(declared()), *few)[0].verdict is Verdict.UNCLEAR


def test_without_labels_what_the_source_finds_is_there():
    (drop,) = judge(PERFECT, Gate(metric="map", max_drop=0.1), None)
    assert (drop.source.value, drop.labelled) == (pytest.approx(1.0), False)


def test_all_outputs_of_the_boxes_are_judged_by_it():
    drops = judge(PERFECT, Gate(metric="map"), labels(THERE))
    assert judged_outputs(drops, Gate(metric="map")) >= {"box", "score", "class", "count"}


def test_boxes_are_found_by_what_is_declared():
    found = boxes_found(declared(threshold=0.0), outputs(PERFECT))
    assert [one.kinds.tolist() for one in found] == [one.kinds.tolist() for one in PERFECT]
    assert all(np.allclose(one.corners, other.corners, atol=1e-6) for one, other in zip(found, PERFECT, strict=True))
    strong = boxes_found(declared(threshold=0.6), outputs(PERFECT))
    assert sum(len(one.kinds) for one in strong) == sum(int((one.scores >= 0.6).sum()) for one in PERFECT)


def test_labels_in_pixels_are_those_of_the_models_picture():
    rows = np.array([[[2, 30, 10, 60, 20], [-1, 0, 0, 0, 0]]])
    (found,) = boxes_there(declared((100, 300), unit="pixels"), rows)
    assert (found.kinds.tolist(), found.corners.tolist()) == ([2], [[0.1, 0.1, 0.2, 0.2]])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([[0, 1]], r"labels of shape \[1, 2\] are no boxes, expected \[n, boxes, 5\]"),
        ([[[0.5, 0, 0, 1, 1]]], "a class is no whole number from 0 on"),
        ([[[-2, 0, 0, 1, 1]]], "a class is no whole number from 0 on"),
        ([[[0, 0.5, 0, 0.4, 1]]], "one ends before it begins"),
        ([[[0, 10, 20, 200, 300]]], "reach from 10 to 300 times the picture"),
        ([[[-1, 0, 0, 0, 0]]], "map cannot be told: there is no box in any picture"),
    ],
)
def test_labels_that_are_no_boxes_are_refused(rows, complaint):
    one = outputs(PERFECT[:1])
    with pytest.raises(DatasetError, match=complaint):
        measure_drop(Gate(metric="map").with_detector(declared()), one, one, np.array(rows, np.float64))


def test_boxes_that_are_not_those_of_the_model_are_refused():
    with pytest.raises(DatasetError, match=r"metric of boxes: .*'boxes'"):
        boxes_found(declared(boxes="boxes"), outputs(PERFECT))


def recipe(gate: Gate, processing=None) -> Recipe:
    paths = {"model": Path("m.tflite"), "calibration": Path("c.npz"), "output": Path("o")}
    return Recipe(**paths, profiles=("p",), gate=gate, processing=processing)


@pytest.mark.parametrize("gate", [Gate(metric="map"), Gate(also=(Gate(metric="map50"),))])
def test_a_metric_of_boxes_needs_the_declaration(gate):
    with pytest.raises(RecipeError, match="is of boxes, and nothing says how outputs become boxes"):
        recipe(gate)


def test_the_recipe_gives_the_gate_what_it_declares():
    table = {"image": {"size": [8, 6]}, "boxes": BOXES}
    preparation = take_preparation(Fields({"processing": table}, "edgepack.toml"))
    found = recipe(Gate(also=(Gate(metric="map"),)), preparation).gate.also[0].detector
    assert (found.boxes.boxes, found.size) == ("box", (8, 6))


def test_a_metric_of_boxes_takes_no_other_outputs():
    with pytest.raises(RecipeError, match=r"map is of the outputs that processing\.boxes names"):
        Gate(metric="map", outputs=("box",))
