"""The shipped operator tables are what the engines themselves say."""

from __future__ import annotations

import importlib.resources
import json

from edgepack.flatbuffer import operator_name
from edgepack_runtime.op_table import operator_table


def test_the_shipped_operator_table_is_what_the_installed_engine_says_of_itself():
    found = operator_table("ai-edge-litert")
    shipped = importlib.resources.files("edgepack").joinpath("data", "runtime_ops", "ai-edge-litert-2.3.0.json")
    wanted = {name: version for name, version in json.loads(shipped.read_text("utf-8")).items() if version}
    assert {operator_name(code): version for code, version in enumerate(found) if version} == wanted
