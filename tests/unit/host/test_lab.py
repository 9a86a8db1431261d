"""Replays, in this process, on models made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from handmade import doubling

from edgepack.lab import LabRequest, replay
from edgepack_runtime.errors import EngineError


def test_a_scalar_input_stays_one():
    feeds = {"x": np.array([1.5, 2.0, -3.0], np.float32)}
    request = LabRequest(model=doubling([]), engine="ai-edge-litert", num_threads=1, feeds=feeds)
    assert replay(request).outputs["y"].tolist() == [3.0, 4.0, -6.0]


def test_an_environment_with_another_version_than_its_name_says_proves_nothing():
    request = LabRequest(
        model=doubling([1]),
        engine="ai-edge-litert",
        version="1.4.0",
        num_threads=1,
        feeds={"x": np.ones((1, 1), "f4")},
    )
    with pytest.raises(EngineError, match=r"has ai-edge-litert [\d.]+, 1\.4\.0 was asked for"):
        replay(request)
