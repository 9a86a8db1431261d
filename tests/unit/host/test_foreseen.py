"""What would refuse a build in the end is asked before what may take hours: nothing was begun when it is said."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tinymodels import feeds, run, tiny

from edgepack.builder import build
from edgepack.cli.request import metric_from
from edgepack.conversion import Converted, convert_source
from edgepack.errors import DatasetError, HostError, PassError, RecipeError
from edgepack.foreseen import check_asked, check_converted, doubts_of
from edgepack.gate import Gate
from edgepack.inputs import BuildInputs, read_inputs
from edgepack.passoptions import parse_pass_options
from edgepack.recipe import Recipe
from edgepack.reporter import Reporter
from edgepack.worker import Workplace
from edgepack_runtime._fields import Fields

HERE = Workplace(python=Path(sys.executable))
CONVERTED = ("converting", "comparing the converted")


class _Steps(Reporter):
    def __init__(self) -> None:
        self.begun: list[str] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.begun.append(text)
        yield


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    (tmp_path / "m.tflite").write_bytes(tiny("digits"))
    np.savez(tmp_path / "x.npz", **feeds("digits", 3))
    images = feeds("digits", 8, seed=6)
    scores = run(tiny("digits"), images)["scores"]
    np.savez(tmp_path / "e.npz", **images, y=scores.reshape(8, -1).argmax(1))
    (tmp_path / "own.py").write_text("def lost(outputs, labels):\n    return outputs['nothing']\n")
    return Recipe(
        model=tmp_path / "m.tflite",
        calibration=tmp_path / "x.npz",
        evaluation=tmp_path / "e.npz",
        profiles=("raspberry-pi-4",),
        output=tmp_path / "out",
        gate=Gate(outputs=("scores",)),
        name="m",
    )


def own(recipe: Recipe, name: str) -> Gate:
    return Gate(outputs=("scores",), function=metric_from(f"{recipe.model.parent / 'own.py'}:{name}")[1])


def refused(recipe: Recipe, error: type[HostError], words: str) -> list[str]:
    """Build what must be refused with these words; return the steps that were begun before."""
    steps = _Steps()
    with pytest.raises(error, match=words):
        build(recipe, offline=True, reporter=steps)
    return steps.begun


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"converter": '{"signature":"a"}'}, r"converter options .*this source format knows signature_key"),
        ({"converter": '{"signature_key":3}'}, r"converter: options\.signature_key: expected str"),
        ({"via": ("onnx2tff",)}, r"--via onnx2tff: there is no such road"),
    ],
)
def test_options_of_the_conversion_are_refused_before_anything_begins(
    recipe: Recipe, changes: dict[str, str], words: str
) -> None:
    assert refused(dataclasses.replace(recipe, **changes), RecipeError, words) == []


def test_a_shape_that_is_none_is_refused_before_anything_begins(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"input 'x': expected NAME:SHAPE"):
        check_asked(dataclasses.replace(recipe, converter='{"inputs":["x"]}'), "onnx", HERE)


def test_a_metric_that_cannot_be_loaded_is_refused_before_anything_begins(recipe: Recipe) -> None:
    asked = dataclasses.replace(recipe, gate=own(recipe, "gained"))
    assert refused(asked, RecipeError, r"there is no function 'gained'; own\.py defines lost") == []


def test_a_metric_that_fails_on_the_sources_outputs_is_refused_before_a_candidate_is_made(recipe: Recipe) -> None:
    begun = refused(dataclasses.replace(recipe, gate=own(recipe, "lost")), RecipeError, r"KeyError: 'nothing'")
    assert [step for step in begun if not step.startswith(CONVERTED)] == []


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (Gate(outputs=("scoers",)), "output 'scoers' gives no class scores"),
        (Gate(metric="agreement", outputs=("scoers",)), "output 'scoers' gives no class scores"),
        (
            Gate(outputs=("scores",), also=(Gate(metric="mse", outputs=("scoers",)),)),
            "output 'scoers' gives no values like the labels",
        ),
    ],
)
def test_an_output_that_is_none_is_refused_before_a_candidate_is_made(recipe: Recipe, gate: Gate, words: str) -> None:
    begun = refused(dataclasses.replace(recipe, gate=gate), DatasetError, words)
    assert [step for step in begun if not step.startswith(CONVERTED)] == []


def test_a_rule_that_names_no_layer_is_refused_before_a_candidate_is_made(recipe: Recipe) -> None:
    rules = parse_pass_options(['mixed.rules=[{"layers":["PartitonedCall:0"],"precision":"float32"}]'])
    asked = dataclasses.replace(recipe, schemes=("float16", "mixed"), passes=rules)
    begun = refused(asked, PassError, r"passes\.mixed: the model has no layer 'PartitonedCall:0' \(did you mean")
    assert [step for step in begun if not step.startswith(CONVERTED)] == []


# Asked of a converted model


def converted(recipe: Recipe) -> tuple[BuildInputs, Converted]:
    inputs = read_inputs(recipe, Reporter())
    return inputs, convert_source(recipe, inputs, offline=True, reporter=Reporter())


def test_what_fits_the_model_is_taken(recipe: Recipe) -> None:
    rules = parse_pass_options(['mixed.rules=[{"layers":["re:Partitioned"],"precision":"float32"}]'])
    asked = dataclasses.replace(recipe, schemes=("mixed",), passes=rules)
    check_asked(asked, "tflite", HERE)
    check_converted(asked, *converted(asked), HERE)


@pytest.mark.parametrize("search", ["", "auto"])
def test_rules_are_asked_only_where_the_pass_runs(recipe: Recipe, search: str) -> None:
    rules = parse_pass_options(['mixed.rules=[{"layers":["none"],"precision":"float32"}]'])
    schemes = ("mixed", "float16") if search else ("float16",)
    optimize = dataclasses.replace(recipe.optimize, search=search)
    asked = dataclasses.replace(recipe, schemes=schemes, passes=rules, optimize=optimize)
    check_converted(asked, *converted(asked), HERE)


def test_a_declaration_has_to_be_true_of_the_model_where_a_bundle_carries_it(recipe: Recipe) -> None:
    from edgepack.preparation import take_preparation

    table = {"processing": {"classes": {"output": "nothing"}}}
    asked = dataclasses.replace(recipe, processing=take_preparation(Fields(table, "edgepack.toml")))
    inputs, model = converted(asked)
    check_converted(asked, dataclasses.replace(inputs, profiles=()), model, HERE)
    with pytest.raises(RecipeError, match="nothing"):
        check_converted(asked, inputs, model, HERE)


def test_what_training_alone_lost_is_told_with_whether_it_is_too_much(recipe: Recipe) -> None:
    inputs, model = converted(recipe)
    after = {name: -values for name, values in model.samples.reference.items()}
    samples = dataclasses.replace(model.samples, before=model.samples.reference, reference=after)
    (text,) = [text for text in doubts_of(recipe, inputs, samples, HERE) if text.startswith("training alone")]
    assert ("drop 1.0000" in text, text.endswith("; that alone is not within 0.01")) == (True, True)
