"""The documents say what the code does: links, commands, recipe fields, constants, names."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomllib
import typer.main

from doctext import fences, number, prose, rows, section, text_of
from edgepack import converters, passes, worker
from edgepack.cli.app import app
from edgepack.errors import RecipeError
from edgepack.gate import Gate
from edgepack.passoptions import options_text
from edgepack.recipe import load_recipe
from edgepack.toolchain import list_toolchains
from edgepack.trained import TRAINING_SECONDS
from edgepack.training_steps import known_steps, parse_train
from edgepack.unseen import MAX_SEEN
from edgepack.untrained import TRAINED_CORRELATION
from edgepack.worker import Limits
from edgepack_runtime import cli as device_cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), ROOT / "runtime" / "README.md", *ROOT.glob("docs/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
# Options of other programs that the documents name on their own.
FOREIGN_OPTIONS = {"--no-deps", "--python-version", "--target", "--platform"}

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)


# Links


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


@every_document
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text_of(document))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        if not path.exists() or (anchor and anchor not in anchors(text_of(path))):
            broken.append(target)
    assert broken == []


# Commands


@dataclass(frozen=True)
class Command:
    """Options by name, with whether they take a value; how many arguments there may be, None for any number."""

    options: dict[str, bool]
    arguments: int | None


def typer_commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    options = {"--help": False, "-h": False}
    arguments: int | None = 0
    for parameter in command.params:
        if parameter.param_type_name == "option":
            options |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], not parameter.is_flag)
        elif parameter.nargs == -1 or arguments is None:
            arguments = None
        else:
            arguments += parameter.nargs
    yield path, Command(options, arguments)
    for name, inner in getattr(command, "commands", {}).items():
        yield from typer_commands(inner, (*path, name))


def argparse_commands(
    parser: argparse.ArgumentParser, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Command]]:
    options, arguments = {}, 0
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from argparse_commands(inner, (*path, name))
        elif action.option_strings:
            options |= dict.fromkeys(action.option_strings, action.nargs != 0)
        elif action.nargs == "+" or arguments is None:
            arguments = None
        else:
            arguments += 1
    yield path, Command(options, arguments)


COMMANDS = dict(typer_commands(typer.main.get_command(app), ("edgepack",))) | dict(
    argparse_commands(device_cli._parser(), ("edgepack-device",))
)
PROGRAM = re.compile(r"edgepack(-device)?\s")


def shown_commands(text: str) -> Iterator[str]:
    """Yield the commands of edgepack in shell blocks, in indented code and in code spans."""
    for language, content in fences(text):
        if language in ("console", "sh", "bash"):
            for line in content.replace("\\\n", " ").splitlines():
                yield from (part.strip() for part in re.split(r"&&|\|", line.removeprefix("$ ")))
    rest = prose(text)
    yield from (line.strip() for line in re.findall(r"^ {4}(.+)$", rest, re.MULTILINE))
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest))


def complaint(line: str) -> str | None:
    """Return what is wrong with a shown command, None if the program has it."""
    words = shlex.split(line, comments=True)
    path = (words.pop(0),)
    while words and (*path, words[0]) in COMMANDS:
        path = (*path, words.pop(0))
    command, arguments = COMMANDS[path], 0
    while words and words[0] not in ("…", "..."):
        word = words.pop(0)
        if word.startswith("-"):
            name, equals, _ = word.partition("=")
            if name not in command.options:
                return f"{' '.join(path)} has no option {name}"
            if command.options[name] and not equals:
                if not words:
                    return f"{' '.join(path)}: {name} takes a value"
                words.pop(0)
        else:
            arguments += 1
    is_group = any(other[:-1] == path for other in COMMANDS)
    if is_group and arguments:
        return f"{' '.join(path)} has no such command"
    if command.arguments is not None and arguments > command.arguments:
        return f"{' '.join(path)} takes {command.arguments} arguments, not {arguments}"
    return None


@every_document
def test_every_command_shown_exists(document: Path) -> None:
    lines = [line for line in shown_commands(text_of(document)) if PROGRAM.match(line)]
    assert [wrong for line in lines if (wrong := complaint(line))] == []


@every_document
def test_every_option_named_in_prose_exists(document: Path) -> None:
    known = FOREIGN_OPTIONS.union(*(command.options for command in COMMANDS.values()))
    spans = re.findall(r"`(--?[a-z][\w-]*)[^`]*`", prose(text_of(document)))
    assert [option for option in spans if option not in known] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("edgepack biuld model.onnx", "edgepack has no such command"),
        ("edgepack keys rotate", "edgepack keys has no such command"),
        ("edgepack build model.onnx --profil x", "edgepack build has no option --profil"),
        ("edgepack inspect one two", "edgepack inspect takes 1 arguments, not 2"),
        ("edgepack-device verify x --selftest", "edgepack-device verify has no option --selftest"),
        ("edgepack build model.onnx --profile", "edgepack build: --profile takes a value"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, wrong: str) -> None:
    assert complaint(line) == wrong


def test_the_readme_names_every_shipped_profile() -> None:
    text = section(text_of(ROOT / "README.md"), "## Device profiles")
    named = set(re.findall(r"`([a-z0-9-]+)`", text)) - {"local"}
    assert named == {path.stem for path in (ROOT / "device_profiles").glob("*.toml")}


@every_document
def test_every_name_imported_in_an_example_exists(document: Path) -> None:
    missing = []
    for language, content in fences(text_of(document)):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgepack"):
                module = importlib.import_module(node.module or "")
                missing += [alias.name for alias in node.names if not hasattr(module, alias.name)]
    assert missing == []


# docs/recipe.md

RECIPE = ROOT / "docs" / "recipe.md"
SECTIONS = ("model", "data", "gate", "build", "keys")
MINIMAL = {"model": 'path = "m"', "data": 'calibration = "c"', "build": 'profiles = ["p"]'}


def load(folder: Path, extra: dict[str, str] | None = None) -> Any:
    """Return the recipe of the smallest file there is, with `extra` lines by section ("" is the top)."""
    extra = extra or {}
    tables = [extra.get("", "")]
    tables += [f"[{name}]\n{MINIMAL.get(name, '')}\n{extra.get(name, '')}" for name in SECTIONS]
    (folder / "edgepack.toml").write_text("\n".join(tables), encoding="utf-8")
    return load_recipe(folder / "edgepack.toml")


def documented(name: str) -> dict[str, list[str]]:
    return {cells[0]: cells for cells in rows(section(text_of(RECIPE), f"### {name}"))}


def accepted(folder: Path, name: str) -> set[str]:
    """Return the fields the reader knows in a section: its error about an unknown one lists them."""
    with pytest.raises(RecipeError) as caught:
        load(folder, {name: "zzzz = 1"})
    return set((caught.value.hint or "").removeprefix("known here: ").split(", "))


@pytest.mark.parametrize("name", SECTIONS)
def test_the_fields_documented_are_those_the_reader_accepts(tmp_path: Path, name: str) -> None:
    assert set(documented(name)) == accepted(tmp_path, name)


def test_the_sections_documented_are_those_the_reader_accepts(tmp_path: Path) -> None:
    headings = re.findall(r"^### (\w+)$", section(text_of(RECIPE), "## Fields"), re.MULTILINE)
    assert set(headings) == accepted(tmp_path, "")


def test_the_defaults_documented_are_those_of_the_reader(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    found = {
        ("model", "version"): recipe.version,
        ("model", "licence"): recipe.licence,
        ("data", "calibration_halves"): recipe.calibration_halves,
        ("data", "windows"): recipe.reading.windows,
        ("data", "csv_dtype"): recipe.reading.csv_dtype,
        ("gate", "against"): recipe.gate.against,
        ("gate", "max_drop"): recipe.gate.max_drop,
        ("gate", "confidence"): recipe.gate.confidence,
        ("build", "output"): recipe.output.name,
        ("build", "security_version"): recipe.security_version,
    }
    told = {}
    for name in SECTIONS:
        for field, cells in documented(name).items():
            if re.fullmatch(r'".*"|[\d.]+', cells[1]):
                told[name, field] = tomllib.loads(f"value = {cells[1]}")["value"]
    assert told == found


def test_the_fields_documented_as_required_are_those_the_reader_demands(tmp_path: Path) -> None:
    required = {
        (name, field) for name in SECTIONS for field, cells in documented(name).items() if cells[1] == "required"
    }
    demanded = set()
    for name, line in MINIMAL.items():
        field = line.split(" ")[0]
        text = "\n".join(f"[{other}]\n{MINIMAL[other] if other != name else ''}" for other in MINIMAL)
        (tmp_path / "edgepack.toml").write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError, match=rf"{name}\.{field}: missing"):
            load_recipe(tmp_path / "edgepack.toml")
        demanded.add((name, field))
    assert required == demanded


def test_the_pass_options_documented_are_those_the_passes_have() -> None:
    told = {(name, option, default) for name, option, default, *_ in rows(section(text_of(RECIPE), "### passes"))}
    found = set()
    for module in pkgutil.iter_modules(passes.__path__):
        if not module.name.startswith("_"):
            options = importlib.import_module(f"edgepack.passes.{module.name}").Options()
            table = json.loads(options_text(options))
            found |= {(module.name, name, json.dumps(value)) for name, value in table.items()}
    assert told == found


def test_the_converter_options_documented_are_those_the_converters_have() -> None:
    told: dict[str, dict[str, object]] = {}
    for form, option, default, *_ in rows(section(text_of(RECIPE), "### converter")):
        told.setdefault(form, {})[option] = json.loads(default)
    found = {}
    for module in pkgutil.iter_modules(converters.__path__):
        if not module.name.startswith("_"):
            options = importlib.import_module(f"edgepack.converters.{module.name}").Options()
            table = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(options).items()}
            found[module.name] = table
    assert told == found


def test_the_example_recipe_is_one_the_reader_accepts(tmp_path: Path) -> None:
    (example, *_) = [content for language, content in fences(text_of(RECIPE)) if language == "toml"]
    (tmp_path / "edgepack.toml").write_text(example, encoding="utf-8")
    assert load_recipe(tmp_path / "edgepack.toml").product == "detector"


# docs/conversion.md

CONVERSION = ROOT / "docs" / "conversion.md"


def conversion(heading: str) -> str:
    return section(text_of(CONVERSION), heading)


def test_the_likeness_limits_documented_are_those_of_the_gate() -> None:
    from edgepack.candidate import SIMILARITY

    told = {cells[0]: (cells[1], float(cells[2])) for cells in rows(conversion("## When is it equal?"))}
    assert told == dict(SIMILARITY)


def test_the_golden_tolerances_documented_are_those_that_are_signed() -> None:
    from edgepack.tolerances import SIGNED

    told = {cells[0]: float(cells[1]) for cells in rows(conversion("## On the device"))}
    assert told == dict(SIGNED)


def test_the_golden_samples_documented_are_those_that_are_taken() -> None:
    from edgepack.release import _MAX_GOLDEN_SAMPLES, _MIN_GOLDEN_BYTES

    text = conversion("## On the device")
    told = (number(text, "Up to # calibration samples"), number(text, "or # KiB"))
    assert told == (_MAX_GOLDEN_SAMPLES, _MIN_GOLDEN_BYTES / 2**10)


def test_the_parity_documented_is_the_one_demanded() -> None:
    from edgepack.parity import PARITY_TOLERANCE

    assert number(conversion("## Parity"), "More than # (") == PARITY_TOLERANCE


def test_the_samples_a_road_is_judged_on_are_documented() -> None:
    from edgepack.converters._parity import _JUDGED

    assert number(conversion("## Formats"), "on up to # of your samples") == _JUDGED


def test_the_forms_of_an_onnx_graph_documented_are_those_tried_in_their_order() -> None:
    from edgepack.converters._onnx_graph import FORMS

    roads = re.findall(r"^\d\. (.+)$", conversion("## Formats"), re.MULTILINE)
    assert roads == list(FORMS)


def test_the_bootstrap_documented_is_the_one_computed() -> None:
    from edgepack.intervals import CONFIDENCE, RESAMPLES

    text = section(text_of(ROOT / "docs" / "accuracy.md"), "## The interval")
    told = (number(text, "two-sided # % interval") / 100, number(text, "paired bootstrap with # resamples"))
    assert told == (CONFIDENCE, RESAMPLES)


ACCURACY = ROOT / "docs" / "accuracy.md"


def test_the_metrics_documented_are_those_there_are() -> None:
    from edgepack.metrics import METRICS

    told = re.findall(r"[a-z0-9-]+", " ".join(row[0] for row in rows(section(text_of(ACCURACY), "## Metrics"))))
    assert sorted(told) == sorted(METRICS)


def test_the_samples_documented_are_the_fewest_on_which_a_candidate_that_never_differs_holds() -> None:
    from edgepack.intervals import count_discordant

    def high(count: int) -> float:
        return count_discordant(np.ones(count, bool), np.ones(count, bool)).drop.high

    text = section(text_of(ACCURACY), "## The verdict")
    (budgets,) = re.findall(r"^\| `max_drop` \| (.*) \|$", text, re.MULTILINE)
    (counts,) = re.findall(r"^\| samples \| (.*) \|$", text, re.MULTILINE)
    told = list(zip(map(float, budgets.split(" | ")), map(int, counts.split(" | ")), strict=True))
    assert [high(count) <= budget < high(count - 1) for budget, count in told] == [True] * len(told)
    assert f"{high(20):.2f}" in text


def test_the_drop_allowed_by_default_is_documented() -> None:
    assert number(conversion("## When is it equal?"), "`max_drop`, # unless") == Gate().max_drop


def test_the_defaults_of_the_passes_are_documented() -> None:
    from edgepack.passes import dynamic_range, float16, full_integer

    cells = {row[0]: " ".join(row) for row in rows(conversion("## Precisions"))}
    told = (
        number(cells["float16"], "from # elements on"),
        number(cells["dynamic_range"], "from # elements on"),
        number(cells["full_integer"], "up to # calibration samples"),
    )
    found = (float16.Options().min_elements, dynamic_range.Options().min_elements, full_integer.Options().samples)
    assert told == found


def test_the_toolchains_documented_are_those_that_ship() -> None:
    told = [cells[0] for cells in rows(conversion("## Toolchains"))]
    assert sorted(told) == [toolchain.name for toolchain in list_toolchains()]


def test_the_limits_documented_are_those_of_the_child_process() -> None:
    text = conversion("## Limits of the child process")
    told = Limits(
        seconds=int(number(text, "| wall time | # s")),
        cpu_seconds=int(number(text, "| CPU time | # s")),
        memory_bytes=int(number(text, "| memory | # GiB")) << 30,
        file_bytes=int(number(text, "| one file | # GiB")) << 30,
        processes=int(number(text, "| processes of its own | # |")),
    )
    assert told == Limits()
    assert int(number(text, "| what it prints | # MiB")) << 20 == worker._MAX_PRINTED


# docs/training.md

TRAINING = ROOT / "docs" / "training.md"


def test_the_options_of_the_training_steps_documented_are_those_they_have() -> None:
    told: dict[str, dict[str, object]] = {}
    for step, option, default, *_ in rows(section(text_of(TRAINING), "## Steps")):
        told.setdefault(step, {})[option] = json.loads(default)
    every = told.pop("every")
    texts = {name: f"{name}:teacher=t.keras" if name == "distil" else name for name in known_steps()}
    found = {name: json.loads(parse_train(text).options) for name, text in texts.items()}
    assert {name: every | own for name, own in told.items()} == found


def test_the_limits_of_training_documented_are_those_in_force() -> None:
    text = text_of(TRAINING)
    told = (number(text, "it may last # s"), number(text, "more than # % of the evaluation samples"))
    assert told == (TRAINING_SECONDS, MAX_SEEN * 100)
    assert number(text, "that of the model before by at least #.") == TRAINED_CORRELATION


def test_the_training_example_is_one_the_reader_accepts(tmp_path: Path) -> None:
    (example,) = [content for language, content in fences(text_of(TRAINING)) if language == "toml"]
    text = "\n".join(f"[{name}]\n{MINIMAL[name]}" for name in ("model", "build"))
    (tmp_path / "edgepack.toml").write_text(f"{text}\n{example}", encoding="utf-8")
    assert load_recipe(tmp_path / "edgepack.toml").training == (parse_train("prune:sparsity=0.8,epochs=6"),)
