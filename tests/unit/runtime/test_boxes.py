"""From a detector's outputs to boxes in the picture's own pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bundlekit
import realbundle
from edgepack_runtime.boxes import suppressed
from edgepack_runtime.engines import load
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.prediction import Prediction, Predictor
from edgepack_runtime.processing import Boxes, Image, Processing
from edgepack_runtime.session import open_bundle
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec

IMAGE = Image(
    input="image", layout="nhwc", colours="rgb", fit="stretch", short_side=0, fill=0, resize="nearest",
    divisor=255.0, mean=(0.0,), std=(1.0,),
)  # fmt: skip
BOXES = Boxes(
    boxes="boxes", scores="scores", classes="", count="", layout="rows", order="xyxy", unit="share",
    objectness="none", background=0, activation="none", threshold=0.25, suppress="class", overlap=0.5, top=20,
)  # fmt: skip
INPUT = TensorSpec(name="image", dtype="float32", shape=(1, 100, 100, 3))
LABELS = ("cat", "dog")


def specs(outputs: dict[str, np.ndarray]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=n, dtype=str(x.dtype), shape=x.shape) for n, x in outputs.items())


def predictor(outputs: dict[str, np.ndarray], labels=(), image: Image = IMAGE, **changes: object) -> Predictor:
    declared = Processing(image=image, boxes=replace(BOXES, **changes))
    return Predictor(declared, (INPUT,), specs(outputs), labels)


def found(
    *tables: object, names=("boxes", "scores"), picture=(100, 100), labels=(), image: Image = IMAGE, **changes: object
) -> list[tuple[str, float, list[float]]]:
    """Return label, score, and left, top, right, bottom of what outputs mean for a picture of that size."""
    outputs = {name: np.array(table, np.float32) for name, table in zip(names, tables, strict=True)}
    reads = predictor(outputs, labels, image, **changes)
    _, frame = reads.feed(np.zeros((*picture, 3), np.uint8))
    return shown(reads.found(outputs, frame))


def shown(prediction: Prediction) -> list[tuple[str, float, list[float]]]:
    edges = [
        (item.box.left, item.box.top, item.box.left + item.box.width, item.box.top + item.box.height)
        for item in prediction.found
    ]
    return [
        (item.label, round(item.score, 4), [round(edge, 3) for edge in four])
        for item, four in zip(prediction.found, edges, strict=True)
    ]


def crowd() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes, scores and classes that overlap in every way."""
    rng = np.random.default_rng(5)
    middles, sides = rng.uniform(0.2, 0.8, (40, 2)), rng.uniform(0.1, 0.4, (40, 2))
    corners = np.concatenate([middles - sides / 2, middles + sides / 2], 1).astype(np.float32)
    return corners, rng.uniform(0, 1, 40).astype(np.float32), rng.integers(0, 3, 40)


# What tf.image.non_max_suppression of TensorFlow 2.19 gave for `crowd`, with max_output_size=20; for each class alone
# with the classes moved apart.
TENSORFLOW = {
    (0.3, "all"): [13, 15, 34, 22, 36, 4, 24, 28, 8, 3, 6, 7, 2, 31, 16, 37, 25, 38, 27],
    (0.5, "all"): [13, 15, 34, 22, 14, 36, 4, 24, 28, 11, 8, 3, 6, 30, 29, 7, 2, 31, 17, 16],
    (0.7, "all"): [13, 15, 34, 22, 14, 36, 4, 24, 28, 11, 8, 3, 6, 1, 30, 5, 29, 7, 2, 33],
    (0.3, "class"): [13, 15, 34, 22, 14, 36, 4, 24, 28, 8, 3, 6, 1, 29, 7, 2, 31, 39, 16, 37],
    (0.5, "class"): [13, 15, 34, 22, 14, 36, 4, 24, 28, 11, 8, 3, 6, 1, 30, 29, 7, 2, 33, 31],
    (0.7, "class"): [13, 15, 34, 22, 14, 36, 4, 24, 28, 11, 8, 3, 6, 1, 30, 5, 29, 7, 2, 33],
}


@pytest.mark.parametrize(("overlap", "suppress"), TENSORFLOW)
def test_the_boxes_that_stay_are_tensorflows(overlap, suppress):
    corners, scores, kinds = crowd()
    picked = suppressed(
        corners, scores, kinds if suppress == "class" else None, replace(BOXES, overlap=overlap, suppress=suppress)
    )
    assert picked == TENSORFLOW[overlap, suppress]


def test_where_nothing_is_suppressed_the_best_are_found():
    corners, scores, kinds = crowd()
    picked = suppressed(corners, scores, kinds, replace(BOXES, suppress="none", top=7))
    assert picked == np.argsort(-scores)[:7].tolist()


@pytest.mark.parametrize(
    ("order", "four"),
    [
        ("xyxy", (0.1, 0.2, 0.5, 0.8)),
        ("yxyx", (0.2, 0.1, 0.8, 0.5)),
        ("xywh", (0.1, 0.2, 0.4, 0.6)),
        ("cxcywh", (0.3, 0.5, 0.4, 0.6)),
    ],
)
def test_every_order_means_the_same_box(order, four):
    assert found([four], [[0.2, 0.9]], order=order, labels=LABELS) == [("dog", 0.9, [10, 20, 50, 80])]


def test_pixels_are_those_of_the_models_picture():
    (item,) = found([[10, 20, 50, 80]], [[0.9]], unit="pixels", picture=(200, 400))
    assert item == ("0", 0.9, [40, 40, 200, 160])


def test_a_letterbox_is_undone():
    # 50 by 200 becomes 25 by 100 in rows 37 to 62 of the model's picture.
    image = replace(IMAGE, fit="pad", fill=114)
    (item,) = found([[0.5, 0.37, 0.75, 0.62]], [[0.9]], picture=(50, 200), image=image)
    assert item == ("0", 0.9, [100, 0, 150, 50])


def test_what_was_cut_off_is_added_again():
    (item,) = found([[0.0, 0.0, 0.5, 1.0]], [[0.9]], picture=(100, 300), image=replace(IMAGE, fit="crop"))
    assert item == ("0", 0.9, [100, 0, 150, 100])


def test_a_box_is_cut_at_the_edge_of_the_picture():
    (item,) = found([[-0.5, 0.5, 0.5, 7]], [[0.9]])
    assert item == ("0", 0.9, [0, 50, 50, 100])


def test_a_box_outside_of_the_picture_is_not_found():
    assert found([[1.1, 0.5, 1.5, 0.7], [0.5, 0.5, 0.5, 0.7]], [[0.9], [0.8]]) == []


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_found(wrong):
    table = [[0.1, 0.1, 0.2, wrong], [0.5, 0.5, 0.9, 0.9], [0.1, 0.5, 0.2, 0.9]]
    assert found(table, [[0.9], [np.nan], [0.7]]) == [("0", 0.7, [10, 50, 20, 90])]


def test_a_score_at_the_threshold_is_found_and_one_below_is_not():
    table = [[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9]]
    assert [score for _, score, _ in found(table, [[0.25], [0.2499]])] == [0.25]


def test_boxes_of_other_classes_do_not_suppress_each_other():
    table, scores = [[0.1, 0.1, 0.5, 0.5]] * 3, [[0.9, 0], [0, 0.8], [0.7, 0]]
    assert [label for label, _, _ in found(table, scores, labels=LABELS)] == ["cat", "dog"]
    assert [label for label, _, _ in found(table, scores, labels=LABELS, suppress="all")] == ["cat"]


def test_outputs_of_a_detection_postprocess_are_read():
    answer = found(
        [[[0.2, 0.1, 0.8, 0.5], [0, 0, 1, 1], [0.5, 0.5, 1, 1]]], [[1, 0, 1]], [[0.9, 0.6, 0.5]], [2],
        names=("boxes", "kinds", "scores", "n"), order="yxyx", suppress="none", classes="kinds", count="n",
        labels=LABELS,
    )  # fmt: skip
    assert answer == [("dog", 0.9, [10, 20, 50, 80]), ("cat", 0.6, [0, 0, 100, 100])]


@pytest.mark.parametrize("kind", [7, -1, 1e30, np.nan])
def test_a_class_without_a_label_is_its_number_or_nothing(kind):
    names = ("boxes", "kinds", "scores")
    answer = found([[0, 0, 1, 1]], [kind], [0.9], names=names, classes="kinds", labels=LABELS)
    assert [label for label, *_ in answer] == ([str(kind)] if abs(kind) < 9 else [])


def test_one_output_of_columns_is_read_as_yolo_writes_it():
    columns = np.array([[30, 50, 40, 60, 0.1, 0.8], [80, 80, 10, 10, 0.6, 0.2]]).T[None]
    answer = found(
        columns, names=("out",), boxes="out", scores="out", layout="columns", order="cxcywh", unit="pixels",
        labels=LABELS,
    )  # fmt: skip
    assert answer == [("dog", 0.8, [10, 20, 50, 80]), ("cat", 0.6, [75, 75, 85, 85])]


def test_objectness_multiplies_the_scores():
    rows = [[0.1, 0.2, 0.5, 0.8, 0.5, 0.4, 0.8]]
    answer = found(rows, names=("out",), boxes="out", scores="out", objectness="column", labels=LABELS)
    assert answer == [("dog", 0.4, [10, 20, 50, 80])]


def test_a_sigmoid_is_of_the_objectness_too():
    rows = [[0.1, 0.2, 0.5, 0.8, 0.0, -9.0, 9.0]]
    answer = found(
        rows, names=("out",), boxes="out", scores="out", objectness="column", activation="sigmoid", labels=LABELS
    )
    assert answer == [("dog", round(0.5 / (1 + np.exp(-9)), 4), [10, 20, 50, 80])]


def test_the_background_takes_part_in_a_softmax_and_is_never_found():
    answer = found([[0.1, 0.2, 0.5, 0.8]], [[2.0, 1.0, 2.0]], background=1, activation="softmax", labels=LABELS)
    assert answer == [("dog", round(float(1 / (2 + np.exp(-1))), 4), [10, 20, 50, 80])]


def test_quantized_outputs_are_what_they_mean():
    outputs = {"boxes": np.array([[10, 20, 50, 80]], np.uint8), "scores": np.array([[200]], np.uint8)}
    quantization = (
        QuantizationParameters(scale=(0.01,), zero_point=(0,)),
        QuantizationParameters(scale=(1 / 256,), zero_point=(0,)),
    )
    quantized = tuple(replace(s, quantization=q) for s, q in zip(specs(outputs), quantization, strict=True))
    reads = Predictor(Processing(image=IMAGE, boxes=BOXES), (INPUT,), quantized, ())
    assert shown(reads.found(outputs)) == [("0", 0.7812, [10, 20, 50, 80])]


@pytest.mark.parametrize(
    ("shapes", "changes", "complaint"),
    [
        ({"boxes": (9, 5), "scores": (9, 2)}, {}, r"boxes\.boxes: 5 numbers a box"),
        ({"boxes": (9, 4), "scores": (8, 2)}, {}, r"boxes\.scores: 8 times 2"),
        ({"boxes": (9, 4), "scores": (9, 3)}, {}, r"9 times 3 scores, 9 boxes and 2 labels"),
        ({"boxes": (9, 4), "scores": (2, 9, 2)}, {}, "is no table of boxes"),
        ({"boxes": (4,), "scores": (9, 2)}, {}, "is no table of boxes"),
        ({"boxes": (-1, 4), "scores": (9, 2)}, {}, "is no table of boxes"),
        ({"boxes": (9, 4)}, {}, r"boxes\.scores: 'scores' is none of the model's"),
        ({"boxes": (9, 4)}, {"scores": "boxes"}, "9 times 0 scores"),
        ({"boxes": (9, 4), "scores": (9,), "kinds": (8,)}, {"classes": "kinds"}, r"boxes\.classes: 'kinds' holds"),
        ({"boxes": (9, 4), "scores": (9, 2), "kinds": (9,)}, {"classes": "kinds"}, r"boxes\.scores: 'scores' holds"),
        ({"boxes": (9, 4), "scores": (9, 2), "n": (2,)}, {"count": "n"}, r"boxes\.count: 'n' holds other than 1"),
        ({"boxes": (9, 4), "scores": (9, 2)}, {"count": "n"}, r"boxes\.count: 'n' is none"),
    ],
)  # fmt: skip
def test_boxes_that_do_not_belong_to_the_model_are_refused(shapes, changes, complaint):
    outputs = tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items())
    with pytest.raises(SchemaError, match=complaint):
        Predictor(Processing(image=IMAGE, boxes=replace(BOXES, **changes)), (INPUT,), outputs, LABELS)


# Of detection.tflite: the middle's y and x, height and width.
ANCHORS = np.array(
    [[0.3, 0.3, 0.2, 0.2], [0.32, 0.3, 0.2, 0.2], [0.7, 0.7, 0.3, 0.3], [0.5, 0.5, 0.1, 0.1], [0.2, 0.8, 0.2, 0.1],
     [0.8, 0.2, 0.1, 0.2]], np.float32,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_those_of_tflites_own_operator(seed):
    scores = np.random.default_rng(seed).uniform(0, 1, (1, 6, 3)).astype(np.float32)
    engine = load(realbundle.ENGINE, str(realbundle.MODELS / "detection.tflite"), num_threads=1)
    outputs = engine.run({"encodings": np.zeros((1, 6, 4), np.float32), "predictions": scores})
    engine.close()
    said = Predictor(
        Processing(
            image=IMAGE,
            boxes=replace(BOXES, order="yxyx", classes="kinds", count="count", suppress="none", threshold=0.1),
        ),
        (INPUT,),
        specs(outputs),
        LABELS,
    ).found(outputs)
    raw = {"boxes": ANCHORS[:, [1, 0, 3, 2]], "scores": scores[0]}
    mine = predictor(raw, LABELS, order="cxcywh", background=1, suppress="all", threshold=0.1, top=5).found(raw)
    assert [item.label for item in mine.found] == [item.label for item in said.found]
    for one, other in zip(mine.found, said.found, strict=True):
        assert (one.score, one.box.top, one.box.left, one.box.height, one.box.width) == pytest.approx(
            (other.score, other.box.top, other.box.left, other.box.height, other.box.width), abs=1e-4
        )


MODEL = realbundle.of_file(Path(__file__).parents[2] / "data" / "tiny" / "digits.tflite")


def test_a_session_gives_boxes_in_the_picture(tmp_path):
    # Ten numbers of a real model, read as one box with six scores.
    image = replace(IMAGE, input=MODEL.inputs[0].name, colours="gray")
    boxes = replace(BOXES, boxes="scores", scores="scores", order="cxcywh", threshold=0.0)
    board = realbundle.profile()
    text = replace(realbundle.manifest(MODEL, board), labels=(), processing=Processing(image=image, boxes=boxes))
    path = tmp_path / "m.edgepack"
    path.write_bytes(bundlekit.make(realbundle.recipe(MODEL, text, board)).file())
    picture = np.random.default_rng(3).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    with open_bundle(path, device=realbundle.device()) as session:
        predicted = session.predict(picture)
        by_name = session.predict(Predictor.of(session.manifest).feed(picture)[0])
    numbers = predicted.outputs["scores"][0].astype(float)
    x, y, width, height = numbers[:4] * [24, 16, 24, 16]
    (thing,) = predicted.found
    assert (thing.index, thing.score) == (int(numbers[4:].argmax()), numbers[4:].max())
    assert thing.box.left + thing.box.width == pytest.approx(x + width / 2)
    assert thing.box.top == pytest.approx(y - height / 2)
    # By name the picture is not known: what is found lies in the model's own.
    assert by_name.found[0].box.top == pytest.approx(thing.box.top / 16 * 8)
