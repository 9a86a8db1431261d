"""Keras files whose description of the layers leads to code: refused by reading it, without Keras."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgepack.converters._keras_config import refuse_code
from edgepack.errors import ConversionError


def keras_file(folder: Path, *layers: dict[str, Any]) -> Path:
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": list(layers)}}))
    return path


def called(module: str | None, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


def operator(name: str) -> dict[str, Any]:
    return {"class_name": "TensorFlowOpLayer", "config": {"name": "trap", "node_def": {"name": "n", "op": name}}}


REFUSED = {
    "a function of Keras's tools by its dotted name": (called("keras", "utils.get_file"), "custom kind"),
    "a setting by its dotted name": (called("keras", "config.enable_unsafe_deserialization"), "custom kind"),
    "a dotted Lambda": ({"module": "keras", "class_name": "layers.Lambda", "config": {"name": "t"}}, "is a Lambda"),
    "a dotted TFSMLayer": (
        {"module": "keras", "class_name": "layers.TFSMLayer", "config": {"name": "t"}},
        "is a TFSMLayer: it loads another program",
    ),
    "an operator that reads files": (operator("ReadFile"), r"'trap' is the operator ReadFile, which reads or writes"),
    "an operator that calls Python": (operator("PyFunc"), r"'trap' is the operator PyFunc, which calls Python"),
    "an operator that may print into a file": (operator("PrintV2"), r"'trap' is the operator PrintV2, which prints"),
    "an operator in bytes": (
        {"class_name": "TensorFlowOpLayer", "config": {"name": "trap", "node_def": "\n\x01n\x12\x08ReadFile"}},
        "'trap' is an operator that is not described as Keras does",
    ),
    "a function of a class": (
        {"class_name": "ClassMethod", "config": {"name": "trap", "cls_symbol": "io.TFRecordWriter"}},
        "'trap' calls a function of a class",
    ),
    "a member that other layers hide": (
        {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"activation": called("keras", "utils.get_file")},
        },
        "custom kind",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_leads_to_code_is_refused_by_name(tmp_path: Path, what: str) -> None:
    layer, said = REFUSED[what]
    with pytest.raises(ConversionError, match=said) as caught:
        refuse_code(keras_file(tmp_path, layer))
    assert caught.value.hint


TAKEN = {
    "a layer": {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "activation": "relu"}},
    "a function of Keras": called("keras.activations", "gelu"),
    "a function of Keras by its dotted name": called("keras", "activations.gelu"),
    "an operator that computes": operator("AddV2"),
    "a ragged tensor": {"class_name": "ClassMethod", "config": {"name": "r", "cls_symbol": "RaggedTensor"}},
    "a layer of Keras 2": {"class_name": "Dense", "config": {"name": "d"}},
}


@pytest.mark.parametrize("layer", TAKEN.values(), ids=TAKEN)
def test_what_computes_is_taken(tmp_path: Path, layer: dict[str, Any]) -> None:
    assert refuse_code(keras_file(tmp_path, layer)) == ()


def test_what_is_trusted_is_told(tmp_path: Path) -> None:
    (said,) = refuse_code(keras_file(tmp_path, operator("ReadFile")), trusted=True)
    assert said.startswith("--trust-source let this run: layer 'trap' is the operator ReadFile")
