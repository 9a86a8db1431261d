"""Faults injected on purpose: a rule that cannot fail protects nothing."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import houserules as rules
import pytest
from houserules import Module

TIERS = {
    "edgepack_runtime": (frozenset({"", "errors"}), frozenset({"tensors", "_fields"}), frozenset({"session"})),
    "edgepack": (frozenset({"", "errors"}), frozenset({"model"}), frozenset({"builder"})),
}


def module(name: str, text: str) -> Module:
    return Module(name, textwrap.dedent(text))


def every_module() -> list[Module]:
    """Return an empty module for each name in TIERS."""
    names = [f"{p}.{n}".rstrip(".") for p in TIERS for tier in TIERS[p] for n in tier]
    return [Module(name, "") for name in names]


def with_fault(name: str, text: str) -> list[Module]:
    """Return the modules of TIERS, one of them with a fault."""
    return [module(name, text) if m.name == name else m for m in every_module()]


def downward(name: str, text: str) -> list[str]:
    return rules.tiers_point_down(with_fault(name, text), TIERS)


# Imports point down


def test_an_import_of_a_lower_tier_is_fine():
    assert downward("edgepack.builder", "from edgepack.model import X\nfrom edgepack_runtime.session import Y") == []


def test_an_import_of_a_higher_tier_is_caught():
    assert downward("edgepack.model", "from edgepack.builder import build") == [
        "edgepack.model:1: tier 4 imports edgepack.builder of tier 5"
    ]


def test_an_import_of_the_same_tier_is_caught():
    assert downward("edgepack_runtime.tensors", "from edgepack_runtime._fields import Fields") != []


def test_an_import_of_oneself_is_caught():
    assert downward("edgepack.model", "import edgepack.model") != []


def test_an_upward_import_of_a_submodule_from_its_package_is_caught():
    assert downward("edgepack.model", "from edgepack import builder") != []


def test_an_upward_import_in_a_function_is_caught():
    assert downward("edgepack.model", "def f():\n    from edgepack.builder import build") != []


def test_an_upward_import_in_a_method_of_a_class_in_a_try_block_is_caught():
    text = """
    try:
        class A:
            def f(self):
                import edgepack.builder
    except ImportError:
        pass
    """
    assert downward("edgepack.model", text) != []


def test_an_upward_import_by_name_is_caught():
    assert downward("edgepack.model", "import importlib\nimportlib.import_module('edgepack.builder')") != []


def test_an_upward_import_in_a_default_value_is_caught():
    text = "import importlib\ndef f(x=importlib.import_module('edgepack.builder')): pass"
    assert downward("edgepack.model", text) != []


def test_an_upward_import_under_an_alias_is_caught():
    assert downward("edgepack.model", "import edgepack.builder as harmless") != []


def test_an_upward_import_for_the_type_checker_is_fine():
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from edgepack.builder import build"
    assert downward("edgepack.model", text) == []


def test_an_upward_import_in_the_else_of_type_checking_is_caught():
    text = "if typing.TYPE_CHECKING:\n    pass\nelse:\n    from edgepack.builder import build"
    assert downward("edgepack.model", text) != []


def test_an_upward_import_under_another_condition_is_caught():
    assert downward("edgepack.model", "if sys.version_info:\n    from edgepack.builder import build") != []


def test_the_device_importing_the_host_is_an_import_upwards():
    assert downward("edgepack_runtime.session", "import edgepack.errors") != []


# The table


def test_a_complete_table_is_fine():
    assert rules.table_is_complete(every_module(), TIERS) == []


def test_a_module_without_a_tier_is_caught():
    found = rules.table_is_complete([*every_module(), Module("edgepack.extra", "")], TIERS)
    assert found == ["edgepack.extra exists and has no tier"]


def test_a_tier_without_its_module_is_caught():
    left = [m for m in every_module() if m.name != "edgepack.model"]
    assert rules.table_is_complete(left, TIERS) == ["edgepack.model has a tier and does not exist"]


def test_a_module_with_two_tiers_is_caught():
    tiers = TIERS | {"edgepack": (*TIERS["edgepack"], frozenset({"model"}))}
    assert rules.table_is_complete(every_module(), tiers) == ["edgepack.model has 2 tiers"]


def test_a_module_in_a_folder_is_found(tmp_path: Path):
    for name in ("edgepack/__init__.py", "edgepack/cli/__init__.py", "edgepack/cli/app.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [m.name for m in rules.modules_under(tmp_path, "edgepack")] == [
        "edgepack", "edgepack.cli", "edgepack.cli.app",
    ]  # fmt: skip


def test_an_import_of_a_module_that_is_not_there_is_caught():
    found = rules.our_imports_exist(with_fault("edgepack.builder", "def f():\n    from edgepack.modell import X"))
    assert found == ["edgepack.builder:2: imports edgepack.modell, which does not exist"]


def test_a_relative_import_is_caught():
    assert rules.relative_imports([module("edgepack.model", "from . import errors")]) != []


# The device package


@pytest.mark.parametrize(
    "text",
    [
        "import edgepack",
        "def f():\n    from edgepack.model import X",
        "if TYPE_CHECKING:\n    from edgepack.model import X",
        "def f():\n    import tensorflow as tf",
        "import importlib\ndef f():\n    importlib.import_module('torch')",
        "def f():\n    from tflite_runtime.interpreter import Interpreter",
        "import tomllib",
        "import typer",
    ],
)
def test_a_foreign_import_on_the_device_is_caught(text: str):
    assert rules.device_stands_alone([module("edgepack_runtime.session", text)]) != []


@pytest.mark.parametrize("text", ["import os, numpy as np", "from cryptography.hazmat import x"])
def test_what_the_device_package_depends_on_is_fine(text: str):
    assert rules.device_stands_alone([module("edgepack_runtime.session", text)]) == []


def test_an_engine_plugin_may_import_its_engine_in_a_function():
    text = "def load():\n    from tflite_runtime.interpreter import Interpreter"
    assert rules.device_stands_alone([module("edgepack_runtime.engines.tflite_runtime", text)]) == []


def test_an_engine_imported_at_the_top_of_its_plugin_is_caught():
    text = "import tflite_runtime"
    assert rules.device_stands_alone([module("edgepack_runtime.engines.tflite_runtime", text)]) != []


# Heavy frameworks


@pytest.mark.parametrize(
    "name",
    ["tensorflow", "keras", "tf_keras", "onnx", "onnxruntime", "onnx2tf", "torch", "ai_edge_quantizer",
     "ai_edge_litert.interpreter", "tflite_runtime", "flatbuffers", "h5py", "rich"],
)  # fmt: skip
def test_a_heavy_import_at_the_top_is_caught(name: str):
    assert rules.heavy_imports_are_inside_functions([module("edgepack.model", f"import {name}")]) != []


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import tensorflow\nexcept ImportError:\n    tensorflow = None",
        "class A:\n    import tensorflow",
        "from importlib import import_module\ntf = import_module('tensorflow')",
        "if True:\n    from tensorflow import keras",
    ],
)
def test_a_heavy_import_at_the_top_in_disguise_is_caught(text: str):
    assert rules.heavy_imports_are_inside_functions([module("edgepack.model", text)]) != []


def test_a_heavy_import_in_a_function_is_fine():
    text = "def f():\n    import tensorflow\nif TYPE_CHECKING:\n    import torch\nimport numpy"
    assert rules.heavy_imports_are_inside_functions([module("edgepack.model", text)]) == []


def test_the_terminal_libraries_are_fine_in_the_cli():
    assert rules.heavy_imports_are_inside_functions([module("edgepack.cli.app", "import typer, rich")]) == []


# The core


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import os",
        "from pathlib import Path",
        "from os import environ",
        "def f():\n    import random",
        "from datetime import datetime",
        "import socket",
        "def f():\n    return open('x')",
        "print('x')",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.random.default_rng()",
        "def f(a):\n    a.tofile('x')",
    ],
)
def test_io_or_a_clock_in_the_core_is_caught(text: str):
    assert rules.core_is_pure([module("edgepack_runtime.verify", text)]) != []


def test_a_salt_in_the_writing_half_is_fine():
    text = "import os\ndef encrypt():\n    return os.urandom(24)"
    assert rules.core_is_pure([module("edgepack_runtime.encryption", text)]) == []


@pytest.mark.parametrize("text", ["import os\nos.environ", "import os\nos.open('x', 0)", "from os import environ"])
def test_anything_else_from_os_in_the_writing_half_is_caught(text: str):
    assert rules.core_is_pure([module("edgepack_runtime.encryption", text)]) != []


def test_io_outside_the_core_is_fine():
    assert rules.core_is_pure([module("edgepack_runtime.session", "import os, time\nopen('x')")]) == []


# The rest


def test_a_file_of_four_hundred_and_one_lines_is_caught():
    long = Module("edgepack.model", "x = 1\n" * 401)
    assert rules.files_are_short([long, Module("edgepack.errors", "x = 1\n" * 400)]) == ["edgepack.model: 401 lines"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("edgepack.passes.float16", "def run():\n    from edgepack.passes.float32 import run"),
        ("edgepack.passes.float16", "from edgepack.passes import float32"),
        ("edgepack.passes", "from edgepack.passes.float32 import run"),
        ("edgepack.builder", "import importlib\nimportlib.import_module('edgepack.passes.float32')"),
        ("edgepack.builder", "if TYPE_CHECKING:\n    from edgepack.passes.float32 import Options"),
    ],
)
def test_knowing_a_plugin_by_name_is_caught(name: str, text: str):
    others = [Module(n, "") for n in ("edgepack.passes", "edgepack.passes.float32") if n != name]
    assert rules.plugins_are_strangers([module(name, text), *others]) != []


def test_a_plugin_using_the_private_helpers_of_its_package_is_fine():
    text = "from edgepack.passes._quantizer import quantize"
    helper = Module("edgepack.passes._quantizer", "")
    assert rules.plugins_are_strangers([module("edgepack.passes.float16", text), helper]) == []


def test_a_public_module_without_all_is_caught():
    assert rules.public_modules_have_all([module("edgepack.model", "def f(): pass")]) == [
        "edgepack.model: no __all__"
    ]


def test_an_all_that_names_what_is_not_there_is_caught():
    assert rules.public_modules_have_all([module("edgepack.model", "__all__ = ['f', 'g']\ndef f(): pass")]) == [
        "edgepack.model: __all__ names g, which it does not have"
    ]


def test_a_private_module_needs_no_all():
    assert rules.public_modules_have_all([module("edgepack._wire", "def f(): pass")]) == []


ERRORS = module(
    "edgepack.errors", "class EdgepackError(Exception): pass\nclass HostError(EdgepackError): pass\n"
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f(): pass", "f has no docstring"),
        ("class A:\n    def f(self): pass", "A.f has no docstring"),
        ("def f():\n    '''Do.'''\n    raise HostError('x')", "f raises HostError"),
        (
            "def f():\n    '''Do.\n\n    Raises:\n        KeyError: never.\n    '''\n    raise HostError",
            "f raises Host",
        ),
        ("def f():\n    '''Raise HostError: no.'''\n    raise HostError('x')", "f raises HostError"),
        (
            "def f():\n    '''Do.'''\n    for x in y:\n        if x:\n            raise m.HostError('x')",
            "f raises Host",
        ),
        ("class A:\n    '''It.'''\n    def __post_init__(self):\n        raise HostError('x')", "raises HostError"),
    ],
)
def test_an_incomplete_docstring_is_caught(text: str, complaint: str):
    found = rules.public_functions_say_what_they_raise([ERRORS, module("edgepack.model", text)])
    assert len(found) == 1
    assert re.search(complaint, found[0])


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    '''Do.\n\n    Raises:\n        HostError: it is wrong.\n    '''\n    raise HostError('x')",
        "def f():\n    '''Do.\n\n    Raises:\n        EdgepackError: it is wrong.\n    '''\n    raise HostError('x')",
        "def f():\n    '''Do.\n\n    Raises:\n        OSError: it.\n    '''\n    raise FileNotFoundError('x')",
        "def _f():\n    raise HostError('x')",
        "def f():\n    '''Do.'''\n    def g():\n        raise HostError('x')",
        "def f():\n    '''Do.'''\n    try:\n        g()\n    except E:\n        raise",
        "class A:\n    '''It.\n\n    Raises:\n        HostError: no.\n    '''\n    def __init__(self):\n        raise HostError()",  # noqa: E501
    ],
)
def test_a_complete_docstring_is_fine(text: str):
    assert rules.public_functions_say_what_they_raise([ERRORS, module("edgepack.model", text)]) == []


def test_every_rule_has_a_fault_in_this_file():
    text = Path(__file__).read_text("utf-8")
    assert [rule.__name__ for rule in rules.RULES if text.count(f"rules.{rule.__name__}(") == 0] == []
