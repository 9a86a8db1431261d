"""The shipped probe models are what their tool makes, and what their names say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.probe_models import packed

import edgepack_runtime
from edgepack.flatbuffer import read_model
from edgepack.opversions import required_versions
from edgepack.schemes import scheme_of
from edgepack_runtime.probing import probe_models

FILE = Path(edgepack_runtime.__file__).with_name("probe_models.bin")
MODELS = list(probe_models())
every_model = pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])


def test_the_shipped_file_is_what_the_tool_makes():
    assert FILE.read_bytes() == packed()


def test_it_is_small():
    assert FILE.stat().st_size < 4000


@every_model
def test_a_model_is_of_the_scheme_it_is_named_for(model):
    named = model.name.split("/")[0]
    assert scheme_of(model.model) == (f"dynamic_{named}" if named in ("int4", "int2") else named)


@every_model
def test_a_model_states_the_versions_it_needs_unless_its_name_says_otherwise(model):
    view = read_model(model.model)
    stated = tuple(code.version for code in view.opcodes)
    assert (stated == required_versions(view)) == ("unstamped" not in model.name)
