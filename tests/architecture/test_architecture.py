"""The two packages keep the rules of the house; `test_houserules.py` shows that each rule can fail."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import houseplan
import houserules
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def modules() -> list[houserules.Module]:
    host = houserules.modules_under(ROOT / "sdk", houseplan.HOST)
    return host + houserules.modules_under(ROOT / "runtime", houseplan.DEVICE)


@pytest.mark.parametrize("rule", houserules.RULES, ids=lambda rule: rule.__name__)
def test_the_packages_keep_the_rule(modules, rule):
    assert rule(modules) == []


def test_the_core_modules_exist(modules):
    assert set(houseplan.CORE) <= {module.name for module in modules}


@pytest.mark.parametrize("package", houseplan.PLUGIN_PACKAGES)
def test_a_plugin_package_has_plugins(modules, package):
    plugins = [m.name for m in modules if m.name.startswith(f"{package}.") and not m.is_private]
    assert len(plugins) >= 2


def _loaded_by(code: str) -> set[str]:
    """Return the top-level modules a fresh interpreter has loaded after `code`."""
    paths = [str(ROOT / "sdk"), str(ROOT / "runtime")]
    script = (
        f"import sys; sys.path[:0] = {paths!r}\n{code}\n"
        "import json; print('\\n' + json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", [houseplan.HOST, houseplan.DEVICE])
def test_importing_a_package_loads_nothing_heavy(package):
    loaded = _loaded_by(f"import {package}")
    assert loaded & {"numpy", "cryptography", "rich", "typer", "tensorflow", "ai_edge_litert"} == set()


def test_loading_a_profile_needs_neither_numpy_nor_cryptography():
    loaded = _loaded_by("import edgepack; edgepack.load_profile('raspberry-pi-4')")
    assert loaded & {"numpy", "cryptography"} == set()


def test_the_host_commands_help_loads_no_numpy_and_no_cryptography():
    loaded = _loaded_by(
        "import edgepack.cli\nsys.argv = ['edgepack', '--help']\n"
        "try:\n    edgepack.cli.main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert loaded & {"numpy", "cryptography", "ai_edge_litert"} == set()


def test_the_device_commands_help_loads_no_numpy_and_no_cryptography():
    loaded = _loaded_by(
        "import edgepack_runtime.cli\n"
        "try:\n    edgepack_runtime.cli.main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert loaded & {"numpy", "cryptography"} == set()


@pytest.mark.parametrize("package", [houseplan.HOST, houseplan.DEVICE])
def test_every_public_name_of_a_package_can_be_had(package):
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if getattr(module, name).__name__ != name] == []
