"""Files of stock quantizers, with versions as they left them: what they need is told from what they hold."""

from __future__ import annotations

import pytest
from tools.prediction_matrix.models import read_archive

from edgepack.flatbuffer import read_model
from edgepack.opversions import stamp


@pytest.fixture(scope="module")
def stock() -> dict[str, bytes]:
    return read_archive()


def versions(model: bytes) -> dict[str, int]:
    return {code.name: code.version for code in read_model(model).opcodes}


@pytest.mark.parametrize(
    ("name", "operator", "version"),
    [
        ("mlp.dynamic8", "FULLY_CONNECTED", 12),
        ("mlp.dynamic4", "FULLY_CONNECTED", 12),
        ("mlp.dynamic4_block32", "FULLY_CONNECTED", 14),
        ("mlp.dynamic2", "FULLY_CONNECTED", 14),
        ("mlp.weights4", "DEQUANTIZE", 6),
        ("mlp.weights8", "DEQUANTIZE", 5),
        ("mlp.static16", "FULLY_CONNECTED", 7),
        ("conv.dynamic8", "CONV_2D", 5),
        ("conv.dynamic8", "DEPTHWISE_CONV_2D", 6),
        ("conv.dynamic4", "CONV_2D", 8),
        ("conv.static8", "CONV_2D", 3),
        ("embedding.dynamic4", "FULLY_CONNECTED", 12),
        ("ratio.static8", "SQRT", 2),
    ],
)
def test_a_stock_quantizers_file_gets_the_version_it_needs(
    stock: dict[str, bytes], name: str, operator: str, version: int
) -> None:
    assert (versions(stock[name])[operator], versions(stamp(stock[name]))[operator]) == (1, version)


@pytest.mark.parametrize("name", ["mlp.tf_int8", "mlp.tf_float16", "conv.tf_dynamic", "attention.tf_int8"])
def test_tensorflows_own_versions_are_kept(stock: dict[str, bytes], name: str) -> None:
    assert versions(stamp(stock[name])) == versions(stock[name])


def test_the_runtime_that_tensorflow_leaves_blank_for_int8_is_written(stock: dict[str, bytes]) -> None:
    before, after = (read_model(m).min_runtime_version for m in (stock["mlp.tf_int8"], stamp(stock["mlp.tf_int8"])))
    assert (before, after) == ("", "1.14.0")
