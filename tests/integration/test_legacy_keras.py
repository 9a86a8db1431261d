"""A Keras 2 file that Keras 3 cannot load: tf_keras does, and the notes say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_converters import check, interface, made_by, noise

pytestmark = pytest.mark.slow


def test_a_layer_that_keras_3_lacks_is_loaded_by_keras_2(tmp_path: Path) -> None:
    conversion = check(
        made_by("make_legacy_keras.py", "tensorflow", tmp_path) / "legacy.h5", {"image": noise(8, 12, 12, 3)}
    )
    assert interface(conversion) == (["image: float32[1, 12, 12, 3]"], ["scores: float32[1, 3]"])
    assert "tf_keras 2." in conversion.tool
    assert conversion.notes[0].startswith(
        "Keras 3 cannot load the model: ValueError: Unknown layer: 'ThresholdedReLU'"
    )
