"""Options of passes, from a recipe or the command line to the pass that reads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tinymodels import LITERT, feeds, tiny

from edgepack.candidate import apply_pass
from edgepack.errors import PassError, RecipeError
from edgepack.model import TFLiteModel
from edgepack.passes import full_integer
from edgepack.passes._quantizer import read_options
from edgepack.passoptions import PassOptions, PassOrder, options_text, parse_pass_options
from edgepack.recipe import Recipe, load_recipe
from edgepack.worker import Workplace

HERE = Workplace(python=Path(sys.executable))
RECIPE = """
[model]
path = "m.tflite"
[data]
calibration = "c.npz"
[build]
profiles = ["p"]
"""


def test_a_table_of_the_recipe_is_the_order_of_its_pass(tmp_path: Path) -> None:
    path = tmp_path / "edgepack.toml"
    path.write_text(f"{RECIPE}[passes.full_integer]\nsamples = 7\nkeep_float = ['SOFTMAX']\n")
    order = load_recipe(path).passes.order("full_integer", LITERT)
    options = read_options(full_integer.Options, order.options)
    assert options == full_integer.Options(samples=7, keep_float=("SOFTMAX",))


def test_a_pass_without_options_gets_its_defaults() -> None:
    assert PassOptions().order("float16", LITERT) == PassOrder(scheme="float16", engine=LITERT, options="{}")


def test_typed_options_survive_as_text() -> None:
    options = full_integer.Options(io="int8", outliers=0.0, keep_float=("ADD",))
    assert read_options(full_integer.Options, options_text(options)) == options


def test_the_command_line_changes_single_options_of_the_recipe() -> None:
    given = parse_pass_options(["full_integer.samples=9", "full_integer.io=int8", 'dynamic_range.keep_float=["ADD"]'])
    before = PassOptions(by_pass={"full_integer": '{"outliers":0.1,"samples":5}', "float16": '{"min_elements":3}'})
    assert {name: json.loads(text) for name, text in before.changed(given).by_pass.items()} == {
        "full_integer": {"outliers": 0.1, "samples": 9, "io": "int8"},
        "float16": {"min_elements": 3},
        "dynamic_range": {"keep_float": ["ADD"]},
    }


@pytest.mark.parametrize(
    "text", ["samples=3", "full_integer=3", ".samples=3", "full_integer.=3", "full_integer.samples"]
)
def test_a_pass_option_written_in_another_way_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"expected NAME\.KEY=VALUE"):
        parse_pass_options([text])


def test_a_pass_option_said_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="said twice"):
        parse_pass_options(["float16.min_elements=3", "float16.min_elements=4"])


def test_options_of_a_pass_that_is_none_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"passes\.float61: there is no such pass"):
        Recipe(
            model=Path("m"),
            calibration=Path("c"),
            profiles=("p",),
            output=Path("o"),
            passes=PassOptions(by_pass={"float61": "{}"}),
        )


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("full_integer.sampels=9", r"passes\.full_integer: options: 'sampels' is not known \(did you mean 'samples'"),
        ("full_integer.samples=many", r"options\.samples: expected int"),
        ("full_integer.io=int9", r"io 'int9' is not known \(did you mean 'int8'"),
        ("full_integer.outliers=0.5", r"outliers from 0 to below 0\.5"),
        ("int16x8.samples=0", r"passes\.int16x8: options: samples 0"),
        ('full_integer.keep_float=["CONV2D"]', r"no operator 'CONV2D' \(did you mean 'CONV_2D'"),
        ('dynamic_range.keep_float=["conv"]', r"no operator 'conv'"),
        ("dynamic_range.min_elements=-1", r"min_elements -1; wanted is at least 0"),
        ("float16.min_elements=-1", r"min_elements -1"),
        ("float32.samples=3", r"passes\.float32: options: 'samples' is not known"),
        ("dynamic_int4.algorithm=mes", r"algorithm 'mes' is not known \(did you mean 'mse'"),
        ("dynamic_int2.min_elements=-4", r"min_elements -4"),
        ('weight_only_int4.keep_float=["X"]', r"no operator 'X'"),
        ("weight_only_int8.algorithm=best", r"algorithm 'best' is not known"),
        ("mixed.base=float31", r"precision 'float31' is none a layer can have \(did you mean 'float32'"),
        ("mixed.samples=0", r"samples 0"),
        ("mixed.min_elements=-1", r"min_elements -1"),
        ('mixed.rules=[{"layers":["#0"],"precision":"int3"}]', r"precision 'int3' is none a layer can have"),
        ('mixed.rules=[{"layers":[],"precision":"float32"}]', r"a rule names no layers"),
        ('mixed.rules=[{"layers":["#x"],"precision":"float32"}]', r"'#x': expected # and the operator's place"),
        ('mixed.rules=[{"layers":["op:CONV2D"],"precision":"float32"}]', r"no operator 'CONV2D'"),
        ('mixed.rules=[{"layers":["re:("],"precision":"float32"}]', r"'re:\(' is no regular expression"),
        ('mixed.rules=[{"layer":["#0"],"precision":"float32"}]', r"rules\[0\]: a LayerRule has the fields"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(said: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        Recipe(
            model=Path("m"),
            calibration=Path("c"),
            profiles=("p",),
            output=Path("o"),
            passes=parse_pass_options([said]),
        )


def test_a_pass_runs_with_its_options_and_the_record_has_them() -> None:
    model = TFLiteModel(data=tiny("digits"), inputs=(), outputs=(), history=())
    order = PassOrder(scheme="full_integer", engine=LITERT, options='{"samples":4}')
    step = apply_pass(model, order, feeds("digits", 10), HERE).history[-1]
    assert (step.options, "calibrated on 4 samples" in step.tool) == (order.options, True)


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    model = TFLiteModel(data=tiny("digits"), inputs=(), outputs=(), history=())
    order = PassOrder(scheme="float16", engine=LITERT, options='{"sample":4}')
    with pytest.raises(PassError, match="sample") as caught:
        apply_pass(model, order, {}, HERE)
    assert caught.value.hint == "options known here: min_elements"
