"""edgepack.toml and the command line become one frozen recipe, or one line that says what is wrong where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.cli.request import (
    Overrides,
    data_from,
    device_key_from,
    metric_from,
    module_from,
    recipe_from,
    trust_from,
)
from edgepack.errors import RecipeError
from edgepack.gate import Gate, MetricFunction
from edgepack.reading import DataFunction
from edgepack.recipe import Recipe, UserModule, load_recipe, parse_schemes, product_name
from edgepack.training_steps import parse_train
from edgepack_runtime.errors import FileError, FormatError, KeyFileError
from edgepack_runtime.profile import SCHEMES
from edgepack_runtime.table import Header, write_signed

MINIMAL = """
[model]
path = "models/cat.onnx"
[data]
calibration = "c.npz"
[build]
profiles = ["raspberry-pi-4"]
"""
FULL = """
[model]
path = "cat.onnx"
name = "cats"
version = "2.0"
licence = "MIT"
labels = "labels.txt"
[data]
calibration = "c.npz"
evaluation = "/abs/e.npz"
training = "t.npz"
[[train]]
use = "prune"
sparsity = 0.8
[gate]
metric = "f1"
max_drop = 0
output = "scores"
confidence = 0.99
[build]
profiles = ["raspberry-pi-4", "raspberry-pi-3"]
precision = ["float16", "float32"]
output = "out"
security_version = 7
requires = ["detector=2", "classifier=3"]
compress = true
[converter]
shapes = {x = [1, 3]}
road = "direct"
[keys]
signing = "k/release.key.pem"
recipients = ["k/a.pub.pem", "k/b.pub.pem"]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "edgepack.toml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write


def recipe(**changes: object) -> Recipe:
    fields = {"model": Path("cat.onnx"), "calibration": Path("c.npz"), "profiles": ("p",), "output": Path("out")}
    return Recipe(**(fields | changes))


def test_paths_in_a_file_are_relative_to_the_file(write, tmp_path):
    found = load_recipe(write(MINIMAL))
    assert (found.model, found.calibration) == (tmp_path / "models/cat.onnx", tmp_path / "c.npz")


def test_what_a_file_leaves_out_has_its_default(write, tmp_path):
    found = load_recipe(write(MINIMAL))
    assert (found.product, found.gate, found.schemes, found.output) == ("cat", Gate(), (), tmp_path / "dist")


def test_every_field_of_a_file_is_read(write, tmp_path):
    assert load_recipe(write(FULL)) == Recipe(
        model=tmp_path / "cat.onnx",
        name="cats",
        version="2.0",
        licence="MIT",
        labels=tmp_path / "labels.txt",
        calibration=tmp_path / "c.npz",
        evaluation=Path("/abs/e.npz"),
        training_set=tmp_path / "t.npz",
        training=(parse_train("prune:sparsity=0.8"),),
        gate=Gate(metric="f1", max_drop=0.0, outputs=("scores",), confidence=0.99),
        profiles=("raspberry-pi-4", "raspberry-pi-3"),
        schemes=("float16", "float32"),
        output=tmp_path / "out",
        security_version=7,
        requires=("detector=2", "classifier=3"),
        compress=True,
        converter='{"road":"direct","shapes":{"x":[1,3]}}',
        signing_key=str(tmp_path / "k/release.key.pem"),
        recipients=(tmp_path / "k/a.pub.pem", tmp_path / "k/b.pub.pem"),
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('path = "cat.onnx"', 'paht = "cat.onnx"', r"edgepack.toml.model.path: missing"),
        ('licence = "MIT"', 'license = "MIT"', r"model.license: unknown field \(did you mean 'licence'\?\)"),
        ("max_drop = 0", "max_dorp = 0", r"gate.max_dorp: unknown field \(did you mean 'max_drop'\?\)"),
        (
            'calibration = "c.npz"',
            'calibration = "c.npz"\ncalibration_halves = 1',
            r"calibration_halves 1 is neither 0 nor from 2 to 20",
        ),
        ("[gate]", "[gates]", r"edgepack.toml.gates: unknown field \(did you mean 'gate'\?\)"),
        ('signing = "', 'signign = "', r"keys.signign: unknown field \(did you mean 'signing'\?\)"),
        ("max_drop = 0", 'max_drop = "1%"', r"gate.max_drop: expected float, got text"),
        ("max_drop = 0", "max_drop = nan", r"max_drop nan is no share from 0 to 1"),
        ("max_drop = 0", "max_drop = 1.5", r"max_drop 1.5 is no share from 0 to 1"),
        ("max_drop = 0", "max_drop = -0.1", r"max_drop -0.1 is no share"),
        ('metric = "f1"', 'metric = "acuracy"', r"metric 'acuracy' is not known \(did you mean 'accuracy'\?\)"),
        ('metric = "f1"', "metric = 1", r"gate.metric: expected text, got int"),
        ('output = "scores"', "output = 3", r"gate.output: expected the name of an output, or a list of names"),
        ('output = "scores"', 'output = ["a", "a"]', r"an output is named twice for the metric: a, a"),
        ('metric = "f1"', 'metric = "auc"\nthreshold = 0.5', r"metric auc decides nothing, and takes no threshold"),
        ("confidence = 0.99", 'against = "labls"', r"against 'labels' or 'float', not 'labls'"),
        ("confidence = 0.99", "confidence = 95", r"confidence 95 is not from 0.8 to 0.9999"),
        ("confidence = 0.99", "[[gate.also]]\nmax_drop = 0.1", r"each further gate names one metric"),
        ("confidence = 0.99", "[[gate.also]]\nmetrik = 'mse'", r"gate.also\[0\].metrik: unknown field"),
        ('"raspberry-pi-4", "raspberry-pi-3"', "", r"no device profile is named"),
        ('"raspberry-pi-3"]', "3]", r"build.profiles\[1\]: expected text, got int"),
        ('"raspberry-pi-3"', '"raspberry-pi-4"', r"a profile is named twice"),
        ('"float16"', '"float61"', r"precision 'float61' is not known \(did you mean 'float16'\?\)"),
        ('"float16"', '"auto"', r"'auto' already means all of them"),
        ("security_version = 7", "security_version = -1", r"security_version -1 is not from 0"),
        ("security_version = 7", "security_version = true", r"build.security_version: expected int, got true/false"),
        ("security_version = 7", "security_version = 9223372036854775808", r"security_version"),
        ('signing = "k/release.key.pem"', 'signing = "pkcs11:module-path=/x"', r"must not name a module-path"),
        ('name = "cats"', 'name = "big cats"', r"'big cats' version '2.0': names are 1 to 31"),
        ('name = "cats"', 'name = "-cats"', r"'-cats' version"),
        ('name = "cats"', f'name = "{"c" * 32}"', r"names are 1 to 31"),
        ('version = "2.0"', 'version = "2/0"', r"version '2/0'"),
        ('version = "2.0"', "version = 2.0", r"model.version: expected text, got float"),
        ('road = "direct"', "when = 2024-01-01", r"converter: a converter's options are text, numbers"),
        ('road = "direct"', "x = inf", r"converter: a converter's options are text, numbers"),
        ("[model]", "[model", r"edgepack.toml: "),
        ('name = "cats"', 'name = "\udcff"', r"edgepack.toml: "),
        ("[model]", "x = " + "[" * 300, r"edgepack.toml: "),
        ("[model]", "x = 1\nx = 2\n[model]", r"edgepack.toml: "),
        ("[model]", "d = 2024-02-30\n[model]", r"edgepack.toml: "),
        ("[model]", "model = 5", r"edgepack.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(write, old, new, complaint):
    assert FULL.count(old) == 1
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(write(FULL.replace(old, new)))


def test_a_missing_file_is_refused_with_how_to_write_one(tmp_path):
    with pytest.raises(RecipeError, match=r"cannot read .*edgepack.toml: No such file") as caught:
        load_recipe(tmp_path / "edgepack.toml")
    assert "edgepack init" in caught.value.hint


def test_a_huge_file_is_refused(write):
    with pytest.raises(RecipeError, match=r"longer than|larger than"):
        load_recipe(write(MINIMAL + "#" * (300 << 10)))


@pytest.mark.parametrize(
    ("stem", "wanted"),
    [
        ("cat", "cat"),
        ("My Model (v2)", "My-Model-v2"),
        ("_private", "private"),
        ("...", "model"),
        ("猫", "model"),
        ("x" * 40, "x" * 31),
        ("mobilenet_v1.5", "mobilenet_v1.5"),
    ],
)
def test_a_product_name_is_made_of_the_models(stem, wanted):
    assert product_name(stem) == wanted


def _in_the_table(name: str) -> bool:
    header = Header(
        product=name, profile="p", profile_digest=bytes(32), engine="e", engine_version="1", bundle_id=bytes(16),
        security_version=0, created=0, expires=0,
    )  # fmt: skip
    try:
        write_signed(header, [], b"{}")
    except FormatError as error:
        # There is no entry in it, which is checked last.
        return "product" not in error.message
    return True


@given(st.text(max_size=40))
def test_every_made_product_name_fits_the_table_and_the_recipe(stem):
    name = product_name(stem)
    assert _in_the_table(name)
    assert recipe(name=name).product == name


@given(st.text("aZ0._-/ ", min_size=1, max_size=33))
def test_the_recipe_takes_the_names_that_the_table_takes(name):
    try:
        recipe(name=name)
    except RecipeError:
        assert not _in_the_table(name)
    else:
        assert _in_the_table(name)


def test_a_folder_gives_its_whole_name_to_the_product(tmp_path):
    (tmp_path / "net.v2").mkdir()
    assert recipe(model=tmp_path / "net.v2").product == "net.v2"


@pytest.mark.parametrize("schemes", [(), ("auto",), SCHEMES, ("float32",)])
def test_known_schemes_are_taken_in_their_order(schemes):
    assert parse_schemes(schemes) == schemes


# The command line


def said(**fields: object) -> Overrides:
    nothing = {field.name: None for field in dataclasses.fields(Overrides)}
    nothing |= {"profiles": (), "schemes": (), "recipients": (), "inputs": (), "pass_options": ()}
    return Overrides(**(nothing | fields))


GIVEN = {"model": Path("cat.onnx"), "profiles": ("p",), "calibration": Path("c.npz"), "output": Path("out")}


def test_a_command_line_alone_is_a_recipe():
    assert recipe_from(said(**GIVEN)) == recipe()


@pytest.mark.parametrize(
    ("missing", "option"),
    [("profiles", "--profile NAME"), ("calibration", "--calibration FILE"), ("output", "-o DIR")],
)
def test_what_a_command_line_lacks_is_named(missing, option):
    given_without = {k: v for k, v in GIVEN.items() if k != missing}
    with pytest.raises(RecipeError, match=rf"building cat.onnx also needs {option}$"):
        recipe_from(said(**given_without))


def test_no_model_and_no_file_is_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"no model is named, and there is no edgepack.toml") as caught:
        recipe_from(said())
    assert "edgepack init" in caught.value.hint


def flat(found: Recipe) -> dict[str, object]:
    """Return a recipe's fields, those of its gate and its converter's options by dotted names."""
    table = dataclasses.asdict(found)
    gate, converter = table.pop("gate"), json.loads(table.pop("converter"))
    table |= {f"gate.{k}": v for k, v in gate.items()}
    table |= {f"optimize.{k}": v for k, v in table.pop("optimize").items()}
    table |= {f"reading.{k}": v for k, v in table.pop("reading").items()}
    table |= {f"passes.{k}": v for k, v in table.pop("passes")["by_pass"].items()}
    steps = [(step["use"], json.loads(step["options"])["sparsity"]) for step in table["training"]]
    table["training"] = tuple(f"{use}:sparsity={sparsity}" for use, sparsity in steps)
    return table | {f"converter.{k}": tuple(v) if k == "inputs" else v for k, v in converter.items()}


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("profiles", ("jetson-orin-nano",), "profiles"),
        ("calibration", Path("other.npz"), "calibration"),
        ("evaluation", Path("other.npz"), "evaluation"),
        ("calibration_halves", 3, "calibration_halves"),
        ("windows", 4, "reading.windows"),
        ("label_column", "class", "reading.label_column"),
        ("csv_dtype", "int32", "reading.csv_dtype"),
        ("csv_shape", "28,28", "reading.csv_shape"),
        ("schemes", ("auto",), "schemes"),
        ("signing_key", "pkcs11:token=other", "signing_key"),
        ("recipients", (Path("other.pem"),), "recipients"),
        ("output", Path("other"), "output"),
        ("name", "other", "name"),
        ("version", "9", "version"),
        ("security_version", 0, "security_version"),
        ("requires", ("classifier=3",), "requires"),
        ("compress", False, "compress"),
        ("emulate", True, "emulate"),
        ("keep_names", True, "keep_names"),
        ("expires", "90", "expires"),
        ("metric", "recall", "gate.metric"),
        ("metric_function", MetricFunction(path=Path("m.py"), entry="f"), "gate.function"),
        ("max_drop", 0.5, "gate.max_drop"),
        ("max_drop", 0.0, "gate.max_drop"),
        ("metric_output", ("other", "one"), "gate.outputs"),
        ("metric_threshold", 0.3, "gate.threshold"),
        ("confidence", 0.9, "gate.confidence"),
        ("max_latency", "1.2x", "optimize.max_latency"),
        ("max_size", "120kB", "optimize.max_size"),
        ("search", "auto", "optimize.search"),
        ("objective", "latency", "optimize.objective"),
        ("candidates", 7, "optimize.candidates"),
        ("seed", 3, "optimize.seed"),
        ("pass_options", ("float16.min_elements=9",), "passes.float16"),
        ("inputs", ("a", "b"), "converter.inputs"),
        ("signature_key", "other", "converter.signature_key"),
        ("via", ("onnx-tf",), "via"),
        ("layout", ("nhwc",), "layout"),
        ("trust_source", True, "trust_source"),
        ("training_set", Path("other.npz"), "training_set"),
        ("train", ("prune:sparsity=0.9",), "training"),
        ("module", UserModule(path=Path("net.py"), entry="Net"), "module"),
    ],
)
def test_an_option_wins_over_the_file_and_changes_nothing_else(write, monkeypatch, option, value, field):
    monkeypatch.chdir(write(FULL.replace("max_drop = 0", "max_drop = 0.25")).parent)
    plain, changed = (flat(recipe_from(request)) for request in (said(), said(**{option: value})))
    wanted = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
    assert changed == plain | {field: '{"min_elements":9}' if option == "pass_options" else wanted}
    assert plain.get(field) != value


def test_a_module_is_a_file_and_a_name_in_it(tmp_path):
    file = tmp_path / "net:v2.py"
    file.write_text("")
    assert module_from(f"{file}:Net") == UserModule(path=file, entry="Net")


@pytest.mark.parametrize("text", ["net.py", "net.py:", ":Net", "net.py:two words", "missing.py:Net"])
def test_a_module_written_in_another_way_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("")
    with pytest.raises(RecipeError, match=r"--module .*: (expected FILE.py:NAME|there is no file missing.py)"):
        module_from(text)


def test_data_are_a_file_or_a_function_in_one_and_what_it_is_given(tmp_path):
    file, clips = tmp_path / "d:v2.py", tmp_path / "clips"
    file.write_text("")
    clips.mkdir()
    assert data_from(Path("c.npz"), "--calibration") == Path("c.npz")
    assert data_from(Path(f"{file}:load"), "--calibration") == DataFunction(path=file, entry="load")
    assert data_from(Path(f"{file}:load:{clips}"), "--x") == DataFunction(path=file, entry="load", given=clips)


@pytest.mark.parametrize("text", ["gone.py:load", "net.py:load:gone"])
def test_a_function_of_data_that_is_not_there_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("")
    with pytest.raises(RecipeError, match=r"--evaluation .*: there is no gone"):
        data_from(Path(text), "--evaluation")


def test_a_file_that_may_come_from_a_stranger_names_data_that_are_no_function(write):
    found = load_recipe(write(MINIMAL.replace('"c.npz"', '"net.py:load"')))
    assert found.calibration.name == "net.py:load"


def test_a_metric_is_a_name_or_a_file_and_a_function_in_it(tmp_path):
    file = tmp_path / "m:v2.py"
    file.write_text("")
    assert metric_from("f1") == ("f1", None)
    assert metric_from(f"{file}:note_f1") == (None, MetricFunction(path=file, entry="note_f1"))


@pytest.mark.parametrize("text", ["net.py:", ":f", "net.py:two words", "missing.py:f"])
def test_a_function_written_in_another_way_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("")
    with pytest.raises(
        RecipeError, match=r"--metric .*: (expected a name or FILE.py:FUNCTION|there is no file miss)"
    ):
        metric_from(text)


def test_a_file_that_may_come_from_a_stranger_cannot_name_a_function(write):
    with pytest.raises(RecipeError, match=r"metric 'm.py:f' is not known"):
        load_recipe(write(MINIMAL + '[gate]\nmetric = "m.py:f"\n'))


@pytest.mark.parametrize("field", ["trust_source = true", 'module = "net.py:Net"'])
def test_a_file_that_may_come_from_a_stranger_cannot_let_code_run(write, field):
    with pytest.raises(RecipeError, match=r"edgepack.toml.build.*: unknown field"):
        load_recipe(write(MINIMAL + field + "\n"))


def test_every_option_is_tested_here():
    (mark,) = [
        m for m in test_an_option_wins_over_the_file_and_changes_nothing_else.pytestmark if m.name == "parametrize"
    ]
    assert {case[0] for case in mark.args[1]} | {"model"} == {field.name for field in dataclasses.fields(Overrides)}


def test_an_option_is_checked_like_a_field(write, monkeypatch):
    monkeypatch.chdir(write(FULL).parent)
    with pytest.raises(RecipeError, match=r"max_drop 2 is no share"):
        recipe_from(said(max_drop=2))


def test_without_a_trust_option_the_development_key_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path))
    trusted = trust_from(None)
    assert trusted.to_json() == json.loads((tmp_path / "development" / "trust.json").read_text())


def test_a_missing_trust_file_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"trust.json: No such file"):
        trust_from(tmp_path / "trust.json")


def test_a_missing_device_key_is_refused(tmp_path):
    with pytest.raises(KeyFileError, match=r"device.pem: No such file"):
        device_key_from(tmp_path / "device.pem", None)
