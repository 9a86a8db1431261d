"""Prediction against reality: what the committed matrix claims, and that today's edgepack predicts the same."""

from __future__ import annotations

from collections import Counter

import pytest
from tools.prediction_matrix.matrix import BOARDS, Row, judge, predict, read_board_rows, read_rows
from tools.prediction_matrix.models import read_archive, read_truth
from tools.prediction_matrix.networks import NETWORKS
from tools.prediction_matrix.table import DOCUMENT, in_document, render

from edgepack.engine_ops import parse_engine

ROWS = read_rows()
BOARD_ROWS = read_board_rows()
# Those between which the engines' behaviour changes most; each takes a second.
TELLING = ("tflite-runtime==2.14.0", "ai-edge-litert==1.0.1", "ai-edge-litert==2.1.2", "ai-edge-litert==2.3.0")


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return read_archive()


def pairs(**wanted: str) -> list[Row]:
    return [row for row in ROWS if all(getattr(row, field) == value for field, value in wanted.items())]


def test_the_matrix_has_every_model_on_every_engine(models: dict[str, bytes]) -> None:
    engines = {row.engine for row in ROWS}
    assert (len(models) >= 20, len(engines) >= 8) == (True, True)
    assert Counter((row.model, row.engine) for row in ROWS) == Counter((m, e) for m in models for e in engines)


def test_all_three_things_happen_and_all_verdicts_are_given() -> None:
    assert {row.happened for row in ROWS} == {"right", "wrong", "fails"}
    assert {row.prediction for row in ROWS} == {"good", "refused"}
    assert {row.build for row in ROWS} == {"ships", "refuses"}


def test_nothing_predicted_good_fails() -> None:
    assert pairs(prediction="good", happened="fails") == []


def test_the_replay_catches_everything_that_computes_wrongly() -> None:
    assert [row for row in pairs(happened="wrong") if row.replay == "good"] == []


def test_what_a_build_ships_is_right() -> None:
    assert {row.happened for row in pairs(build="ships")} == {"right"}


def test_what_is_right_and_predicted_good_is_shipped() -> None:
    assert pairs(prediction="good", happened="right", build="refuses") == []


def test_few_that_are_right_are_refused_and_only_where_their_kind_is_wrong_elsewhere() -> None:
    refused = pairs(prediction="refused", happened="right")
    assert len(refused) <= 0.04 * len(ROWS)
    assert {row.model for row in refused} <= {
        "attention.dynamic4", "embedding.dynamic4", "mlp.dynamic4",
        "mlp.dynamic4_block32", "mlp.dynamic4_block32_stamped",
        "attention.edgepack_full_integer_litert", "attention.tf_int8", "attention.static8",
        "ratio.static8",
    }  # fmt: skip


@pytest.mark.parametrize("engine", TELLING)
def test_todays_prediction_is_the_one_that_is_written_down(models: dict[str, bytes], engine: str) -> None:
    name, version = parse_engine(engine)
    found = {row.model: predict(models[row.model], name, version)[0] for row in ROWS if row.engine == engine}
    assert found == {row.model: row.prediction for row in ROWS if row.engine == engine}


def test_nothing_predicted_good_fails_or_is_wrong_on_an_emulated_board(models: dict[str, bytes]) -> None:
    assert {(row.model, row.board) for row in BOARD_ROWS} == {(model, board) for model in models for board in BOARDS}
    assert [row for row in BOARD_ROWS if row.prediction == "good" and row.happened != "right"] == []


def test_the_document_shows_the_matrix() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert in_document(text, render(ROWS)) == text


def test_every_network_has_its_truth() -> None:
    assert read_truth().keys() == NETWORKS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tflite-runtime==2.14.0", "ai-edge-litert==2.3.0"])
def test_what_happened_happens_again(models: dict[str, bytes], engine: str) -> None:
    some = ("mlp.dynamic8", "mlp.dynamic8_stamped", "conv.static8", "upsample.float32")
    rows, _ = judge({name: models[name] for name in some}, *parse_engine(engine), build=True)
    written = [row for row in ROWS if row.engine == engine and row.model in some]
    assert {row.model: _told(row) for row in rows} == {row.model: _told(row) for row in written}


def _told(row: Row) -> tuple[str, ...]:
    return row.prediction, row.happened, row.replay, row.build
