"""What is said when no road leads from a source to TFLite: each reason once."""

from __future__ import annotations

from edgepack.conversion import _reasons
from edgepack.errors import ConversionError
from edgepack.roads import routes

BEHIND_ONE_EXPORTER = routes("torchscript")


def test_an_exporters_refusal_is_said_once_for_all_routes_that_begin_with_it() -> None:
    first, second, third = BEHIND_ONE_EXPORTER
    refused = ConversionError("torch cannot export it")
    said = [(first, refused), (second, refused), (third, ConversionError("litert-torch cannot lower it"))]
    assert _reasons(said) == [
        "torch-onnx -> onnx2tf, torch-onnx -> onnx-tf: torch cannot export it",
        "litert-torch: litert-torch cannot lower it",
    ]


def test_reasons_keep_the_order_they_were_met_in() -> None:
    said = [(route, ConversionError(str(i % 2))) for i, route in enumerate(BEHIND_ONE_EXPORTER)]
    assert [reason[-1] for reason in _reasons(said)] == ["0", "1"]
