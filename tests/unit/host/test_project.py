"""`edgepack init` writes a project that loads, and touches nothing that is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.errors import RecipeError
from edgepack.gate import Gate
from edgepack.project import init_project
from edgepack.recipe import load_recipe
from edgepack_runtime.device import Device
from edgepack_runtime.errors import FileError, StateError
from edgepack_runtime.keyfiles import load_recipient, load_signing_key


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_written_recipe_loads(tmp_path):
    found = load_recipe(init_project(tmp_path / "new", "models/cat.onnx").recipe)
    assert (found.model, found.product, found.profiles) == (
        tmp_path / "new" / "models/cat.onnx", "cat", ("raspberry-pi-4",),
    )  # fmt: skip


def test_the_written_gate_is_the_default_one(tmp_path):
    assert load_recipe(init_project(tmp_path, "cat.onnx").recipe).gate == Gate()


def test_the_fields_that_are_commented_out_load_too(tmp_path):
    recipe = init_project(tmp_path, "cat.onnx").recipe
    lines = recipe.read_text().splitlines()
    switched_on = [line.removeprefix("# ") if line.startswith("# ") and " = " in line else line for line in lines]
    recipe.write_text("\n".join(switched_on))
    found = load_recipe(recipe)
    assert (found.licence, found.schemes[0], found.labels) == ("Apache-2.0", "full_integer", tmp_path / "labels.txt")


def test_the_keys_it_names_are_there(tmp_path):
    found = load_recipe(init_project(tmp_path, "cat.onnx").recipe)
    assert load_signing_key(Path(found.signing_key)) is not None
    assert [load_recipient(path) is not None for path in found.recipients] == [True]


def test_the_device_file_describes_a_device(tmp_path):
    device = Device.from_file(init_project(tmp_path, "cat.onnx").device)
    assert device.profile == "raspberry-pi-4"


def test_the_device_keeps_its_floors_beside_its_file_once_it_was_told_to(tmp_path):
    state = Device.from_file(init_project(tmp_path, "cat.onnx").device).state
    with pytest.raises(StateError, match=r"keys/state: this device has no state yet") as caught:
        state.read()
    assert "edgepack-device state create" in caught.value.hint
    state.create()
    assert state.read().floors == ()


def test_private_keys_are_kept_out_of_a_repository(tmp_path):
    init_project(tmp_path, "cat.onnx")
    assert {"*.key.pem", "state/"} <= set((tmp_path / "keys" / ".gitignore").read_text().splitlines())


@pytest.mark.parametrize("size", [100, 230, 700])
def test_on_a_full_disk_nothing_of_a_project_is_left(tmp_path, size):
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom edgepack.project import init_project\n"
        "from edgepack_runtime.errors import FileError\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        f"try:\n    init_project(Path({str(tmp_path)!r}), 'cat.onnx')\n"
        "except FileError as error:\n    print(error)\nelse:\n    sys.exit('it was written')\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, "File too large" in done.stdout) == (0, True), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["my model.onnx", 'odd"quote\\back.onnx', "{model}.onnx", "_x.tflite", "猫.keras"])
def test_any_printable_file_name_gives_a_recipe_that_loads(tmp_path, model):
    assert load_recipe(init_project(tmp_path, model).recipe).model == tmp_path / model


@pytest.mark.parametrize("model", ["a\nb.onnx", "\udcff.onnx", "\x7f.onnx"])
def test_a_file_name_that_cannot_stand_in_a_recipe_is_refused(tmp_path, model):
    with pytest.raises(RecipeError, match=r"cannot stand in edgepack.toml"):
        init_project(tmp_path, model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["edgepack.toml", "keys"])
def test_nothing_that_exists_is_touched(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileError, match=rf"{name} exists and is not overwritten") as caught:
        init_project(tmp_path, "cat.onnx")
    assert contents(tmp_path) == {name: b"mine"}
    assert "name an empty folder" in caught.value.hint


def test_a_project_is_not_started_twice(tmp_path):
    init_project(tmp_path, "cat.onnx")
    before = contents(tmp_path)
    with pytest.raises(FileError, match=r"edgepack.toml exists"):
        init_project(tmp_path, "dog.onnx")
    assert contents(tmp_path) == before


def test_no_recipe_stays_where_its_keys_cannot_have_their_name(tmp_path):
    # A link into nowhere: nothing is there, and no folder can have the name.
    (tmp_path / "keys").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileError, match=r"cannot write .*keys"):
        init_project(tmp_path, "cat.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match=r"cannot make folder .*file"):
        init_project(tmp_path / "file", "cat.onnx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match=r"Permission denied"):
        init_project(tmp_path / "new", "cat.onnx")
