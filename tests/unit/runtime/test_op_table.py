"""The engine itself is asked for its operators: what it says is what other files of that engine confirm."""

from __future__ import annotations

import pytest

from edgepack_runtime.engines import installed, loads
from edgepack_runtime.errors import EngineError
from edgepack_runtime.op_table import MAX_OPERATORS, operator_model, operator_table

ENGINE = installed()[0][0]
CONV_2D, BROADCAST_TO, CUSTOM, NOBODYS = 3, 130, 32, 250


@pytest.fixture(scope="module")
def table():
    return operator_table(ENGINE)


def test_an_operator_that_every_engine_has_is_there(table):
    assert table[CONV_2D] >= 5


def test_an_operator_whose_versions_begin_at_two_is_found(table):
    assert table[BROADCAST_TO] >= 2


def test_an_operator_nobody_has_is_not_there(table):
    assert table[NOBODYS] == 0


def test_custom_operators_have_no_version(table):
    assert table[CUSTOM] == 0


def test_every_code_is_asked_for(table):
    assert len(table) == MAX_OPERATORS


def test_the_highest_version_is_taken_and_the_next_is_not(table):
    taken = [loads(ENGINE, operator_model(CONV_2D, version)) for version in (table[CONV_2D], table[CONV_2D] + 1)]
    assert taken == [True, False]


def test_an_unknown_engine_is_refused():
    with pytest.raises(EngineError, match=r"engine 'other' is none of ai-edge-litert, tflite-runtime"):
        loads("other", operator_model(CONV_2D, 1))
